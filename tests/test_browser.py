"""What people look at, in Chromium with the network cut off: the report and DVC's plots."""

import html
from pathlib import Path
from typing import Any

import pytest

from stages.report import palette
from tests.browser import Browser
from tests.project import REPOSITORY, Clone, check, read_yaml, run
from tests.test_report import FIGURES, SECTIONS, make_page, write_run

pytestmark = pytest.mark.system

SIZES = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
# What is wrong with the lines of text: one sticks out of its box, another is beyond the window (but
# for what can be scrolled), two overlap.
TEXT_TROUBLES = r"""(() => {
  const lines = [], troubles = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, title")) continue;
    if (!element.checkVisibility()) continue;
    const box = element.closest("td, th, p, h1, h2, h3, figcaption") || element;
    const outer = box.getBoundingClientRect();
    const clip = element.closest(".scroll")?.getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(node);
    const words = node.data.trim().split(/[\s-]+/);
    if (new Set([...range.getClientRects()].map(r => r.top)).size > words.length
        && words.every(word => word.length < 10))
      troubles.push("torn apart: " + node.data.trim());
    for (const r of range.getClientRects()) {
      if (clip && (r.top > clip.bottom || r.bottom < clip.top)) continue;
      if (r.left < outer.left - 1 || r.right > outer.right + 1)
        troubles.push("sticks out: " + node.data.trim());
      if (!element.closest(".scroll") && r.right > innerWidth + 1)
        troubles.push("beyond the window: " + node.data.trim());
      lines.push([r.top, r.bottom, r.left, r.right, node]);
    }
  }
  lines.sort((a, b) => a[0] - b[0]);
  for (let i = 0; i < lines.length; i++)
    for (let j = i + 1; j < lines.length && lines[j][0] < lines[i][1] - 3; j++)
      if (lines[i][4] !== lines[j][4]
          && lines[i][2] < lines[j][3] - 2 && lines[j][2] < lines[i][3] - 2)
        troubles.push("overlap: " + lines[i][4].data + " / " + lines[j][4].data);
  if (document.documentElement.scrollWidth > innerWidth) troubles.push("the page is too wide");
  return troubles;
})()"""
# What sticks out of its section, but for what can be scrolled.
STICKING_OUT = """[...document.querySelectorAll("section *")].filter(e => {
  const box = e.getBoundingClientRect(), section = e.closest("section").getBoundingClientRect();
  return !e.closest(".scroll, svg *") && e.checkVisibility() &&
    (box.right > section.right || box.left < section.left);
}).map(e => e.outerHTML.slice(0, 80))"""
IMAGES = """[...document.images].map(i =>
  [i.complete && i.naturalWidth > 0, i.width, i.height, i.alt.length, i.hasAttribute("width")])"""
DRAWINGS = """[...document.querySelectorAll("svg")].map(s =>
  [s.getBoundingClientRect().width, s.getBoundingClientRect().height,
   s.getAttribute("aria-label").length])"""
# The CSS pixels of the smallest text of each figure: 10 points, if it is not shrunk.
TEXT_SIZES = """[...document.querySelectorAll("svg")].map(s =>
  10 * Math.min(s.getBoundingClientRect().width / s.viewBox.baseVal.width, 1))"""
TITLES = """[...document.querySelectorAll("section > h2")].map(h => h.innerText)"""
GROUND = "getComputedStyle(document.body).backgroundColor"


RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "markup": {"names": ["<script>alert(1)</script>", "A&B", "$x^$", "\"'</svg>"]},
    "odd names": {"names": ["x" * 300, "two\nlines", "", "\N{BLACK STAR}"]},
    "2 classes": {"names": ["yes", "no"]},
    "47 classes": {"names": [f"class {i}" for i in range(47)], "count": 4700},
    "no mistakes": {"wrong": 0.0},
    "all wrong": {"wrong": 1.0},
    "one epoch": {"losses": [0.5]},
    "a NaN": {"losses": [0.5, float("nan"), 0.4]},
}


@pytest.mark.parametrize("run_as", RUNS)
def test_the_report_is_whole_and_readable_in_every_window(
    browser: Browser, tmp_path: Path, run_as: str
) -> None:
    write_run(tmp_path, **RUNS[run_as])
    make_page(tmp_path)
    grounds = []
    for width, scheme in SIZES:
        browser.open(tmp_path / "report.html", width, scheme)
        browser.screenshot(tmp_path / f"{width}-{scheme}.png")
        browser.assert_offline()
        assert browser.run(TITLES) == list(SECTIONS)
        assert browser.run(TEXT_TROUBLES) == []
        for loaded, across, down, said, sized in browser.run(IMAGES):
            assert loaded and sized and across > 1 and down > 1 and said > 10
        drawings = browser.run(DRAWINGS)
        assert len(drawings) == len(FIGURES)
        assert all(across > 130 and down > 130 and said > 40 for across, down, said in drawings)
        assert min(browser.run(TEXT_SIZES)) >= 10
        grounds.append(browser.run(GROUND))
    assert grounds[0] == grounds[2] != grounds[1] == grounds[3], "light and dark differ"


