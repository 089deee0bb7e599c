"""The learning curve: a row of numbers an epoch, and what follows from them."""

from collections.abc import Sequence

COLUMNS = ("loss", "accuracy", "validation_loss", "validation_accuracy")


def best_epoch(curve: Sequence[Sequence[float]]) -> int:
    """Return the first epoch, from 1, with the lowest validation loss."""
    losses = [row[COLUMNS.index("validation_loss")] for row in curve]
    return losses.index(min(losses)) + 1


def is_over(curve: Sequence[Sequence[float]], epochs: int, patience: int) -> bool:
    """Whether to stop: all epochs done, or `patience` of them (unless 0) without a better one."""
    if len(curve) >= epochs:
        return True
    return patience > 0 and len(curve) > 0 and len(curve) - best_epoch(curve) >= patience
