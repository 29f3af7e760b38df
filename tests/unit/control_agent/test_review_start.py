"""A start that somebody else holds up: tried again, and no oftener than who refuses can bear."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from control.agent.main import Daemon
from control.model.errors import Cause, CloudError, ConfigError, MetadataError, TerwayError


@dataclass
class StubNode:
    """Refuses ``refusals`` in turn and then for good; remembers the pauses in between."""

    refusals: list[TerwayError]
    pauses: list[float] = field(default_factory=list)

    async def start(self, boot_id: str) -> None:
        assert boot_id
        raise self.refusals.pop(0) if self.refusals else ConfigError("the end")

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def _pauses(*refusals: TerwayError) -> list[float]:
    node = StubNode(list(refusals))
    with pytest.raises(ConfigError, match="the end"):
        asyncio.run(Daemon(cast(Any, None))._start(cast(Any, node)))
    return node.pauses


def _refused(cause: Cause, retry_after: float | None = None) -> CloudError:
    return CloudError("no", cause=cause, action="DescribeInstanceTypes", retry_after=retry_after)


def test_a_cloud_that_refuses_is_asked_less_and_less() -> None:
    """500 nodes with a wrong RAM role must not call 500 times a second."""
    pauses = _pauses(*(_refused(Cause.CREDENTIALS) for _ in range(12)))
    assert pauses == sorted(pauses)
    assert pauses[0] == 1.0
    assert 20.0 <= pauses[-1] <= 60.0


def test_a_throttled_start_waits_as_long_as_it_is_told() -> None:
    assert _pauses(_refused(Cause.THROTTLED, 37.0)) == [37.0]


def test_metadata_is_cheap_and_asked_every_second() -> None:
    assert _pauses(*(MetadataError("away") for _ in range(5))) == [1.0] * 5
