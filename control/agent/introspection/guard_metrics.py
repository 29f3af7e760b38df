"""What the node's table of nf_tables refuses, as a metric, read when somebody scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric

from control.model.errors import TerwayError


class GuardCollector:
    """``counts``: packets and meaning by reason."""

    def __init__(self, counts: Callable[[], Mapping[str, tuple[int, str]]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        text = "Packets that pods may not send, or that are for no pod, by reason (docs/datapath.md)"
        found = CounterMetricFamily("terway_guard_packets", text, labels=["reason"])
        try:
            for reason, (packets, _) in self._counts().items():
                found.add_metric([reason], packets)
        except TerwayError:
            return
        yield found
