"""Sizes: test accuracy by number of images and epochs, against Keras' recipe on the same images."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.figure
from matplotlib.ticker import EngFormatter

from stages.evaluate import __main__ as evaluate
from stages.report.figures import png, style
from stages.report.fonts import DEFAULT
from stages.report.palette import LIGHT
from stages.shared import artifacts, numerics
from stages.shared import params as parameters
from stages.train import __main__ as train
from tests import project
from tests.benchmarks import peers, process, recipe
from tests.benchmarks.figures import Figure, table
from tests.project import Clone

IMAGES, EPOCHS = (500, 1000, 2000, 5000, 20_000, None), (1, 3, 9)
FEW_IMAGES, MANY_EPOCHS = (100, 200), (20, 50)
SEEDS = 3
PICTURE = project.REPOSITORY / "artifacts/sizes.png"


def measure(clone: Clone, runs: int) -> list[Figure]:
    """Return test accuracies, in percent, ours against Keras'; means of as many seeds as runs."""
    available = len(artifacts.read_array(clone.folder / recipe.paths("train")["train_labels"]))
    found, grid = [], {}
    for limits, epochs in ((IMAGES, EPOCHS), (FEW_IMAGES, MANY_EPOCHS)):
        for limit in limits:
            if (limit or 0) < available:
                clone.set("prepare", "limit", limit or "all")
                name = f"{limit or available:,} digits"
                own = compare(clone, name, runs, epochs, epochs)
                found += own
                if epochs == EPOCHS:
                    grid[limit or available] = dict(zip(epochs, own, strict=True))
    draw({epochs: {n: grid[n][epochs] for n in grid} for epochs in EPOCHS}, PICTURE)
    return found


def compare(
    clone: Clone, name: str, runs: int, epochs: Sequence[int], keras_epochs: Sequence[int]
) -> list[Figure]:
    """Prepare the clone's data, train ours and Keras' for so many epochs; return the figures.

    Ours and Keras' run at the same time, on a core each where there are two.
    """
    seeds = range(1, min(runs, SEEDS) + 1)
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
    print(f"\n{table(found)}\n", flush=True)
    return found


def ours(seeds: Sequence[int], epochs: Sequence[int]) -> list[list[float]]:
    """Run the train stage in the current folder and score the model it saves, as evaluate does.

    Returns:
        The test accuracy after a whole run of each of `epochs`, 0 to 1: a list per seed.
    """
    params = parameters.check(parameters.read(parameters.FILE), "train", train.Params)
    keras = numerics.keras(params.device, params.instruction_set)
    images, labels = peers.test_digits()
    names = artifacts.read_json(recipe.paths("evaluate")["class_names"])
    files = recipe.paths("train")
    found: list[list[float]] = []
    for seed in seeds:
        found.append([])
        for count in epochs:
            train.main(params.model_copy(update={"seed": seed, "epochs": count}), **files)
            model = evaluate.load(keras, files["model"], images.shape[1:], len(names))
            predicted = evaluate.predict(model, images).argmax(axis=1)
            found[-1].append(float((predicted == labels).mean()))
            keras.backend.clear_session()
    return found


def draw(grid: Mapping[int, Mapping[int, Figure]], path: Path) -> None:
    """Write a picture: accuracy by number of images, a panel per number of epochs, a line each.

    Args:
        grid: the figures by number of epochs, and by number of images.
        path: of the PNG.
    """
    with style([DEFAULT]):
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
            panel.set_xticks([*by_images])
            panel.minorticks_off()
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))  # 500, 1k, 55k
            panel.set(title=count_epochs(epochs), xlabel="training images", ylim=(0, 102))
        panels[0].set_ylabel("test images right, %")
        panels[-1].legend(loc="lower right")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture, 144))
    print(f"sizes: drawn in {path}")


def count_epochs(epochs: int) -> str:
    return f"{epochs} epoch{'' if epochs == 1 else 's'}"
