"""A ratio of two things that took turns: the median of the rounds, its interval by resampling them."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Ratio:
    """``low`` to ``high`` is the 95 % interval of ``median``."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(mine: Sequence[float], base: Sequence[float]) -> Ratio:
        """Round by round; both have a figure per round."""
        ratios = [a / b for a, b in zip(mine, base, strict=True)]
        generator = random.Random(1)
        medians = sorted(
            statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES)
        )
        low, high = medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975)]
        return Ratio(statistics.median(ratios), low, high)

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"
