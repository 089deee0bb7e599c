"""The view that verifies a revision from nothing: the right sentence and exit code each."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from stages.views import attestation
from tests.project import REPOSITORY, Clone, check, run, variables

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "stages.views.verify"]


@pytest.mark.parametrize(
    "file", sorted(REPOSITORY.glob("metrics/attestations/*.json")), ids=lambda file: file.stem
)
def test_readme_has_a_row_for_each_attestation_that_is_kept(file: Path) -> None:
    statement = attestation.read(file)
    assert statement.found["same"]
    rows = (REPOSITORY / "README.md").read_text().splitlines()
    [row] = [row for row in rows if f"({file.relative_to(REPOSITORY)})" in row]
    assert row.startswith(f"| {statement.machine['cpu']}")
    assert ", ".join(map(str, statement.machine["caches"].values())) in row


def verify(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = run([*COMMAND, *words], folder, **environment)
    assert "Traceback" not in done.stderr
    return done


def flip(file: Path, pattern: str) -> None:
    """Change the digit after the first match of a pattern."""
    text = file.read_text()
    place = re.search(pattern, text, re.DOTALL)
    assert place
    digit = "1" if text[place.end()] != "1" else "2"
    file.write_text(text[: place.end()] + digit + text[place.end() + 1 :])


def test_the_same_is_said_to_be_the_same_whatever_lies_in_the_workspace(
    finished: Clone, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    project.set("train", "epochs", 1)
    flip(project.folder / "metrics/evaluate.json", '"errors": ')
    before = project.git("status", "--porcelain")
    done = verify(project.folder)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"verify: the same: all \d+ digests and parameters of HEAD are as recorded\n", done.stdout
    )
    note, *progress = done.stderr.splitlines()
    assert note == "verify: HEAD, without the changes here that are not committed"
    assert [line.split()[-1] for line in progress] == ["prepare", "train", "evaluate", "report"]
    assert project.git("status", "--porcelain") == before


@pytest.mark.parametrize(
    ("file", "pattern", "sentence"),
    [
        (
            "dvc.lock",
            r"outs:\n    - path: artifacts/model/curve.csv\n      hash: md5\n      md5: ",
            "not the same: train: artifacts/model/curve.csv is the first to differ\n",
        ),
        (
            "metrics/evaluate.json",
            r'"loss": ',
            "not the same: metrics/evaluate.json: loss is the first to differ; metrics/evaluate",
        ),
        ("stages/train/schedule.py", "$", "not the same: train: stages/train is the first to"),
    ],
)
def test_what_differs_first_is_named(
    finished: Clone, tmp_path: Path, file: str, pattern: str, sentence: str
) -> None:
    project = finished.copy(tmp_path / "project")
    if pattern == "$":
        with (project.folder / file).open("a") as source:
            source.write("\n# edited\n")
    else:
        flip(project.folder / file, pattern)
    project.commit("untrue")
    done = verify(project.folder)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(f"verify: {sentence}")
    assert verify(project.folder, "HEAD~").returncode == 0, "the revision before is still true"


def test_how_much_differs_is_said(finished: Clone, tmp_path: Path) -> None:
    """Of a run that is recorded with other parameters than it had."""
    project = finished.copy(tmp_path / "project")
    project.set("train", "learning_rate", 1e-9)
    project.repro()
    (project.folder / "params.yaml").write_text((finished.folder / "params.yaml").read_text())
    project.commit("untrue")
    done = verify(project.folder)
    assert done.returncode == 1, done.stderr
    assert re.search(r"metrics/evaluate.json: accuracy: recorded 0\.\d+, here 0\.\d+;", done.stdout)
    assert re.search(r"; \d+ of 100 predictions differ, \d+\.00%\n", done.stdout)
    shutil.rmtree(project.folder / ".dvc/cache")
    assert "; the recorded predictions are not in the cache here" in verify(project.folder).stdout


def test_data_beside_the_repository_are_found(finished: Clone, tmp_path: Path) -> None:
    """Two folders up, too, and nothing is left there."""
    project = finished.copy(tmp_path / "outer/inner/project")
    (project.folder / "digits").rename(tmp_path / "outer/digits")
    project.set("prepare", "data", "../../digits")
    project.repro()
    project.commit("data beside the repository")
    done = verify(project.folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_project_in_a_folder_of_a_repository_can_be_verified(
    finished: Clone, tmp_path: Path
) -> None:
    project = finished.copy_into_a_repository(tmp_path)
    done = verify(project.folder, "--attest", "a.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert verify(project.folder, "--check", "a.json").returncode == 0


def test_what_cannot_be_verified_is_said_in_a_line(finished: Clone, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    (project.folder / "stages/train/schedule.py").write_text("x(")
    project.commit("broken")
    done = verify(project.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "verify: it does not run: SyntaxError: '(' was never closed\n" in done.stderr
    assert "unknown Git revision 'nowhere'" in verify(project.folder, "nowhere").stderr
    for file in ("stages", "/proc/attestation.json"):
        done = verify(project.folder, "--attest", file)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(
            r"^verify: (stages is a folder|/proc/att\S+ cannot be written)", done.stderr
        )
    shutil.rmtree(project.folder / ".git")
    done = verify(project.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_without_the_internet_and_the_data_it_says_what_is_missing(
    finished: Clone, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    project.set("prepare", "data", "stages/prepare/mnist.json")
    project.commit("MNIST")
    offline = dict.fromkeys(
        ("http_proxy", "https_proxy", "npm_config_registry"), "http://127.0.0.1:9"
    )
    done = verify(project.folder, XDG_CACHE_HOME=str(tmp_path / "cache"), **offline)
    assert (done.returncode, done.stdout) == (2, "")
    assert "verify: it does not run: prepare: no mirror gave the files: " in done.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_a_killed_verification_says_nothing_and_leaves_nothing_running(
    finished: Clone, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    project = finished.copy(tmp_path / "project")
    before = project.git("status", "--porcelain", "--ignored")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        COMMAND,
        cwd=project.folder,
        env=variables({"TMPDIR": str(temporary)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.stderr and "train" not in process.stderr.readline():
        assert process.poll() is None
    below = psutil.Process(process.pid).children(recursive=True)
    assert below
    process.send_signal(number)
    said, _ = process.communicate()
    assert (process.returncode, said) == (code, "")
    if number != signal.SIGKILL:
        assert not list(temporary.iterdir())
        assert not psutil.wait_procs(below, timeout=5)[1]
    for child in psutil.wait_procs(below, timeout=0)[1]:
        child.kill()
    assert project.git("status", "--porcelain", "--ignored") == before


@pytest.fixture(scope="module")
def attested(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which an attestation of it lies, signed by a key of its own."""
    project = finished.copy(tmp_path_factory.mktemp("attested") / "project")
    done = verify(project.folder, "--attest", "attestation.json")
    assert done.returncode == 0, done.stderr
    check(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "../key"], project.folder)
    sign = ["ssh-keygen", "-Y", "sign", "-n", "file", "-f", "../key", "attestation.json"]
    check(sign, project.folder)
    key = (project.folder / "../key.pub").read_text()
    (project.folder / "signers").write_text(f"me@example.org {key}")
    return project


