"""Debian's Chromium without a network, by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright import sync_api
from playwright.sync_api import ConsoleMessage, Page

from tests.project import THOROUGH

# No name is found and no address answers: the network is cut off.
OPTIONS = ["--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9", "--disable-quic"]


class Browser:
    """One page at a time; remembers what it asked for and what went wrong.

    Attributes:
        page: Playwright's page that is open.
        requests: the URLs that the page asked for, in order.
        complaints: uncaught exceptions, errors on the console, requests that failed, crashes.
    """

    page: Page

    def __init__(self, chromium: sync_api.Browser) -> None:
        self._chromium = chromium
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def open(self, file: Path, width: int = 1280, scheme: str = "light") -> None:
        """Show the file in a fresh window `width` CSS pixels wide, two dots a pixel."""
        for context in self._chromium.contexts:
            context.close()
        self.requests, self.complaints = [], []
        context = self._chromium.new_context(
            viewport={"width": width, "height": 900},
            device_scale_factor=2,
            is_mobile=width < 600,
            color_scheme=scheme,
        )
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("requestfailed", lambda it: self.complaints.append(f"{it.url}: {it.failure}"))
        context.on("weberror", lambda it: self.complaints.append(str(it.error)))
        context.on("console", self._note)
        self.page = context.new_page()
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("crash", lambda _: self.complaints.append("the page crashed"))
        self.page.goto(file.resolve().as_uri())

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            self.complaints.append(message.text)

    def run(self, script: str) -> Any:
        """Return what the JavaScript expression, or its promise, becomes."""
        return self.page.evaluate(script)

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the whole page, for people; only when there is time, as it takes some."""
        if THOROUGH:
            self.page.screenshot(path=path, full_page=True)

    def assert_offline(self) -> None:
        """Nothing but files was asked for, and nothing went wrong."""
        assert self.requests, "the page itself is a request"
        elsewhere = [url for url in self.requests if not url.startswith(("file:", "data:"))]
        assert not elsewhere
        assert not self.complaints


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser with a fresh profile."""
    program = shutil.which("chromium")
    assert program, "install chromium"
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=OPTIONS) as browser,
    ):
        yield Browser(browser)
