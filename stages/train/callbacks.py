"""Keras callbacks: write a checkpoint at the end of every epoch, and print a line about it."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import keras

from stages.shared.errors import StageError
from stages.train import checkpoint
from stages.train.checkpoint import TrainState
from stages.train.curve import COLUMNS, best_epoch, should_stop


class CheckpointCallback(keras.callbacks.Callback):
    """Updates the state at the end of every epoch, writes its checkpoint, and stops the run.

    The best epoch and the patience are worked out from the learning curve each time: there is no
    counter that a killed run could lose.

    Args:
        network: the network being trained; `set_model` gives the optimizer.
        state: the state to update.
        folder: of the checkpoints of this very run.
        export: which weights to export, "last" or "best".
        epochs, patience: see `should_stop`.

    Raises:
        StageError: the loss is not a number any more.
    """

    def __init__(
        self,
        network: keras.Sequential,
        state: TrainState,
        folder: Path,
        export: str,
        epochs: int,
        patience: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.state = state
        self.folder = folder
        self.export = export
        self.epochs = epochs
        self.patience = patience

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        row = [float(logs[name.replace("validation", "val")]) for name in COLUMNS]
        if not all(map(math.isfinite, row)):
            raise StageError(
                f"training diverged in epoch {epoch + 1}: the loss is not a number any more; "
                "lower train.learning_rate"
            )
        state = self.state
        state.curve.append(row)
        state.weights = self.network.get_weights()
        state.optimizer = [variable.numpy() for variable in self.model.optimizer.variables]
        if self.export == "last" or best_epoch(state.curve) == len(state.curve):
            state.exported = state.weights
        checkpoint.write(self.folder, state)
        self.model.stop_training = should_stop(state.curve, self.epochs, self.patience)


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
