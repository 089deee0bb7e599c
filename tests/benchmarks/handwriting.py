"""How well the network of this workspace reads handwriting: numbers, bad photos, what is no digit.

All of it is made from a seed, by `tests/benchmarks/paper.py`. `--pictures` measures your own, in a
folder with a labels.csv of the columns file and label, and, if you like, kind.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from stages.shared.errors import StageError
from stages.views import predict
from stages.views.handwriting import classifier, reading
from tests.benchmarks import paper
from tests.benchmarks.paper import Digits, Page
from tests.project import REPOSITORY

CONFIDENT = 0.9
# What was read, and the confidence in it.
Answer = tuple[str, float]
Reader = Callable[[np.ndarray], Answer]


def reader(folder: Path) -> Reader:
    """Return what reads pictures (height, width, 4) uint8 with the network of a project."""
    prepared, evaluation = folder / "artifacts/prepared", folder / "artifacts/evaluation"
    classify, names = classifier.load(
        folder / "artifacts/model/model.keras",
        prepared / "class-names.json",
        evaluation / "prototypes.npy",
        evaluation / "thresholds.json",
    )

    def read(picture: np.ndarray) -> Answer:
        try:
            rows = reading.read(picture, classify)
        except StageError:  # a page of text
            rows = []
        found = predict.Prediction("", rows, names)
        return (found.text, found.confidence) if rows else ("", 0.0)

    return read


def digits(folder: Path) -> Digits:
    """Return the test digits of a project."""
    prepared = folder / "artifacts/prepared"
    images, labels = (np.load(prepared / f"test-{name}.npy") for name in ("images", "labels"))
    return Digits(images[..., 0], labels)


def correct(read: Reader, pages: Iterator[Page]) -> dict[str, list[bool]]:
    """Return, by the kind of page, whether each is read right, all of it."""
    found: dict[str, list[bool]] = {}
    for page in pages:
        answer = read(rgba(page.picture))[0]
        found.setdefault(page.kind, []).append(answer == page.text)
    return found


def confident(read: Reader, pages: Iterator[Page]) -> dict[str, list[bool]]:
    """Return, by the kind of page, whether each is answered with more than 90 % confidence."""
    found: dict[str, list[bool]] = {}
    for page in pages:
        found.setdefault(page.kind, []).append(read(rgba(page.picture))[1] > CONFIDENT)
    return found


def photo_errors(read: Reader, folder: Path, count: int, seed: int) -> tuple[int, int]:
    """Return the errors on so many photographed test digits, and the network's on their images."""
    data = digits(folder)
    predicted = np.loadtxt(
        folder / "artifacts/evaluation/predictions.csv", int, delimiter=",", skiprows=1
    )[:, 1]
    errors = Counter[str]()
    for index, picture in paper.photos(count, seed, data):
        errors["photo"] += read(rgba(picture))[0] != str(data.labels[index])
        errors["image"] += bool(predicted[index] != data.labels[index])
    return errors["photo"], errors["image"]


def rgba(picture: Image.Image) -> np.ndarray:
    """Return a picture as `reading.read` takes it."""
    return np.asarray(picture.convert("RGBA"))


def labelled(folder: Path) -> Iterator[Page]:
    """Yield the pictures that the folder's labels.csv names."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            picture = Image.fromarray(predict.read(folder / row["file"]))
            yield Page(row["label"], row.get("kind", "all"), picture)


def table(title: str, found: dict[str, list[bool]]) -> str:
    """Return a line per kind, and one of all: how many, of how many, and the proportion."""
    every = [one for kind in found.values() for one in kind]
    lines = [title]
    for kind, each in [*found.items(), ("all", every)]:
        lines.append(f"  {kind:18} {sum(each):5} of {len(each):5}  {np.mean(each):7.2%}")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.handwriting", description=__doc__
    )
    parser.add_argument("--count", type=int, default=480, help="numbers; as many photos")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=Path, help="a folder with labels.csv, instead")
    options = parser.parse_args()
    read = reader(REPOSITORY)
    if options.pictures:
        print(table("pictures read right", correct(read, labelled(options.pictures))))
        return
    made = paper.numbers(options.count, options.seed, digits(REPOSITORY))
    print(table("numbers of 1 to 6 digits read right", correct(read, made)), flush=True)
    found = confident(read, paper.letters(options.seed))
    alike = {kind: found.pop(kind) for kind in ["look-alike letter"]}
    found |= confident(read, paper.sheets(25, options.seed))
    print(table("no digit, but answered with over 90 % confidence", found), flush=True)
    print(table("letters that look like digits, alike", alike), flush=True)
    photo, image = photo_errors(read, REPOSITORY, options.count, options.seed)
    print(f"errors on {options.count} test digits: photographed {photo}, as they are {image}")


if __name__ == "__main__":
    main()
