"""What every mode implements, and what all of them share.

A mode is a package beside this file and a line of ``table``. Verbs that most modes have nothing to do for
have a body here, so a mode that derives from ``ModePort`` writes only what it does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from datapath import namespace, sysctl
from datapath.acceleration.shortcut import Shortcut
from datapath.difference import Difference
from datapath.endpoint import Applied, Carrier, Endpoint, EndpointId, EndpointKey, Sighting, Uplink
from datapath.enforcement.guard import Guard
from datapath.enforcement.locks import Lock
from datapath.netlink.memory import Memory
from datapath.netlink.socket import Pool
from datapath.netlink.wire import Address, Network
from datapath.pausing import Pausing
from datapath.pod.reaper import Reaper


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What every mode goes by, kept once: ``ModeContext`` has it. The next repair follows a change."""

    addresses: tuple[Address, ...] = ()
    """The node's own, which each shared ENI has as well."""
    families: frozenset[int] = frozenset()
    """Of pods: AF_INET, and AF_INET6 if they have IPv6."""
    home: int = 0
    """The link of the node's own ENI, 0 while nobody has told."""
    closed: tuple[Network, ...] = ()
    """IPv4 destinations that no pod may send to."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """To what the kernel has told. ``mended``: what was put right at once. ``repair``: a repair is due."""

    mended: tuple[Difference, ...] = ()
    repair: bool = False


class ModePort(Protocol):
    """A network mode: verbs per endpoint, all idempotent, all safe from several threads.

    ``netns`` is an open file descriptor of the pod's network namespace; the caller owns it.
    Failures are ``datapath.errors.KernelError``s that name the object.
    """

    uplinks: ClassVar[frozenset[type[Uplink]]]
    """The kinds of uplink that its endpoints leave by."""
    locks: ClassVar[tuple[Lock, ...]]
    """What can refuse lies of its pods. Whether that is enough is said by ``enforcement.locks``."""

    def close(self) -> None:
        """Give back what is the mode's own, and nothing of its context."""
        return

    # Node

    def prepare_node(self) -> None:
        """Make the node ready, by the facts in the context."""
        return

    def events_filenos(self) -> tuple[int, ...]:
        """One is readable when somebody has changed something that may be the mode's."""
        return ()

    def react(self) -> Reaction:
        """Put right at once what can be by what the kernel has told. Never waits."""
        return Reaction()

    @property
    def foreign(self) -> tuple[Difference, ...]:
        """What others have done that no repair undoes, as of the last one, with what helps."""
        return ()

    # Uplinks

    def prepare_uplink(self, uplink: Uplink) -> int:
        """Make the device ready for endpoints of the mode; its index. ENODEV: no link has the MAC."""
        ...

    def forget_uplink(self, mac: str) -> None:
        """Remove what the node has for it; succeeds for one that is gone or unknown."""
        del mac
        return

    def shares(self, mac: str) -> bool:
        """The ENI was made ready by this mode for whoever has an address of it."""
        del mac
        return False

    @property
    def taken(self) -> frozenset[str]:
        """MACs of the ENIs that pods of this mode have for themselves, as of the last look at the kernel."""
        return frozenset()

    def takes(self, mac: str) -> bool:
        """A pod of this mode has the ENI for itself: the kernel is asked."""
        del mac
        return False

    # Endpoints

    def setup(self, endpoint: Endpoint, netns: int) -> Applied:
        """Make it so and verify by reading back. On failure nothing of the endpoint is left.

        Raises NameTaken if ``endpoint.ifname`` exists in the namespace and is not ours, AddressTaken if a
        running pod has one of the addresses.
        """
        ...

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        """Compare with the kernel; empty if all is as ``setup`` left it. ``netns`` None: host side only."""
        ...

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        """Remove all of it; succeeds for the absent. What is another sandbox's stays."""
        ...

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        """Remove an endpoint of which no more is known; the addresses it had. Succeeds for the absent."""
        ...

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        """Whether the kernel shows each. Never raises: what cannot be looked at is UNKNOWN."""
        ...

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        """Every live endpoint of the mode, recorded or not, with the addresses it has.

        ``lately``: as the last round of repair saw them, if that will do: nobody came or went since.
        """
        ...

    def repairing(self, endpoints: Sequence[Endpoint]) -> Pausing[tuple[Difference, ...]]:
        """Bring the host's side of ``endpoints``, all of this mode that should exist, back in order.

        In steps of some milliseconds, between which endpoints may come and go. Says what was not in order.
        """
        ...


@dataclass(slots=True)
class ModeContext:
    """One node's means, for all modes. ``netns`` is the node's namespace, None for the process's own."""

    netns: int | None
    sockets: Pool
    reaper: Reaper
    guard: Guard
    """What refuses that pods send as somebody else; it says itself whether it is in force."""
    shortcut: Shortcut
    """Is told of what comes and goes."""
    facts: NodeFacts = NodeFacts()
    memory: Memory = field(default_factory=Memory)
    """What the kernel has listed: one mode's round need not ask what another's has just asked."""
    apart: set[int] = field(default_factory=set)
    """Links that pods have for themselves, as of the last look: their MAC is what the pod makes of it."""

    def inside(self) -> AbstractContextManager[None]:
        """The node's namespace for this thread, for sysctls."""
        return nullcontext() if self.netns is None else namespace.entered(self.netns)

    def has_ipv6(self) -> bool:
        """Whether the kernel has IPv6: not if it was built or started (``ipv6.disable=1``) without.

        If not, nothing is made, listed or removed that is of it.
        """
        with self.inside():
            return os.path.isdir(sysctl.path("net/ipv6/conf"))
