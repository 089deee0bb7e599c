"""Experiments with made-up results, as DVC would have committed them."""

import copy
import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.project import Clone

Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Made:
    """An experiment: its seed, what else is changed, by `section.key`, and how it scored."""

    name: str
    seed: int
    validation: float
    test: float = 0.99
    errors: int = 100
    changes: Mapping[str, Any] = field(default_factory=dict)


def write(clone: Clone, experiments: Iterable[Made]) -> None:
    """Add experiments to the clone's last commit, which has a dvc.lock and metrics."""
    head = clone.git("rev-parse", "HEAD").strip()
    lock = yaml.load(clone.lock, Loader)  # noqa: S506
    metrics = {
        name: json.loads((clone.folder / name).read_text())
        for name in ("metrics/train.json", "metrics/evaluate.json")
    }
    stream = b"".join(_commit(head, lock, metrics, each) for each in experiments)
    subprocess.run(["git", "fast-import", "--quiet"], cwd=clone.folder, input=stream, check=True)


def _commit(head: str, lock: Any, metrics: Any, made: Made) -> bytes:
    lock, (train, evaluate) = copy.deepcopy(lock), map(dict, metrics.values())
    for key, value in {"train.seed": made.seed, **made.changes}.items():
        section, name = key.split(".")
        for stage in ("prepare", "train", "report"):
            sections = lock["stages"][stage]["params"]["params.yaml"]
            if section in sections:
                sections[section][name] = value
    train["validation_accuracy"] = made.validation
    evaluate |= {"accuracy": made.test, "errors": made.errors}
    files = {}
    for (path, _), content in zip(metrics.items(), (train, evaluate), strict=True):
        files[path] = json.dumps(content, indent=2) + "\n"
        md5 = hashlib.md5(files[path].encode(), usedforsecurity=False).hexdigest()
        for stage in lock["stages"].values():
            for out in stage["outs"]:
                if out["path"] == path:
                    out["md5"] = md5
    files["dvc.lock"] = yaml.dump(lock, Dumper=Dumper, sort_keys=False)
    ref = f"refs/exps/{head[:2]}/{head[2:]}/{made.name}"
    lines = [f"commit {ref}\ncommitter test <test@example.org> 1700000000 +0000\n", _data("made")]
    lines.append(f"from {head}\n")
    for path, text in files.items():
        lines += [f"M 100644 inline {path}\n", _data(text)]
    return "".join(lines).encode()


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"