def test_an_attestation_is_an_in_toto_statement_with_slsa_provenance(attested: Clone) -> None:
    """By the bindings that in-toto generates from its own definitions."""
    text = (attested.folder / "attestation.json").read_text()
    statement = json_format.Parse(text, statement_pb2.Statement())
    Statement.copy_from_pb(statement).validate()
    assert statement.predicate_type == "https://slsa.dev/provenance/v1"
    provenance = json_format.ParseDict(json.loads(text)["predicate"], Provenance())
    names = [material.name for material in provenance.build_definition.resolved_dependencies]
    assert names == ["commit", "dvc.lock", "requirements.lock", "digits"]
    machine = json_format.MessageToDict(provenance.build_definition.internal_parameters)
    assert machine["python"].startswith("CPython 3.")
    assert {"cpu", "caches", "cores", "kernel", "instruction_sets", "packages"} < set(machine)
    assert {subject.name for subject in statement.subject} > {
        "artifacts/model/model.keras",
        "metrics/evaluate.json",
    }
    for private in (
        str(attested.folder),
        str(Path.home()),
        Path("/etc/hostname").read_text().strip(),
    ):
        assert private not in text


@pytest.mark.parametrize("place", ["resolvedDependencies", "subject"])
def test_a_signed_attestation_is_accepted_in_another_clone_and_not_with_another_digit(
    attested: Clone, tmp_path: Path, place: str
) -> None:
    clone = tmp_path / "clone"
    check(["git", "clone", "-q", str(attested.folder), str(clone)], tmp_path)
    for name in ("attestation.json", "attestation.json.sig", "signers"):
        shutil.copy(attested.folder / name, clone)
    signed = "ssh-keygen -Y verify -f signers -I me@example.org -n file -s attestation.json.sig"
    check(["sh", "-c", f"{signed} < attestation.json"], clone)
    done = verify(clone, "--check", "attestation.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"attestation.json attests commit \w{40}: all 27 outputs came out", done.stdout
    )

    check(["git", "commit", "-q", "--allow-empty", "-m", "empty"], clone)
    done = verify(clone, "--check", "attestation.json")
    assert done.returncode == 0
    assert re.search(
        r"commit \w{40}, which has the same dvc.lock as HEAD, \w{40}: all", done.stdout
    )

    flip(clone / "attestation.json", rf'"{place}": \[.*?"md5": "')
    assert run(["sh", "-c", f"{signed} < attestation.json"], clone).returncode
    done = verify(clone, "--check", "attestation.json")
    assert done.returncode == 1
    assert re.search(r", but has another MD5 of \S+ than dvc.lock, \w+\n", done.stdout)


