"""How the recipe adapts to the data: batch size, learning rate, warm-up and augmentation."""

import math
from collections.abc import Sequence

from stages.shared.errors import StageError
from stages.train.curve import COLUMNS

# With fewer, Adam's averages are still empty when the learning rate is at its highest.
MIN_WARMUP_STEPS = 50


def fit_batch_size(images: int, batch_size: int, shards: int, min_steps: int) -> int:
    """Return the batch size: `batch_size`, halved while an epoch has fewer than `min_steps` steps.

    Few images in large batches make few steps, and a network that takes few steps learns little.
    A batch stays a multiple of `shards`, so it has at least one image per shard.

    Raises:
        StageError: there are fewer images than shards.
    """
    if images < shards:
        raise StageError(
            f"train.shards = {shards} is more than the {images} training images that"
            " prepare.validation and prepare.limit leave"
        )
    while images // batch_size < min_steps and batch_size > shards:
        batch_size = max(batch_size // 2 // shards, 1) * shards
    return batch_size


def scale_learning_rate(learning_rate: float, batch_size: int, nominal: int) -> float:
    """Return the learning rate for `batch_size` from the one for the nominal batch size.

    The square root keeps the noise of Adam's steps, as seen over an epoch, the same.

    Source: S. Malladi et al., On the SDEs and scaling rules for adaptive gradient algorithms,
    NeurIPS 2022.
    """
    return learning_rate * math.sqrt(batch_size / nominal)


def count_warmup_steps(fraction: float, steps: int) -> int:
    """Return a fraction of all steps, but at least `MIN_WARMUP_STEPS` and at most half of all."""
    return max(min(max(round(fraction * steps), MIN_WARMUP_STEPS), steps // 2), 1)


def choose_augmented_fraction(
    curve: Sequence[Sequence[float]], minimum: float, per_error: float
) -> float:
    """Return the fraction of the images to augment in the next epoch: the fewer errors, the more.

    A network should see the images that it still misclassifies unchanged, too. Of a data set whose
    classes are hard to tell apart half of the images stay as they are; of digits, soon none do.

    Args:
        curve: of the epochs so far.
        minimum: the fraction in the first epoch, and in those with many errors.
        per_error: what each percentage point of errors takes away, in percentage points.
    """
    if not curve:
        return minimum
    errors = 1 - curve[-1][COLUMNS.index("accuracy")]
    return max(minimum, 1 - per_error * errors)
