"""What a training run takes from the amount of data: batch size, learning rate, warm-up."""

import math

from stages.shared.errors import StageError

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