def test_nothing_sticks_out_of_its_section_however_wide_the_window(
    browser: Browser, tmp_path: Path
) -> None:
    write_run(tmp_path)
    make_page(tmp_path)
    browser.open(tmp_path / "report.html")
    for width in range(320, 1300, 35):
        browser.page.set_viewport_size({"width": width, "height": 900})
        assert browser.run(STICKING_OUT) == [], f"{width} pixels wide"


def test_the_report_prints_by_day(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path)
    make_page(tmp_path)
    browser.open(tmp_path / "report.html", 794, "dark")
    browser.page.emulate_media(media="print")
    assert browser.run("getComputedStyle(document.body).color") == "rgb(27, 30, 35)"
    assert browser.page.pdf().startswith(b"%PDF")


def test_the_confusion_matrix_turns_into_shares(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path)
    make_page(tmp_path)
    browser.open(tmp_path / "report.html", 390)
    shown = "[...document.querySelectorAll('.counts, .shares')].map(e => e.checkVisibility())"
    assert browser.run(shown) == [True, False]
    browser.page.get_by_label("% of the true class").check()
    assert browser.run(shown) == [False, True]


def test_the_contents_stay_beside_the_sections_in_a_wide_window(
    browser: Browser, tmp_path: Path
) -> None:
    write_run(tmp_path)
    make_page(tmp_path)
    top = "document.querySelector('nav').getBoundingClientRect().top"
    for width, stays in ((1280, True), (390, False)):
        browser.open(tmp_path / "report.html", width)
        browser.page.get_by_role("link", name="Robustness").click()
        section = "document.getElementById('robustness').getBoundingClientRect()"
        assert browser.run(f"{section}.top >= 0 && {section}.top < innerHeight")
        assert (0 <= browser.run(top) < 100) == stays


def test_the_report_fills_a_wide_window(browser: Browser, tmp_path: Path) -> None:
    """The cards reach from the contents to the right edge, and no page is 9,000 pixels long."""
    write_run(tmp_path)
    make_page(tmp_path)
    browser.open(tmp_path / "report.html")
    right = "s => s.getBoundingClientRect().right"
    edges = f"[...document.querySelectorAll('section')].map({right})"
    assert max(browser.run(edges)) >= 1250
    assert browser.run("document.documentElement.scrollHeight") < 8500


DECLARED = read_yaml(REPOSITORY / "dvc.yaml")["plots"]
PLOTS = [next(iter(plot.values())) for plot in DECLARED if isinstance(plot, dict)]
PICTURES = [plot for plot in DECLARED if isinstance(plot, str)]
# Of every plot once it is drawn: its texts, and how many marks have the first two runs' colours.
DRAWN = """(async () => {
  const plots = () => [...document.querySelectorAll("svg.marks")];
  for (let i = 0; i < 100 && plots().length < COUNT; i++)
    await new Promise(resolve => setTimeout(resolve, 100));
  const has = (plot, colour) => plot.querySelectorAll(
    `.mark-symbol [fill="${colour}"], .mark-line [stroke="${colour}"]`).length;
  return plots().map(p => [[...p.querySelectorAll("text")].map(t => t.textContent),
                           has(p, "#0072b2"), has(p, "#d55e00")]);
})()""".replace("COUNT", str(len(PLOTS)))


PAGE = REPOSITORY / ".dvc/plots/page.html"
# What the page says to run when its scripts are missing: the install, and what writes them.
COMMAND = html.unescape(PAGE.read_text().partition("<pre>")[2].partition("</pre>")[0])
INSTALL, _, WRITE = COMMAND.partition(" && ")


