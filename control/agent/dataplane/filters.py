"""What on this node filters or translates forwarded packets of pods, and the wish to hear of its changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from control.model.ids import Address
from datapath.endpoint import Network
from datapath.errors import KernelError
from datapath.firewall import Firewall


@dataclass(frozen=True, slots=True)
class Terms:
    """What tells a filter that matters from one that does not: see ``Firewall.obstacles``."""

    pods: frozenset[Network]
    stack: tuple[Network, ...]
    devices: frozenset[str]
    hosts: frozenset[Address] = frozenset()


class Filters:
    """``found`` says in words what there was at the last look."""

    def __init__(self) -> None:
        self._firewall = Firewall()
        self._looked_for: Terms | None = None
        self.found: tuple[str, ...] = ()

    def close(self) -> None:
        self._firewall.close()

    def look(self, terms: Terms) -> None:
        """One that cannot be read counts as found."""
        try:
            found = self._firewall.obstacles(
                pods=tuple(terms.pods), stack=terms.stack, devices=terms.devices, hosts=terms.hosts
            )
            self.found = tuple(f"the fast path would pass by a filter of this node: {one}" for one in found)
        except KernelError as exc:
            self.found = (f"whether the node filters pods' packets cannot be told: {exc}",)
        self._looked_for = terms

    async def follow(self, terms: Terms) -> None:
        """Look again if anything changed; in a thread, as ten thousand services take a while."""
        if terms != self._looked_for or self._firewall.changed():
            await asyncio.to_thread(self.look, terms)

    @contextlib.contextmanager
    def listening(self, wake: Callable[[], None]) -> Iterator[None]:
        """``wake`` is called when nf_tables change. Not while they are looked at, by another thread."""
        loop, descriptor = asyncio.get_running_loop(), self._firewall.fileno()
        if descriptor < 0:  # a kernel without nf_tables
            yield
            return

        def changed() -> None:
            if self._firewall.drain():
                wake()

        loop.add_reader(descriptor, changed)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
