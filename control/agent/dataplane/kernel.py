"""The kernel port over ``datapath``: host addresses, waiting for devices, and errors in the brain's terms."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from control.agent.dataplane.pace import paced
from control.model.errors import AddressInUse, Cause, KernelError, RequestError, UplinkBroken
from control.model.ids import Address, Mac
from datapath import errors as kernel_errors
from datapath.acceleration.companion import Companion
from datapath.difference import Difference
from datapath.endpoint import (
    Applied,
    Carrier,
    Endpoint,
    EndpointId,
    EndpointKey,
    Network,
    SharedEni,
    Sighting,
)
from datapath.modes.port import Reaction
from datapath.modes.table import MODES, Modes
from datapath.netlink import address, link
from datapath.netlink.monitor import LinkMonitor
from datapath.netlink.socket import Socket
from datapath.node_datapath import NodeDatapath

log = logging.getLogger(__name__)

CALM = 0.1
"""Seconds after a word of the kernel's in which no other is read. A pod can take its end of a pair down and
up a thousand times a second, and each is a word of the other end; the first of many is followed at once."""


@contextmanager
def _in_our_terms() -> Iterator[None]:
    try:
        yield
    except kernel_errors.NameTaken as exc:
        raise RequestError(
            str(exc),
            cause=Cause.REQUEST,
            remedy="the runtime must give a name that is free in the pod's namespace",
        ) from exc
    except kernel_errors.AddressTaken as exc:
        raise AddressInUse(str(exc)) from exc
    except kernel_errors.UplinkUnusable as exc:
        raise UplinkBroken(str(exc)) from exc
    except kernel_errors.KernelError as exc:
        raise KernelError(str(exc)) from exc
    except OSError as exc:
        raise KernelError(f"talk to the kernel: {exc}") from exc


def _nothing() -> None:
    pass


class LinuxKernel:
    """Implements ``control.agent.dataplane.ports.NodeKernel``.

    ``netns`` is the node's network namespace, None for the calling process's own.
    """

    def __init__(self, netns: int | None = None, *, modes: Modes = MODES) -> None:
        self._netns = netns
        with _in_our_terms():
            self._datapath = NodeDatapath(netns, modes=modes)
            self._socket = Socket(netns)
        self._home = 0
        self._end_watch: Callable[[], None] = _nothing

    @property
    def accelerator(self) -> Companion:
        return self._datapath.accelerator

    def has_ipv6(self) -> bool:
        """Whether the kernel knows IPv6 at all."""
        return self._datapath.has_ipv6()

    def unguarded(self) -> str:
        """Why nf_tables checks nothing of what pods send; "" if it does."""
        return self._datapath.guard.lacking

    def guard_counts(self) -> dict[str, tuple[int, str]]:
        """Packets by reason, with the reason's meaning; empty while nf_tables checks nothing."""
        with _in_our_terms():
            return {one.reason.value: (one.packets, one.meaning) for one in self._datapath.guard.drops()}

    def watch(self, reacted: Callable[[Reaction], None]) -> None:
        """From now on the kernel's word of changes is followed; ``reacted`` hears what came of it."""
        loop = asyncio.get_running_loop()
        descriptors = self._datapath.events_filenos()
        later: asyncio.TimerHandle | None = None

        def listen() -> None:
            for descriptor in descriptors:
                loop.add_reader(descriptor, changed)

        def rest() -> None:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
            if later is not None:
                later.cancel()

        def changed() -> None:
            nonlocal later
            rest()
            later = loop.call_later(CALM, listen)
            try:
                reacted(self._datapath.react())
            except kernel_errors.KernelError as exc:
                log.warning("what others have changed stays so until the next repair: %s", exc)
                reacted(Reaction(repair=True))
            except Exception:  # the last resort: what was read is read, and nobody is told of it again
                log.exception("what the kernel told of could not be followed; a repair looks at all")
                reacted(Reaction(repair=True))

        listen()
        self._end_watch = rest

    def home_addresses(self, primary_mac: Mac) -> tuple[Address, ...]:
        """Global addresses on the primary ENI's link, as the kernel lists them. Raises KernelError."""
        with _in_our_terms():
            before, home = self._home, self._home_link(primary_mac)
            if before not in (0, home):
                log.warning("the primary ENI's link is number %d now, and was %d", home, before)
                self._datapath.home_is(home)
            return tuple(
                a.address for a in address.of_link(self._socket, home) if not a.address.is_link_local
            )

    def prepare_node(self, primary_mac: Mac, own: Sequence[Address], *, ipv6: bool) -> None:
        """Make the node ready. ``own`` as for ``host_addresses``; ``ipv6``: pods have it."""
        with _in_our_terms():
            if not any(one.version == 4 for one in own):
                raise KernelError(f"the primary ENI ({primary_mac}) has no IPv4 address")
            self._datapath.prepare(own, home=self._home_link(primary_mac), ipv6=ipv6)

    def host_addresses(self, own: Sequence[Address]) -> None:
        """The node's own are these from now on: each ENI of the pods has them, from the next repair on."""
        self._datapath.host_addresses(own)

    def _home_link(self, primary_mac: Mac) -> int:
        """Its number, which is looked for by MAC only if it is not what it was."""
        there = link.find(self._socket, self._home) if self._home else None
        if there is None or there.mac != primary_mac.lower():
            there = link.find_by_mac(self._socket, primary_mac)
        if there is None:
            raise KernelError(f"the node has no device with the primary ENI's MAC {primary_mac}")
        self._home = there.index
        return self._home

    async def link_appears(self, mac: Mac, *, timeout: float) -> bool:
        """Woken by netlink; the event is only a hint to look. Nobody listens while nobody waits."""
        loop = asyncio.get_running_loop()
        with _in_our_terms(), closing(LinkMonitor(self._netns)) as monitor:
            changed = asyncio.Event()

            def drain() -> None:
                monitor.read()
                changed.set()

            loop.add_reader(monitor.fileno(), drain)
            try:
                async with asyncio.timeout(timeout):
                    while monitor.find_by_mac(mac) is None:
                        await changed.wait()
                        changed.clear()
                return True
            except TimeoutError:
                return False
            finally:
                loop.remove_reader(monitor.fileno())

    def setup(self, endpoint: Endpoint, netns: int) -> Applied:
        with _in_our_terms():
            return self._datapath.setup(endpoint, netns)

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        with _in_our_terms():
            return self._datapath.check(endpoint, netns)

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        with _in_our_terms():
            self._datapath.teardown(endpoint, netns)

    def close_to_pods(self, destinations: Sequence[Network]) -> None:
        """Where pods may not send to; told before the first ENI is prepared."""
        self._datapath.close_to_pods(destinations)

    def prepare_uplink(self, uplink: SharedEni) -> None:
        with _in_our_terms():
            self._datapath.prepare_uplink(uplink)

    def forget_eni(self, mac: Mac) -> None:
        with _in_our_terms():
            self._datapath.forget_uplink(mac)

    async def repair(self, endpoints: Sequence[Endpoint]) -> tuple[Difference, ...]:
        with _in_our_terms():
            return await paced(self._datapath.repairing(endpoints))

    def foreign_hands(self) -> tuple[Difference, ...]:
        return self._datapath.foreign

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        with _in_our_terms():
            return self._datapath.carriers(lately=lately)

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        with _in_our_terms():
            return self._datapath.take_down(who, netns)

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        return self._datapath.live(asked)

    def device_of(self, mac: Mac) -> str:
        """Name of the device with this MAC, "" if there is none."""
        found = link.find_by_mac(self._socket, mac)
        return found.name if found else ""

    def close(self) -> None:
        self._end_watch()
        self._socket.close()
        self._datapath.close()
