"""Whether the ledger can be written, and what became of events and annotations, read when scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from control.agent.state.journal import Journal


class NodeCollector:
    """``notes`` counts events and annotations by what became of them."""

    def __init__(self, journal: Journal, notes: Callable[[], Mapping[str, int]]) -> None:
        self._journal = journal
        self._notes = notes

    def collect(self) -> Iterator[Metric]:
        text = "1 if the node's ledger can be written; else every ADD fails"
        yield GaugeMetricFamily("terway_ledger_writable", text, value=int(self._journal.trouble is None))
        text = "Events and annotations by outcome; refused: for good, dropped: too many waited"
        notes = CounterMetricFamily("terway_kubernetes_notes", text, labels=["outcome"])
        for outcome, count in self._notes().items():
            notes.add_metric([outcome], count)
        yield notes
