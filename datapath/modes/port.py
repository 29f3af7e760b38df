"""What every mode implements, and what all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from datapath import namespace
from datapath.acceleration.shortcut import Shortcut
from datapath.difference import Difference
from datapath.endpoint import Applied, Carrier, Endpoint, EndpointId, EndpointKey, Sighting
from datapath.enforcement.guard import Guard
from datapath.netlink.socket import Pool
from datapath.netlink.wire import Address
from datapath.pausing import Pausing
from datapath.pod.reaper import Reaper


class ModePort(Protocol):
    """A network mode: verbs per endpoint, all idempotent, all safe from several threads.

    ``netns`` is an open file descriptor of the pod's network namespace; the caller owns it.
    Failures are ``datapath.errors.KernelError``s that name the object.
    """

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

    def take_down(self, who: EndpointId) -> tuple[Address, ...]:
        """Remove an endpoint of which no more is known; the addresses it had. Succeeds for the absent."""
        ...

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        """Whether the kernel shows each. Never raises: what cannot be looked at is UNKNOWN."""
        ...

    def carriers(self) -> tuple[Carrier, ...]:
        """Every live endpoint of the mode, recorded or not, with the addresses it has."""
        ...

    def repairing(self, endpoints: Sequence[Endpoint]) -> Pausing[tuple[Difference, ...]]:
        """Bring the host's side of ``endpoints``, all of this mode that should exist, back in order.

        In steps of some milliseconds, between which endpoints may come and go. Says what was not in order.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModeContext:
    """One node's means, for all modes. ``netns`` is the node's namespace, None for the process's own."""

    netns: int | None
    sockets: Pool
    reaper: Reaper
    guard: Guard
    """What refuses that pods send as somebody else; it says itself whether it is in force."""
    shortcut: Shortcut
    """Is told of what comes and goes."""
    apart: set[int] = field(default_factory=set)
    """Links that pods have for themselves, as of the last look: their MAC is what the pod makes of it."""

    def inside(self) -> AbstractContextManager[None]:
        """The node's namespace for this thread, for sysctls."""
        return nullcontext() if self.netns is None else namespace.entered(self.netns)
