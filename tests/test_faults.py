"""What goes wrong around a run is repaired, or refused in one line; never a wrong number."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from stages.shared.command import LOCK
from tests import digits
from tests.project import REPOSITORY, THOROUGH, Clone, check, command, read_yaml, run, variables

pytestmark = pytest.mark.slow

STAGES = ("prepare", "train", "evaluate", "report")
# A user whom file permissions bind: root without its privileges.
ORDINARY = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


class Finished(Clone):
    """A small project that has run once, undisturbed."""

    def __init__(self, finished: Clone, folder: Path) -> None:
        super().__init__(finished.copy(folder).folder)
        self.expected = self.outputs(), self.lock

    def run(self, *words: str, before: tuple[str, ...] = (), **environment: str) -> Any:
        return run([*before, *words], self.folder, **self.environment, **environment)

    def stage(self, stage: str, *before: str, **environment: str) -> Any:
        """Run a stage by hand."""
        return self.run(*command(stage), before=before, **environment)

    def forget(self) -> None:
        """Go back to before the first run, but for the raw files."""
        for name in ("artifacts/checkpoints", ".dvc/cache", ".dvc/tmp", "metrics"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (*self.outputs(), "dvc.lock"):
            (self.folder / name).unlink(missing_ok=True)

    def assert_nothing_wrong(self) -> None:
        """What is there under a final name must be whole and right."""
        assert self.outputs().items() <= self.expected[0].items()
        assert not list(self.folder.glob("artifacts/*/.*.tmp"))

    def assert_repaired(self, *words: str) -> None:
        self.repro(*words)
        assert (self.outputs(), self.lock) == self.expected


@pytest.fixture(scope="module")
def project(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(finished, tmp_path_factory.mktemp("faults") / "project")


def assert_refused(done: Any, *words: str) -> None:
    """Not done, no traceback, and just one line of ours, which has the words."""
    assert done.returncode not in (0, 2), done.stdout
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed
    lines = [x for x in done.stderr.splitlines() if re.match(rf"({'|'.join(STAGES)}): ", x)]
    errors = [x for x in lines if not re.search("warning: |; trying the next source$", x)]
    assert len(errors) == 1, printed
    assert all(word in errors[0] for word in words), errors[0]
    print(errors[0])


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


# --- the disk -------------------------------------------------------------------------------


@contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """Put a disk of so many bytes where `folder` is; as root, or with sudo."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    folder.mkdir(parents=True, exist_ok=True)
    owner = f"uid={os.geteuid()},gid={os.getegid()}"
    check(
        [*root, "mount", "-t", "tmpfs", "-o", f"size={size},{owner}", "disk", str(folder)], Path()
    )
    try:
        yield
    finally:
        check([*root, "umount", "--lazy", str(folder)], Path())


@pytest.mark.parametrize(
    ("stage", "full", "words"),
    [
        ("prepare", "artifacts/prepared", "artifacts/prepared/train-images.npy cannot be written"),
        ("train", "artifacts/checkpoints", ""),
        ("train", "artifacts/model", "artifacts/model/model.keras cannot be written"),
        ("evaluate", "artifacts/evaluation", "artifacts/evaluation/probabilities.npy cannot be"),
        ("report", "artifacts/report", "artifacts/report/report.html cannot be written"),
    ],
)
def test_a_full_disk_is_named_and_leaves_nothing(
    project: Finished, stage: str, full: str, words: str
) -> None:
    with disk(project.folder / full, 4096):
        assert_refused(project.stage(stage), words, "No space left on device")
        assert not list((project.folder / full).rglob("*.npy"))
        assert not list((project.folder / full).glob(".*"))
    project.assert_nothing_wrong()
    project.assert_repaired()


def test_a_full_temporary_folder_of_the_system_stops_no_training(project: Finished) -> None:
    full = project.folder / "temporary"
    with disk(full, 4096):
        (full / "all").write_bytes(bytes(4096))
        done = project.stage("train", TMPDIR=str(full))
    shutil.rmtree(full)
    assert done.returncode == 0, done.stderr
    project.assert_nothing_wrong()
    project.assert_repaired()


FULL = [(".dvc/cache", 400), (".dvc/tmp", 0), ("site", 40)]


