"""One node's datapath: the facade over all modes, and the owner of what they share.

Node verbs (``prepare``, ``close``), uplink verbs (``prepare_uplink``, ``forget_uplink``), endpoint verbs
(``setup``, ``check``, ``teardown``, ``take_down``), and what the kernel itself says: ``live``, ``carriers``,
``repair``. An endpoint's verb goes to the mode that the endpoint names, by ``modes.table``; no mode is known
here by its name. Whether an ENI is shared or one pod's is ``eni_shares``' to say.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from socket import AF_INET, AF_INET6

from datapath.acceleration.companion import Companion
from datapath.acceleration.shortcut import Shortcut
from datapath.difference import Difference
from datapath.endpoint import (
    Applied,
    Carrier,
    Endpoint,
    EndpointId,
    EndpointKey,
    OwnEni,
    Sighting,
    Uplink,
)
from datapath.enforcement.guard import Guard
from datapath.eni_shares import EniShares
from datapath.errors import KernelError, UplinkUnusable
from datapath.modes.port import ModeContext, ModePort, Reaction
from datapath.modes.table import MODES, Modes
from datapath.modes.unknown import UnknownMode
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

    def __init__(
        self, netns: int | None = None, *, shortcut: Shortcut | None = None, modes: Modes = MODES
    ) -> None:
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
        self.modes: Mapping[str, ModePort] = {word: make(self._context) for word, make in modes.items()}
        """By the word that endpoints and ledgers have."""
        self._unknown = UnknownMode(self._context, self.modes)
        self._shares = EniShares(self.modes.values())
        self._untold: list[Difference] = []
        """What a repair has done that failed at something else."""

    def close(self) -> None:
        """Wait for the reaper and give all descriptors back. What was set up stays."""
        self._context.reaper.close()
        self._context.sockets.close()
        self.guard.close()
        for mode in self.modes.values():
            mode.close()
        self.accelerator.close()
        if self._netns is not None:
            os.close(self._netns)
            self._netns = None

    # Node

    @property
    def guard(self) -> Guard:
        return self._context.guard

    def has_ipv6(self) -> bool:
        """See ``ModeContext.has_ipv6``."""
        return self._context.has_ipv6()

    def close_to_pods(self, destinations: Iterable[Network]) -> None:
        """IPv4 destinations that no pod may send to; told before the first uplink is prepared."""
        self._context.facts = replace(self._context.facts, closed=tuple(destinations))

    def prepare(self, host_addresses: Iterable[Address], *, home: int = 0, ipv6: bool | None = None) -> None:
        """Make the node ready. ``host_addresses``: its own. ``home``: the link of the node's own ENI.

        ``ipv6``: whether pods have IPv6; None: if the node has an address of it.
        """
        own = tuple(host_addresses)
        if ipv6 is None:
            ipv6 = any(one.version == 6 for one in own)
        families = frozenset({AF_INET, AF_INET6} if ipv6 else {AF_INET})
        self._context.facts = replace(self._context.facts, addresses=own, families=families, home=home)
        for mode in self.modes.values():
            mode.prepare_node()
        self._context.shortcut.node_ready(home)

    def home_is(self, home: int) -> None:
        """The node's own ENI has another link, of this number; the next repair sees to that."""
        self._context.facts = replace(self._context.facts, home=home)
        self._context.shortcut.node_ready(home)

    def host_addresses(self, addresses: Iterable[Address]) -> None:
        """The node's own are these from now on; the next repair brings the uplinks in line."""
        self._context.facts = replace(self._context.facts, addresses=tuple(addresses))

    def events_filenos(self) -> tuple[int, ...]:
        """One is readable when somebody has changed something that may be ours: it is time for ``react``."""
        descriptors = [one for mode in self.modes.values() for one in mode.events_filenos()]
        return tuple(one for one in (*descriptors, self.guard.fileno()) if one >= 0)

    def react(self) -> Reaction:
        """Put right at once what can be by what the kernel has told; says whether a repair is due.

        Never waits.
        """
        reactions = [mode.react() for mode in self.modes.values()]
        mended = tuple(one for reaction in reactions for one in reaction.mended)
        due = self.guard.changed() or any(reaction.repair for reaction in reactions)
        return Reaction(mended, due)

    # Uplinks

    def prepare_uplink(self, uplink: Uplink) -> int:
        """See ``EniShares.prepare``."""
        return self._shares.prepare(uplink)

    def forget_uplink(self, mac: str) -> None:
        """Remove what the node has for it; succeeds for an ENI that is gone or unknown."""
        self._shares.forget(mac)

    # Endpoints

    def setup(self, endpoint: Endpoint, netns: int) -> Applied:
        """See ``ModePort.setup``. A shared uplink must have been prepared."""
        mode = self._mode(endpoint.mode)
        if mode is self._unknown:
            return mode.setup(endpoint, netns)
        if type(endpoint.uplink) not in mode.uplinks:
            raise _no_such_uplink(endpoint)
        if endpoint.ipv6 is not None and not self.has_ipv6():
            raise _no_ipv6(endpoint)
        mac = endpoint.eni.mac
        if isinstance(endpoint.uplink, OwnEni):
            try:
                self._shares.take(endpoint.uplink, mode)
                return mode.setup(endpoint, netns)
            except BaseException:
                self._shares.share_again([mac])
                raise
        if mac.lower() in self._shares.taken():
            detail = "a pod has this ENI for itself; another pod cannot share it"
            raise UplinkUnusable("set up a pod", errno=errno.EBUSY, object=str(endpoint), detail=detail)
        return mode.setup(endpoint, netns)

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]:
        """See ``ModePort.check``."""
        return self._mode(endpoint.mode).check(endpoint, netns)

    def teardown(self, endpoint: Endpoint, netns: int | None) -> None:
        """See ``ModePort.teardown``."""
        self._mode(endpoint.mode).teardown(endpoint, netns)
        if isinstance(endpoint.uplink, OwnEni):
            self._shares.share_again([endpoint.eni.mac])

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        """See ``ModePort.take_down``. Also of a mode that only another release has."""
        before = self._shares.taken()
        addresses = self._mode(who.mode).take_down(who, netns)
        self._shares.share_again(before - self._shares.taken())
        return addresses

    def flush(self) -> None:
        """Wait until the links of all earlier teardowns are deleted."""
        self._context.reaper.flush()

    def _mode(self, word: str) -> ModePort:
        return self.modes.get(word, self._unknown)

    # What the kernel says

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        """The kernel's own word on each, by its mode. Never raises: what cannot be looked at is UNKNOWN."""
        by_mode: dict[str, list[EndpointId]] = {}
        for one in asked:
            by_mode.setdefault(one.mode, []).append(one)
        found: dict[EndpointKey, Sighting] = {}
        for word, wanted in by_mode.items():
            found |= self._mode(word).live(wanted)
        return found

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        """Every live link that a pod may be behind, whatever its mode, with the addresses it carries.

        ``lately`` as for ``ModePort.carriers``.
        """
        return tuple(one for mode in self.modes.values() for one in mode.carriers(lately=lately))

    def repair(self, endpoints: Sequence[Endpoint]) -> tuple[Difference, ...]:
        """``repairing`` without a pause."""
        return at_once(self.repairing(endpoints))

    @property
    def foreign(self) -> tuple[Difference, ...]:
        """What others have done that no repair undoes, as of the last one, with what helps."""
        return tuple(one for mode in self.modes.values() for one in mode.foreign)

    def repairing(self, endpoints: Sequence[Endpoint]) -> Pausing[tuple[Difference, ...]]:
        """Bring the host's side of ``endpoints``, all that should exist, back in order; says what was done.

        In steps of some milliseconds, between which endpoints may come and go. One at a time.

        A mode that fails keeps no other from being mended; the first failure is raised when all are through,
        and what was done is said by the next.
        """
        done, self._untold = self._untold, []
        try:
            yield from self._repairing(endpoints, done)
        except BaseException:
            self._untold = list(dict.fromkeys(done))
            raise
        return tuple(done)

    def _repairing(self, endpoints: Sequence[Endpoint], done: list[Difference]) -> Pausing[None]:
        failed: KernelError | None = None
        before = self._shares.taken()
        for word, mode in self.modes.items():
            try:
                done += yield from mode.repairing([one for one in endpoints if one.mode == word])
            except KernelError as exc:
                log.warning(
                    "the pods of mode %s could not be mended; the next time tries again: %s", word, exc
                )
                failed = failed or exc
        self._shares.share_again(before - self._shares.taken())
        done += self._shares.share_no_more()
        if failed is not None:
            raise failed


def _no_such_uplink(endpoint: Endpoint) -> KernelError:
    return KernelError(
        "set up a pod",
        errno=errno.EOPNOTSUPP,
        object=str(endpoint),
        detail=f"mode {endpoint.mode} of this release has no use for a {type(endpoint.uplink).__name__}",
    )


def _no_ipv6(endpoint: Endpoint) -> KernelError:
    return KernelError(
        "set up a pod",
        errno=errno.EAFNOSUPPORT,
        object=f"{endpoint} with {endpoint.ipv6}",
        detail="this kernel has no IPv6 (was it started with ipv6.disable=1?); set ip_stack to ipv4",
    )
