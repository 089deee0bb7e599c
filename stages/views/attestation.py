"""Attestations: what a verification found, as an in-toto statement with SLSA provenance.

Sources: Statement, https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md;
Provenance, https://slsa.dev/spec/v1.0/provenance.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from stages.shared import artifacts, params, tables
from stages.views import workspace

Digest = dict[str, str]


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
        return self._material("commit").get("gitCommit", "unknown")

    @property
    def lock(self) -> str:
        """The SHA-256 of its dvc.lock."""
        return self._material("dvc.lock").get("sha256", "")

    @property
    def machine(self) -> dict[str, Any]:
        """What `machine.describe` says of the machine."""
        return self.predicate.build_definition.internal_parameters

    @property
    def found(self) -> dict[str, Any]:
        """Whether all was the `same`, and a `sentence` about it."""
        byproducts = self.predicate.run_details.byproducts
        return next((one.annotations for one in byproducts if one.annotations), {})

    def _material(self, name: str) -> Digest:
        materials = self.predicate.build_definition.resolved_dependencies
        return next((material.digest for material in materials if material.name == name), {})


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
    artifacts.write_json(
        path, json.loads(statement.model_dump_json(by_alias=True, exclude_none=True))
    )


def read(path: Path) -> Statement:
    """Return the statement in a file.

    Raises:
        StageError: it cannot be read, or is not the statement of a verification.
    """
    return tables.read_json(path, Statement)


def check(statement: Statement, commit: str, lock: str) -> tuple[bool, str]:
    """Return whether a statement agrees with the dvc.lock of a commit, and a sentence about it."""
    about = f"attests commit {statement.commit[:12]}"
    if statement.commit != commit:
        about += f", not {commit[:12]}"
    if statement.lock != hashlib.sha256(lock.encode()).hexdigest():
        return False, f"{about}, with another dvc.lock"
    if statement.commit != commit:
        about += ", which has the same dvc.lock"
    if not statement.found.get("same"):
        return False, f"{about}, and found: {statement.found.get('sentence')}"
    outputs, dependencies = (workspace.digests(lock, kind) for kind in ("outs", "deps"))
    materials = statement.predicate.build_definition.resolved_dependencies
    used = _md5(materials)
    for attested, recorded in (
        (used, {name: dependencies.get(name) for name in used}),
        (_md5(statement.subject), outputs),
    ):
        for name in {**recorded, **attested}:
            if attested.get(name) != recorded.get(name):
                return False, (
                    f"{about}, but disagrees with it: {name} is {recorded.get(name)} in dvc.lock"
                    f" and {attested.get(name)} in the attestation"
                )
    when = statement.predicate.run_details.metadata.finished_on[:10]
    cpu = statement.machine.get("cpu")
    return True, f"{about}: all {len(outputs)} outputs came out the same on {cpu}, {when}"


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


def _md5(resources: Sequence[Resource]) -> dict[str, str | None]:
    """Return the MD5 of those that have one, by their names."""
    return {one.name: one.digest["md5"] for one in resources if "md5" in one.digest}


def _sha256(path: Path) -> Digest:
    if not path.is_file():  # a folder
        return {}
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
