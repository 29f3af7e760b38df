"""One node's datapath: the facade over all modes, and the owner of what they share.

Node verbs (``prepare``, ``close``), uplink verbs (``prepare_uplink``, ``forget_uplink``), endpoint verbs
(``setup``, ``check``, ``teardown``, ``take_down``), and what the kernel itself says: ``live``, ``carriers``,
``repair``. An endpoint's verb goes to the mode that the endpoint names. An ENI is shared by PolicyRoute's
pods until a mode takes it for one pod alone, and is shared again when that pod is gone.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from datapath.acceleration.companion import Companion
from datapath.acceleration.shortcut import Shortcut
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import (
    Applied,
    Carrier,
    Endpoint,
    EndpointId,
    EndpointKey,
    EniLink,
    Mode,
    OwnEni,
    SharedEni,
    Sighting,
    Uplink,
)
from datapath.enforcement.guard import Guard
from datapath.errors import KernelError, UplinkUnusable
from datapath.modes.macvlan.mode import Macvlan
from datapath.modes.policy_route.mode import PolicyRoute
from datapath.modes.policy_route.watch import Reaction
from datapath.modes.port import ModeContext, ModePort
from datapath.netlink.socket import Pool
from datapath.netlink.wire import Address, Network
from datapath.pausing import Pausing, at_once
from datapath.pod.reaper import Reaper

log = logging.getLogger(__name__)


class NodeDatapath:
    """``netns`` is the node's namespace, None for the process's own; it is duplicated.

    Safe from several threads, though not for two verbs on one endpoint at once. Raises KernelError on any
    refusal. ``shortcut`` hears of what comes and goes in the accelerator's place, and stays the caller's.
    """

    def __init__(self, netns: int | None = None, *, shortcut: Shortcut | None = None) -> None:
        self._netns = None if netns is None else os.dup(netns)
        self.accelerator = Companion(self._netns)
        """The fast path, once it is opened: until then, and without it, pods are routed."""
        self._context = ModeContext(
            self._netns,
            Pool(self._netns),
            Reaper(self._netns),
            Guard(self._netns),
            self.accelerator if shortcut is None else shortcut,
        )
        self.policy_route = PolicyRoute(self._context)
        self._macvlan = Macvlan(self._context)
        self._modes: Mapping[Mode, ModePort] = {
            Mode.POLICY_ROUTE: self.policy_route,
            Mode.MACVLAN: self._macvlan,
        }
        self._shared: dict[str, tuple[EniLink, tuple[Address, ...]]] = {}
        """ENIs by MAC as they were last made ready to be shared, with the node's own addresses."""

    def close(self) -> None:
        """Wait for the reaper and give all descriptors back. What was set up stays."""
        self._context.reaper.close()
        self._context.sockets.close()
        self.guard.close()
        self.policy_route.close()
        self._macvlan.close()
        self.accelerator.close()
        if self._netns is not None:
            os.close(self._netns)
            self._netns = None

    # Node

    @property
    def guard(self) -> Guard:
        return self._context.guard

    def has_ipv6(self) -> bool:
        """Whether the kernel knows IPv6. If not, nothing is made, listed or removed that is of it."""
        return self.policy_route.has_ipv6()

    def close_to_pods(self, destinations: Iterable[Network]) -> None:
        """IPv4 destinations that no pod may send to; told before the first uplink is prepared."""
        self.policy_route.close_to_pods(destinations)

    def prepare(self, host_addresses: Iterable[Address], *, home: int = 0, ipv6: bool | None = None) -> None:
        """Make the node ready. ``home``: the link of the node's own ENI.

        ``ipv6``: whether pods have IPv6; None: if the node has an address of it.
        """
        self.policy_route.prepare_node(host_addresses, home=home, ipv6=ipv6)

    def home_is(self, home: int) -> None:
        """The node's own ENI has another link, of this number; the next repair sees to that."""
        self.policy_route.home_is(home)

    def host_addresses(self, addresses: Iterable[Address]) -> None:
        """The node's own are these from now on; the next repair brings the uplinks in line."""
        told = tuple(addresses)
        self._shared = {mac: (eni, told) for mac, (eni, _) in self._shared.items()}
        self.policy_route.host_addresses(told)

    def events_filenos(self) -> tuple[int, ...]:
        """One is readable when somebody has changed something that may be ours: it is time for ``react``."""
        return tuple(one for one in (self.policy_route.events_fileno(), self.guard.fileno()) if one >= 0)

    def react(self) -> Reaction:
        """Put right at once what can be by what the kernel has told; says whether a repair is due.

        Never waits.
        """
        reaction = self.policy_route.react()
        return replace(reaction, repair=True) if self.guard.changed() else reaction

    # Uplinks

    def prepare_uplink(self, uplink: Uplink, host_addresses: Iterable[Address] = ()) -> int:
        """Make the uplink's device ready; its index. KernelError with ENODEV: no link has the MAC.

        An ENI that a pod has for itself is left to that pod, and shared when the pod is gone.
        """
        eni = uplink.eni
        if isinstance(uplink, OwnEni):
            return self._own(eni)
        if not isinstance(uplink, SharedEni):
            detail = f"no mode of this release uses a {type(uplink).__name__}"
            raise KernelError("prepare an uplink", errno=errno.EOPNOTSUPP, object=uplink.id, detail=detail)
        self._shared[eni.mac.lower()] = eni, tuple(host_addresses)
        if self._macvlan.owner(eni.mac) is not None:
            return self._macvlan.prepare_eni(eni)
        return self.policy_route.prepare_eni(eni, self._shared[eni.mac.lower()][1])

    def forget_uplink(self, mac: str) -> None:
        """Remove what the node has for it; succeeds for an ENI that is gone or unknown."""
        self._shared.pop(mac.lower(), None)
        self.policy_route.forget_eni(mac)

    def _own(self, eni: EniLink) -> int:
        """Take the ENI from those who share it. AddressTaken if a pod leans on it."""
        if self._macvlan.owner(eni.mac) is None:
            self._macvlan.refuse_shared(eni, self.policy_route.carriers())
            self.policy_route.forget_eni(eni.mac)
        return self._macvlan.prepare_eni(eni)

    def _share_again(self, macs: Iterable[str]) -> None:
        """What no pod has for itself any more is everybody's again."""
        for mac in macs:
            known = self._shared.get(mac.lower())
            if known is None:
                continue
            try:
                self.policy_route.prepare_eni(*known)
            except KernelError as exc:
                log.warning("ENI %s cannot be shared yet; the next look at it tries again: %s", mac, exc)

    def _share_no_more(self) -> list[Difference]:
        """What a pod has for itself, and was made ready for all while its mark was gone."""
        done = []
        for mac in filter(self.policy_route.shares, self._macvlan.taken):
            try:
                self.policy_route.forget_eni(mac)
                done.append(Difference(ObjectKind.UPLINK, f"ENI {mac} that a pod has for itself", "shared"))
            except KernelError as exc:
                log.warning("ENI %s is shared and a pod's own; the next repair tries again: %s", mac, exc)
        return done

    # Endpoints

    def setup(self, endpoint: Endpoint, netns: int) -> Applied:
        """See ``ModePort.setup``. A shared uplink must have been prepared."""
        if endpoint.ipv6 is not None and not self.has_ipv6():
            raise _no_ipv6(endpoint)
        if isinstance(endpoint.uplink, OwnEni):
            try:
                self._own(endpoint.eni)
                return self._mode(endpoint.mode).setup(endpoint, netns)
            except BaseException:
                self._share_again([] if self._macvlan.owner(endpoint.eni.mac) else [endpoint.eni.mac])
                raise
        if self._shared_no_more(endpoint.eni.mac):
            detail = "a pod has this ENI for itself; another pod cannot share it"
            raise UplinkUnusable("set up a pod", errno=errno.EBUSY, object=str(endpoint), detail=detail)
        return self._mode(endpoint.mode).setup(endpoint, netns)

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        """See ``ModePort.check``."""
        return self._mode(endpoint.mode).check(endpoint, netns)

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        """See ``ModePort.teardown``."""
        self._mode(endpoint.mode).teardown(endpoint, netns)
        if isinstance(endpoint.uplink, OwnEni) and self._macvlan.owner(endpoint.eni.mac) is None:
            self._share_again([endpoint.eni.mac])

    def take_down(self, who: EndpointId) -> tuple[Address, ...]:
        """See ``ModePort.take_down``."""
        before = self._macvlan.taken
        addresses = self._mode(who.mode).take_down(who)
        self._share_again(before - self._macvlan.taken)
        return addresses

    def flush(self) -> None:
        """Wait until the links of all earlier teardowns are deleted."""
        self._context.reaper.flush()

    def _mode(self, mode: Mode) -> ModePort:
        return self._modes[mode]

    def _shared_no_more(self, mac: str) -> bool:
        """Without asking the kernel: every ADD comes here."""
        return mac.lower() in self._macvlan.taken

    # What the kernel says

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        """The kernel's own word on each, by its mode. Never raises: what cannot be looked at is UNKNOWN."""
        wanted = tuple(asked)
        found: dict[EndpointKey, Sighting] = {}
        for name, mode in self._modes.items():
            found |= mode.live([one for one in wanted if one.mode is name])
        return found

    def carriers(self) -> tuple[Carrier, ...]:
        """Every live link that a pod may be behind, whatever its mode, with the addresses it carries."""
        return tuple(carrier for mode in self._modes.values() for carrier in mode.carriers())

    def repair(self, endpoints: Sequence[Endpoint]) -> tuple[Difference, ...]:
        """``repairing`` without a pause."""
        return at_once(self.repairing(endpoints))

    @property
    def foreign(self) -> tuple[Difference, ...]:
        """What others have done that no repair undoes, as of the last one, with what helps."""
        return self.policy_route.foreign

    def repairing(self, endpoints: Sequence[Endpoint]) -> Pausing[tuple[Difference, ...]]:
        """Bring the host's side of ``endpoints``, all that should exist, back in order; says what was done.

        In steps of some milliseconds, between which endpoints may come and go. One at a time.

        A mode that fails keeps no other from being mended; the first failure is raised when all are through.
        """
        done: list[Difference] = []
        failed: KernelError | None = None
        before = self._macvlan.taken
        for name, mode in self._modes.items():
            try:
                done += yield from mode.repairing([one for one in endpoints if one.mode is name])
            except KernelError as exc:
                log.warning(
                    "the pods of mode %s could not be mended; the next time tries again: %s", name, exc
                )
                failed = failed or exc
        self._share_again(before - self._macvlan.taken)
        done += self._share_no_more()
        if failed is not None:
            raise failed
        return tuple(done)


def _no_ipv6(endpoint: Endpoint) -> KernelError:
    return KernelError(
        "set up a pod",
        errno=errno.EAFNOSUPPORT,
        object=f"{endpoint} with {endpoint.ipv6}",
        detail="this kernel has no IPv6 (was it started with ipv6.disable=1?); set ip_stack to ipv4",
    )
