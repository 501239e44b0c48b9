"""What a training tells: the time that is left, an epoch in one line, the best epoch."""

from __future__ import annotations

import time
from typing import Any

from simat.progress import Progress

TIMED_STEPS = 5  # before the time that is left is told


class Clock:
    """Tells once, after the first steps, how long the rest takes."""

    def __init__(self, steps: int, progress: Progress) -> None:
        self._left, self._progress, self._done, self._began = steps, progress, 0, time.monotonic()

    def tick(self) -> None:
        """One more step is done."""
        self._done += 1
        if self._done == 1:
            self._began = time.monotonic()  # the first step also sets things up
        if self._done == TIMED_STEPS + 1:
            seconds = (time.monotonic() - self._began) / TIMED_STEPS * (self._left - self._done)
            self._progress.note(f"about {lasting(seconds)} for {self._left:,} steps")


def lasting(seconds: float) -> str:
    """A time span for people."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def best_epoch(curve: list[dict[str, Any]]) -> int:
    """The first epoch after the beginning whose six recalls add up to the most; 0 before any."""
    sums = {point["epoch"]: recall_sum(point) for point in curve[1:]}
    return max(sums, key=lambda epoch: sums[epoch], default=0)


def recall_sum(point: dict[str, Any]) -> float:
    """The sum of R@1, R@5 and R@10 both ways, where they were measured."""
    return float(sum(sum(point.get(way, {}).values()) for way in ("text_to_image", "image_to_text")))


def described(point: dict[str, Any], epochs: int) -> str:
    """An epoch of the curve in one line."""
    line = f"epoch {point['epoch']}/{epochs}: loss {point['loss']:.4f}"
    for way, name in (("text_to_image", "image"), ("image_to_text", "text")):
        if way in point:
            line += f", {name} R@1/5/10 " + "/".join(f"{100 * value:.1f}" for value in point[way].values())
    return line