@pytest.mark.parametrize(
    ("full", "kilobytes"),
    product([".dvc/cache", ".dvc/tmp", "site"], [0, 40, 400]) if THOROUGH else FULL,
)
def test_a_disk_that_is_full_for_dvc_itself_costs_nothing(
    tmp_path: Path, project: Finished, full: str, kilobytes: int
) -> None:
    """DVC gives up with an error, or waits for room until Ctrl-C."""
    folder = Path(project.environment["DVC_SITE_CACHE_DIR"])
    folder = folder if full == "site" else project.folder / full
    project.forget()
    with disk(folder, 4096 + 1000 * kilobytes), (tmp_path / "log").open("w+") as log:
        dvc = subprocess.Popen(
            ["dvc", "repro"],
            cwd=project.folder,
            env=variables(project.environment),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with suppress(subprocess.TimeoutExpired):
            dvc.wait(60)
        if dvc.poll() is None:
            os.killpg(dvc.pid, signal.SIGINT)
            dvc.wait(60)
        log.seek(0)
        printed = log.read()
        print(printed[-1000:])
        assert "Traceback" not in printed
        project.assert_nothing_wrong()
        if dvc.returncode == 0:
            assert kilobytes, "there is no room at all"
            assert project.outputs() == project.expected[0], "it says that it has done everything"
    project.assert_repaired()


@pytest.mark.parametrize(
    ("stage", "folder", "file"),
    [
        ("prepare", "artifacts/prepared", "artifacts/prepared/train-images.npy"),
        ("train", "metrics", "metrics/train.json"),
        ("evaluate", "metrics", "metrics/evaluate.json"),
        ("report", "artifacts/report", "artifacts/report/report.html"),
    ],
)
def test_a_folder_without_write_permission_is_named(
    project: Finished, stage: str, folder: str, file: str
) -> None:
    (project.folder / folder).chmod(0o555)
    try:
        by_hand = project.stage(stage, *ORDINARY)
        by_dvc = project.run("dvc", "repro", "-f", "-s", stage, before=tuple(ORDINARY))
    finally:
        (project.folder / folder).chmod(0o755)
    assert_refused(by_hand, f"{file} cannot be written: Permission denied")
    assert by_dvc.returncode != 0
    assert "Traceback" not in by_dvc.stdout + by_dvc.stderr
    project.assert_nothing_wrong()
    project.git("checkout", "metrics")
    project.assert_repaired()


# --- limits ---------------------------------------------------------------------------------


def test_64_open_files_are_enough(project: Finished) -> None:
    done = project.run("dvc", "repro", "-f", before=("prlimit", "--nofile=64"))
    assert done.returncode == 0, done.stderr
    project.assert_repaired()


@pytest.mark.parametrize("stage", ["train", "evaluate"])
@pytest.mark.parametrize("gigabytes", [0.6, 1.5, 4])
def test_too_little_address_space_is_refused_before_tensorflow_breaks_off(
    project: Finished, stage: str, gigabytes: float
) -> None:
    limit = f"--as={int(gigabytes * 1e9)}"
    assert_refused(project.stage(stage, "prlimit", limit), "GB of address space", "ulimit -v")
    project.assert_nothing_wrong()


def test_data_beyond_the_memory_is_refused(project: Finished, tmp_path: Path) -> None:
    folder = digits.write(tmp_path / "digits", digits.files())
    images = folder / "train-images-idx3-ubyte"
    images.write_bytes(digits.idx(digits.make(0)[0])[:4] + (2**20).to_bytes(4, "big"))
    with images.open("ab") as file:
        file.write((32).to_bytes(4, "big") * 2)
        file.truncate(16 + 2**30)
    (tmp_path / "params.yaml").write_text(json.dumps({"prepare": project.sections["prepare"]}))
    words = ["prlimit", f"--as={9 * 10**8}", *command("prepare")]
    done = run(words, tmp_path, PYTHONPATH=str(REPOSITORY))
    assert_refused(done, "prepare: not enough memory")
    assert not (tmp_path / "artifacts/prepared").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("dense_units", [2 * 10**9]), ("filters", [[2 * 10**9]])]
)
def test_a_network_beyond_the_memory_is_refused(
    project: Finished, key: str, value: list[Any]
) -> None:
    before = project.sections["train"][key]
    project.set("train", key, value)
    done = project.stage("train")
    project.set("train", key, before)
    assert_refused(done, "train: not enough memory for an array of shape[")
    project.assert_nothing_wrong()


# --- at the same time -----------------------------------------------------------------------


def is_free(folder: Path) -> bool:
    """Whether no stage runs in the folder."""
    lock = FileLock(folder / LOCK, blocking=False)
    with suppress(Timeout), lock:
        return True
    return False


