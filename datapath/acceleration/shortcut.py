"""What a mode tells of, so that something else may carry packets past the host's stack.

A mode makes routes; they alone are enough. A ``Shortcut`` is told of every pod and ENI that is there, and
adds or takes away what it needs. It never fails a pod: who has no shortcut goes by the routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from datapath.difference import Difference
from datapath.endpoint import AppliedVeth, Endpoint, EniLink
from datapath.netlink.wire import Address
from datapath.pausing import Pausing

UNHOOKED = "the place at the pod's host link is another plugin's"
"""Why no program checks what a pod sends whose link the chained bandwidth plugin shapes."""


class Now(Protocol):
    """Who stands by what was seen: pods and ENIs come and go between two steps of ``mending``."""

    def step(self) -> AbstractContextManager[object]:
        """Held for the length of a step: nobody takes anything away meanwhile."""
        ...

    def has_pod(self, ifindex: int, endpoint: Endpoint) -> bool: ...

    def has_link(self, ifindex: int) -> bool:
        """The host link is a standing pod's, whichever."""
        ...

    def has_eni(self, ifindex: int, eni: EniLink) -> bool: ...

    def has_device(self, ifindex: int) -> bool:
        """It is an ENI's, whichever."""
        ...


class AsSeen:
    """Nobody comes or goes."""

    def __init__(self, enis: Mapping[int, EniLink]) -> None:
        self._enis = enis

    def step(self) -> AbstractContextManager[object]:
        return nullcontext()

    def has_pod(self, ifindex: int, endpoint: Endpoint) -> bool:
        del ifindex, endpoint
        return True

    def has_link(self, ifindex: int) -> bool:
        del ifindex
        return False

    def has_eni(self, ifindex: int, eni: EniLink) -> bool:
        return self._enis.get(ifindex) == eni

    def has_device(self, ifindex: int) -> bool:
        return ifindex in self._enis


@dataclass(frozen=True, slots=True)
class Present:
    """Everything that is there. ``pods`` and ``enis`` are keyed by device.

    ``links``: the host links of all pods, also of those that nobody knows any more.
    """

    pods: Mapping[int, tuple[Endpoint, AppliedVeth]]
    enis: Mapping[int, EniLink]
    links: frozenset[int]
    carriers: Mapping[int, bool] | None = None
    """Which links have a carrier; None: nobody has looked."""


class Shortcut(Protocol):
    """Safe from several threads; every verb is idempotent."""

    def node_ready(self, home: int) -> None:
        """``home`` is the device of the node's own ENI."""
        ...

    def lacking(self) -> str:
        """Why there are no programs at all; "" if there are."""
        ...

    def pod_joined(self, endpoint: Endpoint, applied: AppliedVeth) -> str:
        """Its routes are in place. Why no program checks what it sends; "" if one does."""
        ...

    def pod_leaves(self, host_ifindex: int) -> None:
        """Its routes are about to go."""
        ...

    def addresses_free(self, addresses: Iterable[Address]) -> None:
        """Their pod's link went by itself, and nobody else has them."""
        ...

    def eni_ready(self, eni: EniLink, ifindex: int) -> None: ...

    def eni_leaves(self, ifindex: int) -> None: ...

    def carried(self) -> Mapping[int, frozenset[Address]]:
        """Addresses that it carries packets for, by host link. It may still know links that are gone."""
        ...

    def mending(self, present: Present, now: Now) -> Pausing[list[Difference]]:
        """Bring everything in line, each object by itself and in a step of its own; says what was not."""
        ...

    def check(self, endpoint: Endpoint, applied: AppliedVeth) -> tuple[Difference, ...]:
        """What it holds of this pod and should not, or should and does not. Changes nothing.

        Empty as well for a node that has no fast path: it is routed by right.
        """
        ...


class NoShortcut:
    """Routes alone."""

    def node_ready(self, home: int) -> None:
        pass

    def lacking(self) -> str:
        return "there is no eBPF here"

    def pod_joined(self, endpoint: Endpoint, applied: AppliedVeth) -> str:
        del endpoint, applied
        return self.lacking()

    def pod_leaves(self, host_ifindex: int) -> None:
        pass

    def addresses_free(self, addresses: Iterable[Address]) -> None:
        pass

    def eni_ready(self, eni: EniLink, ifindex: int) -> None:
        pass

    def eni_leaves(self, ifindex: int) -> None:
        pass

    def carried(self) -> Mapping[int, frozenset[Address]]:
        return {}

    def mending(self, present: Present, now: Now) -> Pausing[list[Difference]]:
        del present, now
        yield
        return []

    def check(self, endpoint: Endpoint, applied: AppliedVeth) -> tuple[Difference, ...]:
        del endpoint, applied
        return ()
