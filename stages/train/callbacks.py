"""Keras callbacks: write a checkpoint at the end of every epoch, and print a line about it."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import keras

from stages.shared import guard
from stages.shared.errors import StageError
from stages.train import checkpoint
from stages.train.checkpoint import TrainState
from stages.train.curve import COLUMNS, best_epoch, should_stop
from stages.train.params import Params


class CheckpointCallback(keras.callbacks.Callback):
    """Writes a checkpoint at the end of every epoch, and stops the run when it is done.

    The best epoch and the patience are worked out from the learning curve each time: there is no
    counter that a killed run could lose.

    Args:
        params: which weights to export, and when to stop.
        network: the network being trained; `set_model` gives the optimizer.
        state: the state to update.
        folder: of the checkpoints of this very run.

    Raises:
        StageError: the loss is not a number any more, or what the stage depends on has changed.
    """

    def __init__(
        self, params: Params, network: keras.Model, state: TrainState, folder: Path
    ) -> None:
        super().__init__()
        self.train_params = params
        self.network, self.state, self.folder = network, state, folder

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        row = [float(logs[name.replace("validation", "val")]) for name in COLUMNS]
        if not all(map(math.isfinite, row)):
            raise StageError(
                f"training diverged in epoch {epoch + 1}: the loss is not a number any more; "
                "lower train.learning_rate"
            )
        params, state = self.train_params, self.state
        state.curve.append(row)
        state.weights = self.network.get_weights()
        state.optimizer = [variable.numpy() for variable in self.model.optimizer.variables]
        if params.export == "last" or best_epoch(state.curve) == len(state.curve):
            state.exported = state.weights
        checkpoint.write(self.folder, state)
        guard.check()
        self.model.stop_training = should_stop(state.curve, params.epochs, params.patience)


class EpochLogger(keras.callbacks.Callback):
    """Prints one line per epoch, where there is no terminal for a progress bar."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        print(
            f"epoch {epoch + 1}/{self.params['epochs']}"
            f"  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.4f}"
            f"  validation loss {logs['val_loss']:.4f}  accuracy {logs['val_accuracy']:.4f}"
            f"  {time.perf_counter() - self.start:.1f} s",
            flush=True,
        )
