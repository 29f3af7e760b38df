"""What may fail without any pod's harm ends no start."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from control.agent.dataplane.fastpath import FastPathSwitch
from control.agent.dataplane.shaping import Shaping
from control.config import settings
from datapath.errors import KernelError
from tests.unit.control_agent.rig import Rig


def test_a_map_that_cannot_be_written_keeps_no_agent_from_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, tried = Rig(), []

    class Companion:
        own_addresses = ()

        def tell(self, prefixes: object) -> None:
            del prefixes

        def devices(self) -> frozenset[str]:
            return frozenset()

    class Filters:
        found = ()

        def look(self, terms: object) -> None:
            del terms

    def apply(self: FastPathSwitch) -> None:
        del self
        tried.append(1)
        raise KernelError("write row of map settings", errno=12, object="settings", detail="")

    switch = FastPathSwitch(
        companion=cast(Any, Companion()),
        journal=rig.journal,
        kubernetes=rig.kubernetes,
        settings=settings.parse([], {"NODE_NAME": "node1"}),
        host_stack_cidrs=(),
        shaping=Shaping(),
    )
    monkeypatch.setattr(switch, "_filters", Filters())
    monkeypatch.setattr(FastPathSwitch, "_apply", apply)
    rig.kubernetes.on_services(lambda: None)
    asyncio.run(switch.settle())
    assert tried
