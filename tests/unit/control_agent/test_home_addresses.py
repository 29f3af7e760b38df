"""Which addresses are the node's own: what its primary ENI has by metadata's word, and is on its link."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from control.agent.reconcile.home_addresses import HomeAddresses
from control.agent.state.journal import Journal
from control.model.clock import SystemClock
from control.model.cloud import MetadataEni
from control.model.errors import MetadataError
from control.model.ids import Address, EniId, Mac, VSwitchId
from control.store.memory import MemoryLedger

MAC = Mac("00:16:3e:ff:00:01")
OWN, VIRTUAL = IPv4Address("10.0.0.10"), IPv4Address("10.0.0.99")
OWN_6 = IPv6Address("2001:db8::10")


@dataclass
class Link:
    there: tuple[Address, ...]

    def home_addresses(self, primary_mac: Mac) -> tuple[Address, ...]:
        assert primary_mac == MAC
        return self.there


@dataclass
class Shown:
    """Metadata's word on the primary ENI, None for silence."""

    ipv6: frozenset[IPv6Address] | None = frozenset()
    asked: int = 0
    ipv4: IPv4Address = OWN

    async def eni(self, mac: Mac, *, ipv6: bool) -> MetadataEni:
        del ipv6
        self.asked += 1
        if self.ipv6 is None:
            raise MetadataError("no answer")
        cidr = IPv4Network("10.0.0.0/24")
        return MetadataEni(
            EniId("eni-1"),
            mac,
            self.ipv4,
            frozenset({self.ipv4}),
            cidr,
            IPv4Address("10.0.0.253"),
            VSwitchId("v"),
            self.ipv6,
        )


@dataclass
class Node:
    link: Link
    shown: Shown = field(default_factory=Shown)
    clock: SystemClock = field(default_factory=SystemClock)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)

    def started(self) -> HomeAddresses:
        journal = Journal(self.ledger, self.clock, cooldown=30.0)
        return HomeAddresses(kernel=self.link, metadata=self.shown, journal=journal, mac=MAC, dual=True)  # type: ignore[arg-type]


def test_a_virtual_address_is_not_the_nodes_own() -> None:
    home = Node(Link((OWN, VIRTUAL))).started()
    assert asyncio.run(home.learn()) == (OWN,)


def test_an_address_that_comes_later_is_followed_and_told() -> None:
    async def scenario() -> None:
        node = Node(Link((OWN,)))
        home = node.started()
        assert await home.learn() == (OWN,)
        told: list[tuple[Address, ...]] = []
        home.on_change = told.append
        node.link.there = (OWN, OWN_6)
        await home.follow()
        assert told == [], "metadata does not know it yet"
        node.shown.ipv6 = frozenset({OWN_6})
        while not told:
            node.clock.advance(10.0)
            await home.follow()
        assert told == [(OWN, OWN_6)]
        node.link.there = (OWN,)
        await home.follow()
        assert home.own == (OWN,)

    asyncio.run(scenario())


def test_metadata_is_asked_ever_more_seldom_about_what_it_does_not_know() -> None:
    async def scenario() -> None:
        node = Node(Link((OWN, VIRTUAL)))
        home = node.started()
        await home.learn()
        for _ in range(360):
            node.clock.advance(10.0)
            await home.follow()
        assert node.shown.asked <= 13

    asyncio.run(scenario())


def test_a_start_without_metadata_goes_by_what_it_said_before() -> None:
    async def scenario() -> None:
        node = Node(Link((VIRTUAL, OWN)))
        assert await node.started().learn() == (OWN,)
        node.shown.ipv6 = None
        assert await node.started().learn() == (OWN,)
        strange = Node(Link((OWN, VIRTUAL)), Shown(None))
        assert await strange.started().learn() == (OWN,), "nobody has ever said: the first one"

    asyncio.run(scenario())


NEW = IPv4Address("10.0.0.11")


def test_an_address_that_was_changed_while_no_agent_ran_is_not_taken_for_a_virtual_one() -> None:
    """ECS takes another primary address for an instance that is stopped; keepalived was first on the link."""

    async def scenario() -> None:
        node = Node(Link((OWN,)))
        await node.started().learn()
        node.shown.ipv4 = NEW
        node.link.there = (VIRTUAL, NEW)
        assert await node.started().learn() == (NEW,)
        node.shown.ipv6 = None
        assert await node.started().learn() == (NEW,)

    asyncio.run(scenario())


def test_an_address_that_is_changed_under_the_agent_is_followed() -> None:
    async def scenario() -> None:
        node = Node(Link((OWN,)))
        home = node.started()
        await home.learn()
        told: list[tuple[Address, ...]] = []
        home.on_change = told.append
        node.shown.ipv4 = NEW
        node.link.there = ()
        await home.follow()
        assert home.own == (OWN,), "for a moment there is none"
        node.link.there = (VIRTUAL, NEW)
        await home.follow()
        assert told == [(NEW,)]

    asyncio.run(scenario())
