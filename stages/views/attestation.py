"""Attestations: what a verification found, as an in-toto statement with SLSA provenance.

Sources: Statement, https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md;
Provenance, https://slsa.dev/spec/v1.0/provenance.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML

from stages.shared import artifacts, params, tables
from stages.shared.errors import StageError
from stages.views import workspace

Digest = dict[str, str]
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Part(BaseModel):
    """Base of the parts of a statement, whose names are in-toto's and SLSA's."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Resource(Part):
    """A file or a commit, by its digests."""

    name: str
    uri: str | None = None
    digest: Digest = Field(default_factory=dict)
    annotations: dict[str, Any] | None = None


class BuildDefinition(Part):
    """What was run, on which machine, from which materials."""

    build_type: Literal["https://dvc.org/doc/command-reference/repro"] = Field(
        default="https://dvc.org/doc/command-reference/repro"
    )
    external_parameters: dict[str, str]
    internal_parameters: dict[str, Any]
    resolved_dependencies: list[Resource]


class Times(Part):
    """When the run began and ended, in UTC, as RFC 3339 has it."""

    started_on: str
    finished_on: str


class RunDetails(Part):
    """Who ran it, when, and what was found."""

    builder: dict[str, str]
    metadata: Times
    byproducts: list[Resource]


class Provenance(Part):
    """The provenance of a run."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(Part):
    """What is attested: of these outputs, this provenance."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(
        default="https://in-toto.io/Statement/v1", alias="_type"
    )
    subject: list[Resource] = Field(min_length=1)
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"
    predicate: Provenance

    @property
    def commit(self) -> str:
        """The commit that was run."""
        materials = self.predicate.build_definition.resolved_dependencies
        found = [one.digest.get("gitCommit") for one in materials if one.name == "commit"]
        return next((name for name in found if name and COMMIT.fullmatch(name)), "unknown")

    @property
    def machine(self) -> dict[str, Any]:
        """What `machine.describe` says of the machine."""
        return self.predicate.build_definition.internal_parameters

    @property
    def found(self) -> dict[str, Any]:
        """Whether all was the `same`, and a `sentence` about it."""
        byproducts = self.predicate.run_details.byproducts
        return next((one.annotations for one in byproducts if one.annotations), {})


def attest(
    project: Path, lock: str, machine: Mapping[str, Any], times: Times, same: bool, sentence: str
) -> Statement:
    """Return the attestation of a run.

    Args:
        project: the clone in which it ran.
        lock: the dvc.lock that was committed.
        machine: on which it ran.
        times: when.
        same: whether all came out as it was committed.
        sentence: what came out.
    """
    outputs = workspace.digests((project / "dvc.lock").read_text(), "outs")
    return Statement(
        subject=[
            Resource(name=path, digest={"md5": md5, **_sha256(project / path)})
            for path, md5 in outputs.items()
        ],
        predicate=Provenance(
            build_definition=BuildDefinition(
                external_parameters={"command": "dvc repro"},
                internal_parameters=dict(machine),
                resolved_dependencies=[*_materials(project, lock)],
            ),
            run_details=RunDetails(
                builder={"id": f"pkg:pypi/dvc@{version('dvc')}"},
                metadata=times,
                byproducts=[
                    Resource(
                        name="dvc.lock",
                        digest=_sha256(project / "dvc.lock"),
                        annotations={"same": same, "sentence": sentence},
                    )
                ],
            ),
        ),
    )


def write(path: Path, statement: Statement) -> None:
    """Write a statement as JSON."""
    artifacts.write_json(path, statement.model_dump(by_alias=True, exclude_none=True))


def read(path: Path) -> Statement:
    """Return the statement in a file.

    Raises:
        StageError: it cannot be read, or is not the statement of a verification.
    """
    if not path.is_file():
        raise StageError(f"there is no {path}")
    return tables.read_json(path, Statement)


