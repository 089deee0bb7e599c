"""What happens at the end of an epoch: look, remember, decide, back up."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import keras

from stages.shared.errors import StageError
from stages.train import backup
from stages.train.curve import COLUMNS, best_epoch, is_over


class Keeper(keras.callbacks.Callback):
    """Keeps the training's state after every epoch and stops it when it is over.

    Best epoch and patience are worked out from the curve each time: there is no counter that a
    killed run could lose.

    Args:
        network: the network being trained; `set_model` gives the optimizer.
        folder: for the backups of this very run.
        keep: whose weights end in `state.kept`: "last" or "best".
        epochs, patience: see `is_over`.

    Raises:
        StageError: the loss is not a number any more.
    """

    def __init__(
        self, network: keras.Sequential, folder: Path, keep: str, epochs: int, patience: int
    ) -> None:
        super().__init__()
        self.network = network
        self.folder = folder
        self.keep = keep
        self.epochs = epochs
        self.patience = patience
        self.state = backup.State()

    def restore(self, optimizer: keras.optimizers.Optimizer, epoch: int) -> None:
        """Bring back the backup of an epoch; 0 is the start."""
        self.state = backup.read(self.folder, epoch)
        if self.state.curve:
            self.network.set_weights(self.state.weights)
            optimizer.set_weights(self.state.optimizer)

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
        if self.keep == "last" or best_epoch(state.curve) == len(state.curve):
            state.kept = state.weights
        backup.write(self.folder, state)
        self.model.stop_training = is_over(state.curve, self.epochs, self.patience)


class Lines(keras.callbacks.Callback):
    """Prints one line an epoch, where there is no terminal for a progress bar."""

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