@pytest.fixture(scope="module")
def project(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A small project that has run, with what the page says makes the plots work offline."""
    project = finished.copy(tmp_path_factory.mktemp("plots") / "project")
    (project.folder / "dvc_plots").mkdir()
    check(["sh", "-c", WRITE], project.folder)
    return project


def test_the_page_and_readme_name_one_command_of_the_locked_version() -> None:
    assert f"\n    {COMMAND}\n" in (REPOSITORY / "stages/report/README.md").read_text()
    package = INSTALL.removeprefix("pip install ")
    assert f"\n{package} \\\n" in (REPOSITORY / "requirements-test.lock").read_text()


def test_a_command_that_fails_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "dvc_plots").mkdir()
    (tmp_path / "vl_convert.py").write_text("raise ImportError('not installed')")
    assert run(["sh", "-c", WRITE], tmp_path).returncode == 1
    (tmp_path / "vl_convert.py").write_text("def javascript_bundle():\n    raise ValueError")
    assert run(["sh", "-c", WRITE], tmp_path).returncode == 1
    assert not [*(tmp_path / "dvc_plots").iterdir()]


def test_every_figure_is_shown_once() -> None:
    """The other pictures that the report draws are the same as plots."""
    titles = [plot["title"] for plot in PLOTS]
    assert len(titles) == len(set(titles)) == 6
    assert PICTURES == ["artifacts/report/mistakes.png"]


# The ground of a plot, and the colours of the texts of all.
LOOK = """(() => [
  getComputedStyle(document.querySelector("svg.marks").closest("body > div")).backgroundColor,
  [...new Set([...document.querySelectorAll("svg.marks text")].map(t => getComputedStyle(t).fill))]
    .sort()])()"""
# Which pictures stick out of their box, of the box around it, or of the window.
CUT_OFF = """[...document.images].filter(i => {
  const picture = i.getBoundingClientRect();
  return picture.width < 200 ||
    [i.parentElement, i.closest("body > div"), document.documentElement].some(e => {
      const box = e.getBoundingClientRect();
      return picture.left < box.left || picture.right > box.right + 0.5 ||
        picture.top < box.top || picture.bottom > box.bottom + 0.5;
    });
}).map(i => i.src)"""


def rgb(colours: dict[str, str]) -> list[str]:
    """Return the colours of cards and of texts as the browser has them."""
    values = [tuple(bytes.fromhex(colours[name][1:])) for name in ("card", "ink", "soft")]
    return [f"rgb{value}" for value in values]


def assert_pictures(browser: Browser, count: int) -> None:
    loaded = browser.run("[...document.images].map(i => i.complete && i.naturalWidth > 200)")
    assert loaded == [True] * count


def test_every_plot_is_drawn_offline(browser: Browser, project: Clone, tmp_path: Path) -> None:
    page = Path(project.dvc("plots", "show").strip().removeprefix("file://"))
    browser.open(page)
    drawn = browser.run(DRAWN)
    browser.screenshot(tmp_path / "plots.png")
    browser.assert_offline()
    for plot, (texts, marks, _) in zip(PLOTS, drawn, strict=True):
        assert {plot["title"], plot["x_label"], plot["y_label"]} <= set(texts)
        assert marks > 0 or plot["template"] == "confusion"
        assert plot["template"] != "curve" or {"training", "validation"} <= set(texts)
        assert not [text for text in texts if "_" in text], "names for people, not of columns"
    assert_pictures(browser, len(PICTURES))
    assert not browser.page.locator("#missing").is_visible()


def test_the_plots_follow_dark_mode(browser: Browser, project: Clone, tmp_path: Path) -> None:
    """From the start, and when it changes while they are open."""
    page = Path(project.dvc("plots", "show").strip().removeprefix("file://"))
    expected = [rgb(colours) for colours in (palette.LIGHT, palette.DARK)]
    for scheme, (ground, *inks) in zip(("light", "dark"), expected, strict=True):
        browser.open(page, scheme=scheme)
        browser.run(DRAWN)
        browser.screenshot(tmp_path / f"plots-{scheme}.png")
        assert browser.run(LOOK) == [ground, sorted(inks)]
    browser.page.emulate_media(color_scheme="light")
    by_day = ",".join(sorted(expected[0][1:]))
    browser.page.wait_for_function(f"{LOOK}[1].join() === '{by_day}'")
    browser.assert_offline()


def test_a_diff_draws_both_runs_in_every_plot(
    browser: Browser, project: Clone, tmp_path: Path
) -> None:
    project.set("train", "epochs", 3)
    project.repro()
    page = Path(project.dvc("plots", "diff", "HEAD").strip().removeprefix("file://"))
    browser.open(page)
    drawn = browser.run(DRAWN)
    browser.screenshot(tmp_path / "diff.png")
    browser.assert_offline()
    for plot, (texts, first, second) in zip(PLOTS, drawn, strict=True):
        assert {"workspace", "HEAD"} <= set(texts)
        assert (first > 0 and second > 0) or plot["template"] == "confusion"
    assert_pictures(browser, 2 * len(PICTURES))
    for width in (1280, 390):
        browser.open(page, width)
        browser.run(DRAWN)
        assert browser.run(CUT_OFF) == [], f"{width} pixels wide"
        assert browser.run("document.documentElement.scrollWidth") <= width


def test_without_the_scripts_the_plots_ask_the_cdn_or_say_what_to_do(
    browser: Browser, project: Clone
) -> None:
    """As DVC's own page asks: nothing is lost by using ours."""
    page = Path(project.dvc("plots", "show", "-o", "elsewhere").strip().removeprefix("file://"))
    browser.open(page)
    assert any(url.startswith("https://cdn.jsdelivr.net/npm/vega") for url in browser.requests)
    assert "The plots cannot be drawn" in browser.page.locator("#missing").inner_text()
    assert browser.page.locator("#missing pre").inner_text() == COMMAND
    shown = [box for box in browser.page.locator("body > div").all() if box.is_visible()]
    assert len(shown) == 1 + len(PICTURES), "no empty boxes"
    assert all("net::" in complaint for complaint in browser.complaints), "no error of ours"
