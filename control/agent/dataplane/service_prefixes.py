"""Destinations that kube-proxy translates, which therefore are the stack's: known, remembered, or not known.

The API server says; its word is kept in the ledger, so that a restart needs no API server. A node that never
heard it cannot tell a Service from anything else, and routes until it can.

Where the cluster's range is known that is one prefix and the external addresses. Where it is not, each
ClusterIP counts by itself: tens of thousands. They stay single, so that a Service more or less is one row of
the map and one small entry of the ledger beside the large one, and nothing of that size is done on the loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network, summarize_address_range
from zlib import crc32

from control.agent.state.journal import Journal
from control.model.ids import Address
from control.model.pod import Kubernetes
from datapath.endpoint import Network

log = logging.getLogger(__name__)

FACT = "service_prefixes"
"""In the ledger: a JSON list of networks."""
SINCE = "service_prefixes_since"
"""In the ledger: addresses that came and went since FACT was written, and which FACT that was:
{"of": CRC-32, "added": [...], "removed": [...]}. The release before writes FACT alone and leaves this be."""
MANY = 512
"""More changes than that since FACT was written, and it is written anew. So it is for fewer addresses than
that, as the release before reads FACT alone."""
MOST_SINGLE = 64_000
"""Addresses beyond which they are put together to prefixes: the map has room for 65,536 rows, others too."""


@dataclass(frozen=True, slots=True)
class Destinations:
    """``ranges`` are few; ``addresses`` are those outside them."""

    ranges: tuple[Network, ...] = ()
    addresses: frozenset[Address] = frozenset()


class ServicePrefixes:
    """``refresh`` asks, ``known`` answers with what was heard last."""

    def __init__(self, journal: Journal, kubernetes: Kubernetes) -> None:
        self._journal = journal
        self._kubernetes = kubernetes
        self._heard: tuple[frozenset[Address], tuple[Network, ...]] | None = None
        self._written: Destinations | None = None
        """What FACT says."""
        self._mark = 0
        """CRC-32 of FACT."""
        self._known = self._remembered()

    def known(self) -> Destinations | None:
        """None if nobody has ever told."""
        return self._known

    async def refresh(self) -> None:
        """Learn what the API server has told by now."""
        addresses, cidrs = self._kubernetes.service_addresses(), self._kubernetes.service_cidrs() or ()
        if addresses is None or self._heard == (addresses, cidrs):
            return
        found = Destinations(cidrs, addresses)
        if len(addresses) > MOST_SINGLE:
            found = Destinations((*cidrs, *await asyncio.to_thread(_fewest, addresses)))
        self._heard = addresses, cidrs
        if found != self._known:
            await self._remember(found)
            self._known = found

    async def _remember(self, found: Destinations) -> None:
        written = self._written
        if written is not None and written.ranges == found.ranges and len(found.addresses) > MANY:
            added, removed = found.addresses - written.addresses, written.addresses - found.addresses
            if len(added) + len(removed) <= MANY:
                since = {"of": self._mark, "added": _texts(added), "removed": _texts(removed)}
                self._journal.note(SINCE, json.dumps(since))
                return
        text, self._mark = await asyncio.to_thread(_encoded, found)
        self._journal.note(FACT, text)
        self._journal.note(SINCE, "{}")
        self._written = found

    def _remembered(self) -> Destinations | None:
        """Of the release before as well. None for what another hand has altered: the API server is asked."""
        text = self._journal.facts.get(FACT)
        if text is None:
            return None
        try:
            networks = [ip_network(one) for one in json.loads(text)]
            since = json.loads(self._journal.facts.get(SINCE, "{}"))
            self._mark = crc32(text.encode())
            since = since if since.get("of") == self._mark else {}
            added, removed = (_addresses(since.get(word, ())) for word in ("added", "removed"))
        except (ValueError, TypeError, AttributeError) as exc:
            log.warning("what the ledger says of Services cannot be read: %s", exc)
            return None
        single = frozenset(one.network_address for one in networks if one.num_addresses == 1)
        ranges = tuple(one for one in networks if one.num_addresses > 1)
        self._written = Destinations(ranges, single)
        return Destinations(ranges, (single - removed) | added)


def _encoded(found: Destinations) -> tuple[str, int]:
    """For FACT, with its CRC-32."""
    # Not by networks of one address: these take ten times as long to make.
    text = json.dumps([*map(str, found.ranges), *(f"{one}/{one.max_prefixlen}" for one in found.addresses)])
    return text, crc32(text.encode())


def _texts(addresses: Iterable[Address]) -> list[str]:
    return sorted(map(str, addresses))


def _addresses(texts: Iterable[str]) -> frozenset[Address]:
    return frozenset(ip_network(one).network_address for one in texts)


def _fewest(addresses: Iterable[Address]) -> tuple[Network, ...]:
    """By spans: ``collapse_addresses`` takes seconds for as many."""
    found: list[Network] = []
    first: Address | None = None
    last: Address | None = None
    for one in sorted(addresses, key=lambda a: (a.version, int(a))):
        if first is not None and last is not None:
            if (last.version, int(last) + 1) == (one.version, int(one)):
                last = one
                continue
            found += summarize_address_range(first, last)
        first = last = one
    if first is not None and last is not None:
        found += summarize_address_range(first, last)
    return tuple(found)
