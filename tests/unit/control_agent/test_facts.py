"""Facts of the ledger that another release or another hand has written: no start fails by them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from control.agent.cni.conf_file import remembered
from control.agent.dataplane import service_prefixes
from control.agent.dataplane.service_prefixes import ServicePrefixes
from control.agent.node_files import CHAIN
from control.agent.reconcile import home_addresses
from control.agent.reconcile.home_addresses import HomeAddresses
from control.agent.state.known import GROUPS, IDENTITY, LIMITS, Known
from control.model.clock import SystemClock
from control.model.cloud import Cloud
from control.model.ids import ClientToken, EniId
from control.model.records import Changes, Operation, OperationKind
from tests.unit.control_agent.rig import LIMITS as OF_TYPE
from tests.unit.control_agent.rig import NODE, Rig
from tests.unit.control_agent.test_known_identity import ask

STRANGE = (
    "",
    "{",
    "[7, [",
    "7",
    '"x"',
    "null",
    "{}",
    "[]",
    '{"mac": 1}',
    '{"limits": 3, "at": null}',
    "[[1]]",
)


class Says:
    """What the cloud is asked for."""

    async def instance_limits(self, instance_type: str) -> Any:
        del instance_type
        return OF_TYPE


@pytest.mark.parametrize("text", STRANGE)
def test_what_cannot_be_read_is_asked_for_again(text: str) -> None:
    rig = Rig()
    for fact in (IDENTITY, LIMITS, CHAIN, home_addresses.FACT, service_prefixes.FACT):
        rig.journal.remember(fact, text)
    known = Known(rig.journal)
    assert known.primary_mac() is None
    assert known.limits_are_old()
    assert asyncio.run(known.limits(cast(Cloud, Says()), OF_TYPE.instance_type)) == OF_TYPE
    assert ask(known, NODE) == NODE
    assert not known.disowned
    assert remembered(rig.journal.read_fact(CHAIN)) in (None, (), ("[1]",))
    HomeAddresses(
        kernel=cast(Any, None), metadata=cast(Any, None), journal=rig.journal, mac=NODE.mac, dual=False
    )
    ServicePrefixes(rig.journal, rig.kubernetes)


@pytest.mark.parametrize("text", ["", "{", "7", "{}", "null"])
def test_security_groups_that_cannot_be_read_are_asked_for_again(text: str) -> None:
    rig = Rig()
    rig.journal.remember(GROUPS, text)
    found = asyncio.run(Known(rig.journal).primary_groups(rig.cloud, NODE))
    assert found
    assert asyncio.run(Known(rig.journal).primary_groups(cast(Cloud, None), NODE)) == found


def test_no_time_of_the_ledger_lies_ahead_of_the_clock() -> None:
    """The wall clock was set back by a day."""

    async def filled() -> Rig:
        rig = Rig(max_pool=0)
        rig.clock.advance(86_400)
        await rig.add("web-0")
        release = Operation(ClientToken("t"), OperationKind.RELEASE_ENI, rig.clock.now(), EniId("eni-x"))
        rig.journal.record(Changes(operations=(release,)))
        return rig

    rig = asyncio.run(filled())
    new = Rig(ledger=rig.ledger, account=rig.account)
    book, now = new.journal.book, SystemClock().now()
    (record,) = book.attachments.values()
    times = [record.since, record.made, *(e.since for e in book.enis.values())]
    times += [a.since for a in book.addresses.values()] + [o.since for o in book.operations.values()]
    assert all(time <= now for time in times), times
