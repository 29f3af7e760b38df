"""The fixture ``cloud``: a fresh cloud per test, on ports of its own, without the environment's proxies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.clock import LabClock
from lab.cloud.metadata import MetadataServer
from lab.cloud.openapi import OpenApiServer
from lab.cloud.state import CloudState
from tests.unit.lab_cloud.bench import Bench, spec

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def clock() -> LabClock:
    return LabClock()


@pytest.fixture
def state(clock: LabClock) -> CloudState:
    """Without HTTP."""
    return CloudState(spec(), clock)


@pytest.fixture
def cloud(clock: LabClock, state: CloudState) -> Iterator[Bench]:
    me: list[str | None] = ["i-node1"]
    openapi = OpenApiServer(state)
    metadata = MetadataServer(state, instance_of=lambda _: me[0])
    bench = Bench(state, clock, openapi, metadata, me=me)
    try:
        bench.port = openapi.start("127.0.0.1", 0)
        bench.metadata_port = metadata.start("127.0.0.1", 0)
        yield bench
    finally:
        metadata.stop()
        openapi.stop()
