"""What a training is timed with, the same for ours and for the peers."""

import time
from collections.abc import Callable


class Curve:
    """The test accuracy over the seconds of fitting, a point an epoch.

    The seconds begin when this is made, hold compilation and validation, and leave the scoring of
    the test digits out.
    """

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.seconds: list[float] = []
        self.accuracy: list[float] = []

    def mark(self, score: Callable[[], float]) -> None:
        """Note the end of an epoch; `score` returns the accuracy."""
        now = time.perf_counter()
        self.seconds.append(now - self.start)
        self.accuracy.append(score())
        self.start += time.perf_counter() - now


class Rate:
    """The images a second of an epoch's steps, without the first tenth, where all warms up."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, float]] = []

    def mark(self, step: int) -> None:
        """Note the end of a step, counted within its epoch; a new epoch forgets the last."""
        if self.marks and step <= self.marks[-1][0]:
            self.marks.clear()
        self.marks.append((step, time.perf_counter()))

    def images_per_second(self, batch_size: int) -> float:
        (first, start), (last, end) = self.marks[len(self.marks) // 10], self.marks[-1]
        return (last - first) * batch_size / (end - start)
