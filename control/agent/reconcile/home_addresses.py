"""The node's own addresses: those on its primary ENI's link that metadata says are that ENI's.

A virtual address (keepalived's, a load balancer's) is on the same link today and another node's tomorrow, so
it is not the node's own, and no ENI of the pods gets it. Addresses also come after the start: IPv6 by a
router or DHCP. The kernel's list is looked at with every repair; metadata is asked when there is something on
it that it has not been asked about, more and more seldom while it knows nothing of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from ipaddress import ip_address

from control.agent.dataplane.ports import HomeKernel
from control.agent.state.journal import Journal
from control.model.cloud import Metadata
from control.model.errors import MetadataError
from control.model.ids import Address, Mac

log = logging.getLogger(__name__)

FACT = "home_addresses"
"""What metadata said last: a start does not wait for its word."""
SOONEST, LATEST = 10.0, 600.0
"""Seconds between two questions to metadata about an address that it does not know."""


class HomeAddresses:
    """``own`` are the node's own, IPv4 first; IPv4 alone unless ``dual``. ``now`` in seconds."""

    def __init__(
        self, *, kernel: HomeKernel, metadata: Metadata, journal: Journal, mac: Mac, dual: bool
    ) -> None:
        self._kernel = kernel
        self._metadata = metadata
        self._journal = journal
        self._mac = mac
        self._dual = dual
        self._shown = _remembered(journal.read_fact(FACT))
        self._asked_at, self._pause = float("-inf"), SOONEST
        self._strange: frozenset[Address] = frozenset()
        self.own: tuple[Address, ...] = ()
        self.on_change: Callable[[tuple[Address, ...]], None] = _nothing

    async def learn(self) -> tuple[Address, ...]:
        """At the start. Raises KernelError if the link is not there, or has no IPv4 address."""
        there = self._kernel.home_addresses(self._mac)
        if not any(a in self._shown for a in there if a.version == 4):
            await self._ask()
        self.own = self._choose(there)
        self._strange = frozenset(there) - self._shown
        return self.own

    async def follow(self) -> None:
        """With every repair. Raises KernelError as ``learn``."""
        there = self._kernel.home_addresses(self._mac)
        strange = frozenset(a for a in there if self._dual or a.version == 4) - self._shown
        if strange != self._strange:
            self._pause = SOONEST
        if strange and (strange != self._strange or self._journal.now() - self._asked_at >= self._pause):
            self._pause = min(2 * self._pause, LATEST)
            await self._ask()
        self._strange = strange
        own = self._choose(there)
        if own != self.own:
            log.warning("the node's own addresses are %s, and were %s", _text(own), _text(self.own))
            self.own = own
            self.on_change(own)

    async def _ask(self) -> None:
        """Its silence leaves what it said before."""
        self._asked_at = self._journal.now()
        try:
            eni = await self._metadata.eni(self._mac, ipv6=self._dual)
        except MetadataError as exc:
            log.info("which addresses are the node's own is asked again later: %s", exc)
            return
        if eni is None:
            return
        self._shown = frozenset({eni.primary_ip}) | eni.ipv6
        self._journal.note(FACT, json.dumps(sorted(map(str, self._shown))))

    def _choose(self, there: tuple[Address, ...]) -> tuple[Address, ...]:
        """What is there and shown. Of IPv4 there must be one: while none is shown, what was, or the first."""
        ipv4 = [a for a in there if a.version == 4]
        found = [a for a in ipv4 if a in self._shown] or [a for a in ipv4 if a in self.own] or ipv4[:1]
        if not found:
            found = [a for a in self.own if a.version == 4]
        ipv6 = [a for a in there if a.version == 6 and a in self._shown]
        return (*found, *ipv6) if self._dual else tuple(found)


def _remembered(fact: object) -> frozenset[Address]:
    try:
        return frozenset(map(ip_address, fact)) if isinstance(fact, list) else frozenset()
    except ValueError:  # another version's: it is asked for again
        return frozenset()


def _text(addresses: tuple[Address, ...]) -> str:
    return ", ".join(map(str, addresses)) or "none"


def _nothing(addresses: tuple[Address, ...]) -> None:
    del addresses
