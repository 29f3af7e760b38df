"""A plugin of pytest that says at its end what each part of ``./run test`` took, beside the minutes it has.

The minutes are those of all workers together, divided by their number, so that they add up to the run's own.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.suites import budget


class Parts:
    """Sums up the durations that a run's reports carry, set-up and teardown included."""

    def __init__(self, workers: int) -> None:
        self._budget = budget.read()
        self._workers = workers
        self._seconds: dict[str, float] = defaultdict(float)
        self._tests: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        part = self._budget.part_of(report.nodeid)
        if part is None:
            return
        self._seconds[part.name] += report.duration
        self._tests[part.name] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        minutes = {name: seconds / 60 / self._workers for name, seconds in self._seconds.items()}
        if file := os.environ.get(budget.PART_TIMES):
            Path(file).write_text(json.dumps(minutes))
        if len(minutes) < 2:
            return
        terminalreporter.write_line("")
        for part in self._budget.parts:
            if part.name in minutes:
                terminalreporter.write_line(
                    f"{part.name:16} {self._tests[part.name]:5} tests {minutes[part.name]:6.1f} min"
                    f" of {part.minutes:g}{over(minutes[part.name], part.minutes)}"
                )


def over(took: float, minutes: float) -> str:
    """What a table says beside a figure. A busy machine is no failure, so this is all that comes of it."""
    return "  over its budget" if took > minutes else ""


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(Parts(getattr(config.option, "numprocesses", None) or 1))
