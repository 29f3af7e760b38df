"""A ledger that came with a copied disk: nothing of the other node's records is carried out."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

from control.agent.state.known import GROUPS, Known
from control.model.cloud import Metadata, NodeIdentity
from control.model.errors import MetadataError
from control.model.ids import InstanceId
from tests.unit.control_agent.rig import NODE, Rig


class Says:
    def __init__(self, identity: NodeIdentity | None) -> None:
        self._identity = identity

    async def identity(self) -> NodeIdentity:
        if self._identity is None:
            raise MetadataError("away")
        return self._identity


def ask(known: Known, identity: NodeIdentity | None) -> NodeIdentity:
    return asyncio.run(known.identity(cast(Metadata, Says(identity))))


def test_records_of_another_instance_are_forgotten() -> None:
    async def filled() -> Rig:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        rig.journal.remember(GROUPS, '["sg-1"]')
        return rig

    rig = asyncio.run(filled())
    known, book = Known(rig.journal), rig.journal.book
    for _ in range(2):
        assert ask(known, NODE) == NODE
    assert book.attachments, "its own ledger"
    assert ask(known, None) == NODE, "metadata is away, and says nothing else"
    assert book.attachments
    copy = replace(NODE, instance_id=InstanceId("i-copy"))
    assert ask(known, copy) == copy
    rows: list[Any] = [book.attachments, book.addresses, book.enis, book.operations]
    assert not any(rows)
    left = rig.ledger.load()
    assert not any([left.enis, left.addresses, left.attachments, left.operations])
    assert GROUPS not in rig.journal.facts
    assert GROUPS not in left.facts
    assert NODE.instance_id in known.disowned
