"""The learning curve, a row of numbers per epoch: which epoch is best, and when to stop."""

from collections.abc import Sequence

COLUMNS = ("loss", "accuracy", "validation_loss", "validation_accuracy")


def best_epoch(curve: Sequence[Sequence[float]]) -> int:
    """Return the epoch, counted from 1, with the lowest validation loss; the earliest on ties."""
    losses = [row[COLUMNS.index("validation_loss")] for row in curve]
    return losses.index(min(losses)) + 1


def should_stop(curve: Sequence[Sequence[float]], epochs: int, patience: int) -> bool:
    """Return whether all epochs are done, or `patience` (unless 0) brought no improvement."""
    out_of_patience = patience and curve and len(curve) - best_epoch(curve) >= patience
    return bool(len(curve) >= epochs or out_of_patience)
