"""The ledger, events and annotations, and the node's files: how each fares, read when scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from control.agent.state.journal import Journal
from control.process.keeper import Keeper


class NodeCollector:
    """``notes`` counts events and annotations by what became of them."""

    def __init__(self, journal: Journal, notes: Callable[[], Mapping[str, int]], files: Keeper) -> None:
        self._journal = journal
        self._notes = notes
        self._files = files

    def collect(self) -> Iterator[Metric]:
        text = "1 if the node's ledger can be written; else every ADD fails"
        yield GaugeMetricFamily("terway_ledger_writable", text, value=int(self._journal.trouble is None))
        text = "Events and annotations by outcome; refused: for good, dropped: too many waited"
        notes = CounterMetricFamily("terway_kubernetes_notes", text, labels=["outcome"])
        for outcome, count in self._notes().items():
            notes.add_metric([outcome], count)
        yield notes
        text = "Times that a file or socket of the agent was found spoiled and put back, or told of"
        mends = CounterMetricFamily("terway_node_files_mended", text, labels=["thing"])
        for thing, count in self._files.mends().items():
            mends.add_metric([thing], count)
        yield mends
        text = "1 while a file or socket of the agent is spoiled and could not be put back"
        spoiled = GaugeMetricFamily("terway_node_file_spoiled", text, labels=["thing"])
        for thing, troubled in self._files.troubled().items():
            spoiled.add_metric([thing], int(troubled))
        yield spoiled
