"""What was measured, round by round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from perf.ratio import Ratio


@dataclass(slots=True)
class Series:
    """Rates per second by workload and path, one per round; a stream's are bytes."""

    rates: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, workload: str, path: str, rate: float) -> None:
        self.rates.setdefault((workload, path), []).append(rate)

    def figure(self, workload: str, path: str) -> str:
        rate = statistics.median(self.rates[workload, path])
        return f"{rate * 8 / 1e9:.2f} Gb/s" if workload == "stream" else f"{1e6 / rate:.2f} us"

    def ratio(self, workload: str, path: str, base: str) -> Ratio | None:
        """Of times, for a stream of rates. None if ``base`` was not measured."""
        mine, other = self.rates[workload, path], self.rates.get((workload, base))
        if other is None:
            return None
        return Ratio.of(mine, other) if workload == "stream" else Ratio.of(other, mine)
