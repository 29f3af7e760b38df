"""What is held off at the moment, by what it is about and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from control.ipam.rejections import Rejections
from control.model.clock import Clock


class RejectionCollector:
    """Labels are words of ``ScopeKind`` and ``Cause``, so that their number is bounded."""

    def __init__(self, rejections: Rejections, clock: Clock) -> None:
        self._rejections = rejections
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        text = "ENIs, vSwitches and kinds of call that are left alone for a while since they were refused"
        held_off = GaugeMetricFamily("terway_rejections", text, labels=["scope", "cause"])
        now = self._clock.now()
        active = list(self._rejections.all(now).items())
        for (scope, cause), count in Counter((s.kind, r.error.cause) for s, r in active).items():
            held_off.add_metric([scope.value, cause.value], count)
        yield held_off