def check(statement: Statement, revision: str) -> tuple[bool, str]:
    """Return whether a statement agrees with a revision, and a sentence about it.

    Its digests are compared with those in dvc.lock, of the files in git, and of the outputs that
    DVC's cache has here. Who made it, a signature says, not this.

    Raises:
        StageError: there is no such revision.
    """
    commit, lock = workspace.commit(revision), workspace.show(revision, "dvc.lock")
    about = f"attests commit {statement.commit}"
    if statement.commit != commit:
        attested = workspace.show(statement.commit, "dvc.lock")
        if not attested:
            return False, f"{about}, which this repository does not have"
        if attested != lock:
            return False, f"{about}, which has another dvc.lock than {revision}, {commit}"
        about += f", which has the same dvc.lock as {revision}, {commit}"
    if not statement.found.get("same"):
        return False, f"{about}, and found: {statement.found.get('sentence')}"
    if problem := _first_lie(statement, revision, lock.decode()):
        return False, f"{about}, but {problem}"
    when = statement.predicate.run_details.metadata.finished_on[:10]
    cpu = statement.machine.get("cpu")
    return True, f"{about}: all {len(statement.subject)} outputs came out the same on {cpu}, {when}"


def _first_lie(statement: Statement, revision: str, lock: str) -> str:
    """Return what a statement says otherwise than the repository; nothing if it agrees."""
    materials = statement.predicate.build_definition.resolved_dependencies
    outputs = workspace.digests(lock, "outs")
    if other := sorted(set(outputs) ^ {one.name for one in statement.subject}):
        return f"not both it and dvc.lock speak of {other[0]}"
    data, cached = _published(revision), workspace.cached(outputs)
    recorded = workspace.digests(lock, "deps") | outputs
    for one in [*(one for one in materials if "md5" in one.digest), *statement.subject]:
        if one.digest.get("md5") != recorded.get(one.name):
            return f"has another MD5 of {one.name} than dvc.lock, {recorded.get(one.name)}"
    known = data | {name: _sha256(path)["sha256"] for name, path in cached.items()}
    for one in [*materials, *statement.subject, *statement.predicate.run_details.byproducts]:
        content = b"" if one.name in known else workspace.show(revision, one.name)
        sha256 = hashlib.sha256(content).hexdigest() if content else known.get(one.name)
        if sha256 and one.digest.get("sha256", sha256) != sha256:
            return f"has another SHA-256 of {one.name} than there is here, {sha256}"
    return ""


def _published(revision: str) -> dict[str, str]:
    """Return the SHA-256 of raw data on the internet, by name, if the revision uses such data."""
    sections = YAML(typ="safe").load(workspace.show(revision, str(params.FILE)))
    data = str(sections["prepare"]["data"])
    content = workspace.show(revision, data) if data.endswith(".json") else b""
    return dict(json.loads(content).get("sha256", {})) if content else {}


def _materials(project: Path, lock: str) -> Iterator[Resource]:
    """Yield the commit, the locks and the raw data of a run."""
    commit = workspace.git("rev-parse", "HEAD", folder=project)
    remote = urlsplit(workspace.git("remote", "get-url", "origin"))
    public = remote.scheme in ("http", "https", "ssh", "git") and remote.hostname
    yield Resource(
        name="commit",
        uri=f"git+{remote.scheme}://{remote.hostname}{remote.path}" if public else None,
        digest={"gitCommit": commit},
    )
    yield Resource(name="dvc.lock", digest={"sha256": hashlib.sha256(lock.encode()).hexdigest()})
    recorded = workspace.digests(lock, "deps")
    data = str(params.read(project / params.FILE).get("prepare", {}).get("data"))
    for name in ("requirements.lock", data):
        md5 = {"md5": recorded[name]} if name in recorded else {}
        yield Resource(name=name, digest={**md5, **_sha256(project / name)})
    if (project / data).suffix == ".json":  # it describes data on the internet
        for name, digest in artifacts.read_json(project / data).get("sha256", {}).items():
            yield Resource(name=name, digest={"sha256": digest})


def _sha256(path: Path) -> Digest:
    if not path.is_file():  # a folder
        return {}
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