def test_a_statement_with_any_digest_changed_is_refused(
    attested: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(attested.folder)
    statement = attestation.read(Path("attestation.json"))
    assert attestation.check(statement, "HEAD")[0]
    provenance = statement.predicate
    resources = [
        *provenance.build_definition.resolved_dependencies,
        *statement.subject,
        *provenance.run_details.byproducts,
    ]
    digests = [(one.digest, kind) for one in resources for kind in one.digest]
    assert len(digests) > 50
    for digest, kind in digests:
        before = digest[kind]
        digest[kind] = f"{before[:-1]}{'0' if before[-1] != '0' else '1'}"
        agrees, sentence = attestation.check(statement, "HEAD")
        assert not agrees, (digest, sentence)
        digest[kind] = before
    assert attestation.check(statement, "HEAD")[0]


def tampered(text: str, path: list[str], value: object) -> str:
    statement = part = json.loads(text)
    *outer, last = path
    for name in outer:
        part = part[name]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return json.dumps(statement)


@pytest.mark.parametrize(
    ("path", "value", "code", "reason"),
    [
        (["subject"], [], 2, "subject: List should have at least 1 item"),
        (["predicate"], None, 2, "predicate: Field required"),
        (["_type"], "https://in-toto.io/Statement/v0.1", 2, "_type: Input should be"),
        (["predicateType"], "x", 2, "predicateType: Input should be"),
        (["predicate", "buildDefinition", "resolvedDependencies"], [], 1, "does not have"),
        (["predicate", "runDetails", "byproducts"], [], 1, "and found: None"),
    ],
)
def test_a_tampered_attestation_is_refused_with_the_reason(
    attested: Clone, tmp_path: Path, path: list[str], value: object, code: int, reason: str
) -> None:
    text = (attested.folder / "attestation.json").read_text()
    (tmp_path / "a.json").write_text(tampered(text, path, value))
    done = verify(attested.folder, "--check", str(tmp_path / "a.json"))
    assert done.returncode == code, done.stdout + done.stderr
    assert reason in done.stdout + done.stderr
    assert len((done.stdout + done.stderr).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"[]", b"{}", None])
def test_what_is_no_attestation_is_refused_in_a_line(
    attested: Clone, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    done = verify(attested.folder, "--check", str(tmp_path / "a.json"))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_an_attestation_of_another_lock_is_not_about_this_one(
    attested: Clone, tmp_path: Path
) -> None:
    project = attested.copy(tmp_path / "project")
    flip(
        project.folder / "dvc.lock",
        r"path: artifacts/model/curve.csv\n      hash: md5\n      md5: ",
    )
    project.commit("another lock")
    done = verify(project.folder, "--check", "attestation.json")
    assert done.returncode == 1
    assert re.search(r"commit \w{40}, which has another dvc.lock than HEAD, \w{40}\n", done.stdout)
    assert verify(project.folder, "HEAD~", "--check", "attestation.json").returncode == 0
    done = verify(project.folder, "--attest", "b.json")
    assert done.returncode == 1, "what was found is attested, too"
    done = verify(project.folder, "--check", "b.json")
    assert done.returncode == 1
    assert "and found: not the same: train: artifacts/model/curve.csv is the first" in done.stdout
