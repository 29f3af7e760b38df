"""Which addresses kube-proxy translates, from the Services as the watch shows them.

==================================  ==================================================================
of a Service                        translated on every node
==================================  ==================================================================
spec.clusterIPs                     yes; kept here only if in no known range, for a range says it shorter
spec.externalIPs                    yes
status.loadBalancer.ingress[].ip    yes, but for ipMode "Proxy", whose packets go to the balancer itself
headless, or type ExternalName      nothing at all, externalIPs included
==================================  ==================================================================

As in pkg/proxy/serviceport.go of Kubernetes. Services that name another proxy (label
service.kubernetes.io/service-proxy-name) count like all others: that proxy may work in the stack as well.
Of a Service without such addresses nothing is kept, so with a known range 10,000 of them cost nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from control.model.ids import Address
from control.model.pod import Network

_HEADLESS = "None"
_BY_BALANCER = "Proxy"


@dataclass(frozen=True, slots=True)
class Translated:
    """``service`` is namespace/name; ``addresses`` holds each one once."""

    service: str
    addresses: tuple[Address, ...]


def parse_service(value: Mapping[str, Any], ranges: tuple[Network, ...]) -> Translated:
    """Without ClusterIPs within ``ranges``. Raises KeyError or TypeError if ``value`` is not a Service."""
    metadata = value["metadata"]
    return Translated(
        f"{metadata['namespace']}/{metadata['name']}", tuple(dict.fromkeys(_addresses(value, ranges)))
    )


def parse_address(text: str) -> Address | None:
    """As kube-proxy reads it: 010.0.0.1 is 10.0.0.1, ::ffff:10.0.0.1 too. None: it ignores it as well."""
    if ":" not in text:
        text = ".".join(part.lstrip("0") or part[:1] for part in text.split("."))
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _addresses(value: Mapping[str, Any], ranges: tuple[Network, ...]) -> Iterator[Address]:
    spec = value.get("spec") or {}
    own = spec.get("clusterIPs") or [spec.get("clusterIP") or _HEADLESS]
    if own[0] == _HEADLESS or spec.get("type") == "ExternalName":
        return
    yield from (address for address in _parsed(own) if not any(address in each for each in ranges))
    yield from _parsed(spec.get("externalIPs") or ())
    balancer = (value.get("status") or {}).get("loadBalancer") or {}
    for ingress in balancer.get("ingress") or ():
        if ingress.get("ipMode") != _BY_BALANCER:
            yield from _parsed([ingress.get("ip") or ""])


def _parsed(texts: Iterable[str]) -> Iterator[Address]:
    for text in texts:
        address = parse_address(text)
        if address is not None:
            yield address


def _nothing() -> None:
    pass


class ServiceCache:
    """Implements ``control.kube.watcher.Replica``. Any thread may read ``addresses``."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[Address, ...]] = {}
        """By service; none is empty."""
        self._uses: Counter[Address] = Counter()
        self._lock = threading.Lock()
        """Of what follows: a reader makes the set, and makes none that nobody reads."""
        self._addresses: frozenset[Address] | None = None
        self._stale = False
        self._position = 0
        self.ranges: tuple[Network, ...] = ()
        """Whose ClusterIPs are left out. Set by the watcher's thread, before a list."""
        self.on_change: Callable[[], None] = _nothing
        """Called by the watcher's thread, after the change."""

    @property
    def addresses(self) -> frozenset[Address] | None:
        """As of now, the same set as long as nothing changes; None before the first list."""
        with self._lock:
            if self._stale:
                # From a dictionary, whose hashes are there already: 60,000 take a millisecond.
                self._addresses, self._stale = frozenset(self._uses), False
            return self._addresses

    @property
    def position(self) -> int:
        return self._position

    def read(self, value: Mapping[str, Any]) -> Translated:
        return parse_service(value, self.ranges)

    def replace(self, things: Iterable[Translated], position: int) -> None:
        known = {address: address for address in self._uses}  # the same objects: sets compare these at once
        self._of = {
            thing.service: tuple(known.get(one, one) for one in thing.addresses)
            for thing in things
            if thing.addresses
        }
        uses = Counter(address for addresses in self._of.values() for address in addresses)
        with self._lock:
            self._uses, self._stale = uses, self._addresses is None or uses.keys() != self._addresses
        self._position = position
        self.on_change()

    def put(self, thing: Translated, revision: int) -> None:
        self._position = max(self._position, revision)
        before = self._of.pop(thing.service, ())
        if thing.addresses:
            self._of[thing.service] = thing.addresses
        if thing.addresses != before:
            with self._lock:
                self._uses.update(thing.addresses)
                self._drop(before)
                self._stale = True
            self.on_change()

    def remove(self, thing: Translated, revision: int) -> None:
        self.put(Translated(thing.service, ()), revision)

    def advance(self, revision: int) -> None:
        self._position = max(self._position, revision)

    def _drop(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            self._uses[address] -= 1
            if not self._uses[address]:
                del self._uses[address]
