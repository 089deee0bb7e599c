"""What a training run takes from the data: batch size, learning rate, warm-up, augmentation."""

import math
from collections.abc import Sequence

from stages.shared.errors import StageError
from stages.train.curve import COLUMNS

# With fewer, Adam's averages are still empty when the learning rate is at its highest.
WARMUP_STEPS = 50


def fit_batch_size(images: int, batch_size: int, shards: int, min_steps: int) -> int:
    """Return `batch_size`, halved while an epoch would have fewer than `min_steps` steps.

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
    """Return the learning rate of a batch of another size than the nominal one.

    The square root keeps the noise of Adam's steps, as seen over an epoch, the same.

    Source: S. Malladi et al., On the SDEs and scaling rules for adaptive gradient algorithms,
    NeurIPS 2022.
    """
    return learning_rate * math.sqrt(batch_size / nominal)


def count_warmup_steps(share: float, steps: int) -> int:
    """Return that share of all steps, but at least `WARMUP_STEPS`, and at most half of all."""
    return max(min(max(round(share * steps), WARMUP_STEPS), steps // 2), 1)


def choose_augmented(curve: Sequence[Sequence[float]], least: float, per_error: float) -> float:
    """Return the share of the images to augment in the next epoch: the fewer errors, the more.

    What a network still misreads it should see as it is. Half of the images of a data set whose
    classes are hard to tell apart stay upright; of digits, soon all move.

    Args:
        curve: of the epochs so far.
        least: the share of the first epoch, and of those with many errors.
        per_error: what each percentage point of errors takes away, in percentage points.
    """
    if not curve:
        return least
    errors = 1 - curve[-1][COLUMNS.index("accuracy")]
    return max(least, 1 - per_error * errors)
