"""Ours: the train stage as dvc.yaml runs it, watched from inside."""

from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

from stages.evaluate import __main__ as evaluate
from stages.shared import artifacts, numerics
from stages.shared import params as parameters
from stages.train import __main__ as train
from stages.train.recipe import fit_batch_size
from tests import project
from tests.benchmarks.clocks import Curve, Rate


def paths(stage: str) -> dict[str, Path]:
    """Return the paths that dvc.yaml gives `stage`, by the name of the argument of its `main`."""
    words = project.command(stage)[3:]
    options = [option.removeprefix("--").replace("-", "_") for option in words[::2]]
    return dict(zip(options, map(Path, words[1::2]), strict=True))


def fit(score: bool = False) -> dict[str, Any]:
    """Run the train stage in the current folder, with its params.yaml.

    Args:
        score: the test digits at the end of every epoch, with the weights that would be saved.

    Returns:
        `seconds` of fitting and test `accuracy` at the end of every scored epoch;
        `images_per_second` of the last epoch's steps; `flops` of training on one image.
    """
    params = parameters.check(parameters.read(parameters.FILE), "train", train.Params)
    keras = numerics.keras(params.device, params.instruction_set)
    from stages.train import callbacks, fitting

    test = paths("evaluate")
    images = artifacts.read_array(test["test_images"])
    labels = artifacts.read_array(test["test_labels"])
    watched = []

    class Watched(callbacks.CheckpointCallback):
        def __init__(self, params: train.Params, network: Any, *rest: Any) -> None:
            super().__init__(params, network, *rest)
            self.copy = keras.models.clone_model(network)
            self.curve, self.rate = Curve(), Rate()
            watched.append(self)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            # Keras counts several steps at a time, past the end of the epoch.
            self.rate.mark(min(batch, self.params["steps"] - 1))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_end(epoch, logs)
            if score:
                self.curve.mark(self.accuracy)

        def accuracy(self) -> float:
            self.copy.set_weights(self.state.exported)
            predicted = evaluate.predict(self.copy, images).argmax(axis=1)
            return float((predicted == labels).mean())

    with mock.patch.object(fitting, "CheckpointCallback", Watched):
        train.main(params, **paths("train"))
    [training] = watched
    digits = len(artifacts.read_array(paths("train")["train_labels"]))
    batch_size = fit_batch_size(
        digits, params.batch_size, params.shards, params.min_steps_per_epoch
    )
    return {
        "seconds": training.curve.seconds,
        "accuracy": training.curve.accuracy,
        "images_per_second": training.rate.images_per_second(batch_size),
        "flops": flops(training.network, params.hard_example_fraction),
    }


def flops(network: Any, fraction: float) -> float:
    """Return the operations of the convolutions and dense layers in training on one image.

    A multiplication and an addition are two. Forward, gradient of the weights and gradient of the
    input cost the same each; the first layer's input needs no gradient. Every image goes forward;
    that fraction of them goes back.
    """
    forward: list[int] = [
        2 * prod(layer.kernel.shape) * prod(layer.output.shape[1:-1])
        for layer in network.layers
        if hasattr(layer, "kernel")
    ]
    return sum(forward) + fraction * (2 * sum(forward) - forward[0])
