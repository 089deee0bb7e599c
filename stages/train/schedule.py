"""The learning rate over a training."""

import keras
import tensorflow as tf


class Triangle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises along a line from almost 0 to `highest`, then falls along a line to 0.

    Args:
        highest: reached when `rising` steps are done.
        rising: steps of the warm-up, at least 1.
        steps: of the whole training.
    """

    def __init__(self, highest: float, rising: int, steps: int) -> None:
        self.highest = highest
        self.rising = rising
        self.steps = steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        up = (step + 1) / self.rising
        down = (self.steps - step) / max(self.steps - self.rising, 1)
        return self.highest * tf.clip_by_value(tf.minimum(up, down), 0.0, 1.0)