@contextmanager
def running(project: Finished, stage: str) -> Iterator[subprocess.Popen]:
    """Run everything anew in the background; begin when it is at `stage`."""
    log = project.folder.parent / "log"
    with log.open("w") as file:
        repro = subprocess.Popen(
            ["dvc", "repro", "-f"],
            cwd=project.folder,
            env=variables(project.environment | {"PYTHONUNBUFFERED": "1"}),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        while f"Running stage '{stage}'" not in log.read_text():
            assert repro.poll() is None, log.read_text()
            time.sleep(0.01)
        while is_free(project.folder):
            time.sleep(0.01)
        yield repro
        repro.wait()
        assert "Traceback" not in log.read_text()
    finally:
        with suppress(ProcessLookupError):
            repro.kill()
        repro.wait()


def test_a_second_repro_beside_the_first_is_refused(project: Finished) -> None:
    with running(project, "train") as first:
        second = project.run("dvc", "repro")
        assert second.returncode != 0
        assert "Traceback" not in second.stdout + second.stderr
        assert re.search("busy|lock", second.stderr), second.stderr
    assert first.returncode == 0
    project.assert_repaired()


@pytest.mark.parametrize("stage", STAGES if THOROUGH else ["prepare", "train"])
def test_a_stage_by_hand_during_a_repro_is_refused(project: Finished, stage: str) -> None:
    with running(project, "train") as repro:
        assert_refused(project.stage(stage), "another stage is running in this folder")
    assert repro.returncode == 0
    project.assert_repaired()


def test_a_checkout_during_a_repro_harms_nothing(project: Finished) -> None:
    with running(project, "prepare") as repro:
        while repro.poll() is None:
            done = project.run("dvc", "checkout")
            assert "Traceback" not in done.stdout + done.stderr
    project.git("checkout", "metrics")
    project.assert_repaired()


# --- damage ---------------------------------------------------------------------------------


def test_one_flipped_byte_in_any_artifact_is_found_and_repaired(project: Finished) -> None:
    for name in project.outputs():
        flip(project.folder / name)
        assert name in project.dvc("status", "--json"), f"{name} is damaged, and nobody noticed"
    project.assert_repaired()


INPUTS = [
    (stage, word)
    for stage in STAGES[1:]
    for option, word in zip(command(stage)[3::2], command(stage)[4::2], strict=True)
    if word in read_yaml(REPOSITORY / "dvc.yaml")["stages"][stage]["deps"] and option != "--lock"
]


@pytest.mark.parametrize(("stage", "name"), INPUTS)
def test_a_stage_by_hand_survives_one_flipped_byte_in_any_input(
    project: Finished, tmp_path: Path, stage: str, name: str
) -> None:
    for folder in ("artifacts", "metrics"):
        shutil.copytree(project.folder / folder, tmp_path / folder)
    for file in ("params.yaml", "requirements.lock"):
        shutil.copy(project.folder / file, tmp_path)
    flip(tmp_path / name, 24 / (tmp_path / name).stat().st_size)  # in the head of the file
    declared = read_yaml(REPOSITORY / "dvc.yaml")["stages"][stage]
    outputs = [*declared["outs"], *(next(iter(it)) for it in declared.get("metrics", []))]
    for output in outputs:
        (tmp_path / output).unlink()
    done = run(command(stage), tmp_path, PYTHONPATH=str(REPOSITORY))
    assert len(done.stderr.splitlines()) == bool(done.returncode), done.stderr
    if done.returncode:
        assert_refused(done)
    for output in outputs:
        assert (tmp_path / output).exists() != bool(done.returncode), "all of them or none"


def readme_check() -> str:
    """Return the line of stages/README.md that checks every cached object against its name."""
    text = (REPOSITORY / "stages/README.md").read_text()
    (line,) = re.findall(r"^    (.*md5sum.*)$", text, re.M)
    return str(line)


def test_the_line_in_readme_finds_a_damaged_cache_and_its_way_out_repairs_it(
    project: Finished,
) -> None:
    sh = ["bash", "-c", readme_check()]
    objects = sorted((project.folder / ".dvc/cache/files/md5").glob("*/*"))
    left = [objects[0].with_name(".x.tmp"), objects[0].with_name(f"{objects[0].name}.x.tmp")]
    for file in left:
        file.write_bytes(b"as a killed dvc pull leaves it")
    assert check(sh, project.folder) == ""
    damaged = objects[:: len(objects) // 4]
    for file in damaged:
        flip(file)
    found = run(sh, project.folder)
    assert found.returncode != 0
    names = re.findall(r"^\./(\S+): FAILED$", found.stdout, re.M)
    assert sorted(names) == [f"{file.parent.name}/{file.name}" for file in damaged]
    for file in damaged:
        file.unlink()
    for name in ("prepared", "model", "evaluation", "report"):
        shutil.rmtree(project.folder / "artifacts" / name)
    project.assert_repaired()
    assert check(sh, project.folder) == ""


def test_without_its_cache_a_project_rebuilds_everything(project: Finished) -> None:
    shutil.rmtree(project.folder / ".dvc/cache")
    project.assert_repaired()
    shutil.rmtree(project.folder / ".dvc/cache")
    for name in ("prepared", "model", "evaluation", "report"):
        shutil.rmtree(project.folder / "artifacts" / name)
    lost = project.run("dvc", "checkout")
    assert lost.returncode != 0
    assert "Traceback" not in lost.stderr
    project.assert_repaired()


@pytest.mark.parametrize("name", digits.files())
def test_a_file_cut_short_is_refused_and_the_earlier_results_are_still_there(
    project: Finished, name: str
) -> None:
    file = project.folder / "digits" / name
    before = file.read_bytes()
    file.write_bytes(before[:-1])
    done = project.run("dvc", "repro")
    file.write_bytes(before)
    assert done.returncode
    assert f"prepare: {name} announces" in done.stderr
    assert "git checkout metrics && dvc checkout" in done.stderr
    assert project.run("dvc", "checkout").returncode == 0
    project.assert_nothing_wrong()


def test_half_a_dvc_lock_is_refused_in_a_line_and_the_way_out_in_readme_repairs_it(
    project: Finished,
) -> None:
    """DVC writes the file in place: if it is killed in that moment, its beginning is left."""
    refused = 0
    for tenth in range(10):
        (project.folder / "dvc.lock").write_text(project.lock[: len(project.lock) * tenth // 10])
        done = project.run("dvc", "repro")
        if done.returncode:
            refused += 1
            assert "Traceback" not in done.stderr
            assert re.search(
                r"dvc\.lock' (validation failed|is invalid)|failed to reproduce '\w+': $",
                done.stderr,
                re.MULTILINE,
            )
            project.git("checkout", "dvc.lock")
        project.assert_repaired()
    print(f"{refused} of 10 beginnings refused")
    assert refused


@pytest.mark.parametrize("left", ["", '{"read": {"/data": [{"pid": 1', "{"])
def test_half_a_note_of_dvc_is_refused_in_a_line_and_the_way_out_in_readme_repairs_it(
    project: Finished, left: str
) -> None:
    """DVC notes in .dvc/tmp/rwlock, in place, who reads and writes which file."""
    (project.folder / ".dvc/tmp/rwlock").write_text(left)
    # Something has to be done, or DVC does not look into its note.
    (project.folder / "artifacts/prepared/class-names.json").unlink()
    done = project.run("dvc", "repro")
    assert done.returncode
    assert "Traceback" not in done.stderr
    assert (
        "Unable to read RWLock-file '.dvc/tmp/rwlock'. JSON structure is corrupted" in done.stderr
    )
    (project.folder / ".dvc/tmp/rwlock").unlink()
    project.assert_repaired()


def test_an_address_in_brackets_must_be_quoted_as_readme_says(project: Finished) -> None:
    """YAML allows it, but not the parser in C."""
    path = project.folder / "params.yaml"
    names = [*"012345678", "https://example.org"]
    prepare = project.sections["prepare"] | {"class_names": names}
    before = path.read_text()
    quoted = json.dumps(project.sections | {"prepare": prepare})
    path.write_text(quoted.replace('"https://example.org"', "https://example.org"))
    done = project.run("dvc", "repro")
    assert done.returncode
    assert "Traceback" not in done.stderr
    assert "YAML file structure is corrupted" in done.stderr
    assert "found unexpected ':'" in done.stderr
    path.write_text(quoted)
    project.repro()
    path.write_text(before)
    project.assert_repaired()


def test_temporary_files_of_a_killed_training_go_when_it_runs_again(project: Finished) -> None:
    left = project.folder / "artifacts/model/.temporary"
    left.mkdir()
    (left / "model.keras").write_text("half of it")
    project.repro("--force", "--single-item", "train")
    assert not left.exists()
    project.assert_repaired()
