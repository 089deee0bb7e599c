"""The learning rate schedule: linear warm-up, then linear decay."""

import keras
import tensorflow as tf


class LinearWarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to its peak, then falls linearly to 0.

    Args:
        peak_learning_rate: reached after the warm-up.
        warmup_steps: steps of the warm-up, at least 1.
        total_steps: steps of the whole run.
    """

    def __init__(self, peak_learning_rate: float, warmup_steps: int, total_steps: int) -> None:
        self.peak_learning_rate = peak_learning_rate
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        warmup = (step + 1) / self.warmup_steps
        decay = (self.total_steps - step) / max(self.total_steps - self.warmup_steps, 1)
        return self.peak_learning_rate * tf.clip_by_value(tf.minimum(warmup, decay), 0.0, 1.0)
