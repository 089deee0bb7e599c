"""Time to accuracy: seconds of fitting until 99.06 % of the test digits are right."""

import importlib.util
from statistics import mean

from tests.benchmarks import peers, process, recipe
from tests.benchmarks.figures import Figure
from tests.project import Clone

# `seconds` and `accuracy` at the end of every epoch.
Curve = dict[str, list[float]]
# What Keras' published recipe reaches.
PASS = 0.9906
OUR_SEEDS, PEER_SEEDS = 5, 3


def measure(clone: Clone, runs: int) -> list[Figure]:
    """Return seconds and final accuracy of ours against each published recipe, means over seeds."""
    published = {"Keras": peers.keras_convnet, "PyTorch": peers.pytorch_mnist}
    if not importlib.util.find_spec("torch"):
        print("accuracy: PyTorch's recipe skipped, because torch is not installed")
        del published["PyTorch"]
    epochs = clone.sections["train"]["epochs"]
    seeds = range(1, min(runs, OUR_SEEDS) + 1)
    short, quick = least_epochs(clone, epochs, seeds)

    full = []
    others: dict[str, list[Curve]] = {name: [] for name in published}
    for seed in seeds:
        full.append(ours(clone, epochs, seed))
        if seed <= PEER_SEEDS:
            for name, function in published.items():
                others[name].append(process.call(function, clone.folder, seed=seed).result)

    figures = []
    for name, curves in others.items():
        seconds = [seconds_to_pass(curve) for curve in curves]
        right = [percent_right(curve) for curve in curves]
        for label, epoch, unit, own, theirs in (
            # Ours counts whole, though a seed may have passed an epoch before.
            ("fitting to 99.06 %", short, "s", [c["seconds"][-1] for c in quick], seconds),
            ("test accuracy", short, "% right", [percent_right(c) for c in quick], right),
            ("test accuracy", epochs, "% right", [percent_right(c) for c in full], right),
        ):
            title = f"{label}, train.epochs = {epoch} / {name} recipe"
            figures.append(Figure(title, unit, own, theirs, by="means"))
    return figures


def least_epochs(clone: Clone, most: int, seeds: range) -> tuple[int, list[Curve]]:
    """Return the least `train.epochs` whose mean over seeds passes, or `most`; and the curves."""
    for epochs in range(1, most + 1):
        curves = [ours(clone, epochs, seed) for seed in seeds]
        if mean(curve["accuracy"][-1] for curve in curves) > PASS:
            break
    return epochs, curves


def ours(clone: Clone, epochs: int, seed: int) -> Curve:
    """Return the curve of the default recipe with so many epochs."""
    clone.set("train", "epochs", epochs)
    clone.set("train", "seed", seed)
    curve: Curve = process.call(recipe.fit, clone.folder, score=True).result
    return curve


def seconds_to_pass(curve: Curve) -> float:
    """Return the seconds until the accuracy passes; all of them if it never does."""
    points = zip(curve["seconds"], curve["accuracy"], strict=True)
    return next((seconds for seconds, accuracy in points if accuracy > PASS), curve["seconds"][-1])


def percent_right(curve: Curve) -> float:
    """Return the share of test digits that are right after the last epoch, in percent."""
    return 100 * curve["accuracy"][-1]
