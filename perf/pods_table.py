"""What many pods at once took: the figures of both CNIs and their ratio."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from perf.burst import Moments
from perf.ratio import Ratio

Quantile = Callable[[Sequence[float]], float]


class Round(Protocol):
    """See ``perf.pods.Round``."""

    @property
    def moments(self) -> Moments: ...
    @property
    def cpu(self) -> tuple[float, float]: ...
    @property
    def calls(self) -> tuple[Mapping[str, int], Mapping[str, int]]: ...
    @property
    def left(self) -> tuple[str, ...]: ...


def quantile(q: float) -> Quantile:
    """Of sorted figures, the smallest that is not exceeded by the share ``q`` of them."""
    return lambda figures: figures[max(0, -int(-q * len(figures) // 1) - 1)]


QUANTILES: Mapping[str, Quantile] = {"p50": quantile(0.5), "p95": quantile(0.95), "max": quantile(1.0)}


def summary(moments: Moments) -> str:
    """One round in one line."""
    told = []
    for what, figures in (("Ready", moments.ready), ("gone", moments.gone)):
        told.append(f"{what} {', '.join(f'{n} {q(figures):.2f} s' for n, q in QUANTILES.items())}")
    return "; ".join(told)


def lines(mine: Sequence[Round], other: Sequence[Round], *, pods: int) -> Iterator[str]:
    """Medians of the rounds, and the median of the rounds' ratios with its 95 % interval."""
    yield f"{'':24} {'terway':>9} {'ptp':>9}   terway/ptp"
    for title, figure in _figures():
        ours, theirs = ([figure(r) for r in rounds] for rounds in (mine, other))
        medians = f"{statistics.median(ours):7.2f} s {statistics.median(theirs):7.2f} s"
        yield f"{title:24} {medians}   {Ratio.of(ours, theirs)}"
    for which, title in ((0, "to create"), (1, "to delete")):
        yield f"cloud calls {title}: {_calls([r.calls[which] for r in mine], pods)}"
    left = [line for r in (*mine, *other) for line in r.left]
    yield f"left behind: {'; '.join(left) or 'nothing'}"


def _figures() -> Iterator[tuple[str, Callable[[Round], float]]]:
    for name, q in QUANTILES.items():
        yield f"create to Ready, {name}", lambda r, q=q: q(r.moments.ready)  # type: ignore[misc]
    for name, q in QUANTILES.items():
        yield f"delete to gone, {name}", lambda r, q=q: q(r.moments.gone)  # type: ignore[misc]
    yield "CPU of nodes, creation", lambda r: r.cpu[0]
    yield "CPU of nodes, deletion", lambda r: r.cpu[1]


def _calls(rounds: Sequence[Mapping[str, int]], pods: int) -> str:
    """Per pod, and of which kind; the mean of the rounds."""
    total: Counter[str] = Counter()
    for calls in rounds:
        total.update(calls)
    each = ", ".join(f"{name} {count / len(rounds):g}" for name, count in sorted(total.items()))
    return f"{total.total() / len(rounds) / pods:.3f} per pod ({each or 'none'})"
