"""The fast path beside a mode: it hears of pods and ENIs, and sees to rows, attachments and gateways' MACs.

Without a fast path, or before ``open``, it hears and does nothing: the node routes. A pod that the kernel
refuses a row or an attachment is routed as well, and the next ``mend`` tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from socket import if_indextoname
from threading import Lock
from typing import TYPE_CHECKING

from datapath import namespace
from datapath.acceleration import open_fast_path
from datapath.acceleration.carriers import CarrierWatch
from datapath.acceleration.eni_rows import EniRows
from datapath.acceleration.errors import Unavailable
from datapath.acceleration.repair import Foreign, Round
from datapath.acceleration.rows import Pod, UplinkName, UplinkRow
from datapath.acceleration.shortcut import UNHOOKED, Present
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import AppliedVeth, Endpoint, EniLink, TrunkMember
from datapath.errors import KernelError
from datapath.netlink import address
from datapath.netlink.socket import Pool
from datapath.netlink.wire import Address, Network

if TYPE_CHECKING:
    from datapath.acceleration.attach import Hooks
    from datapath.acceleration.path import FastPath
    from datapath.acceleration.pod_table import Snapshot

log = logging.getLogger(__name__)


FEW_PREFIXES = 1024
"""Read within ``mend``: 1 ms."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Destinations that always take the stack, besides every address of the node."""

    service: tuple[Network, ...] = ()
    """Ranges of Services."""
    host_cidrs: tuple[Network, ...] = ()
    addresses: frozenset[Address] = frozenset()
    """Addresses of Services outside these ranges: tens of thousands where no range is known."""


@dataclass(frozen=True, slots=True)
class _Good:
    """What a round that found nothing to do about pods' rows was about."""

    rows: tuple[bytes, ...]
    pods: Mapping[int, tuple[Endpoint, AppliedVeth]]
    links: frozenset[int]


class Companion:
    """Implements ``shortcut.Shortcut``. ``netns`` is the node's, None for the process's own."""

    def __init__(self, netns: int | None = None) -> None:
        self._netns = netns
        self._sockets = Pool(netns)
        self._fast: FastPath | None = None
        self._prefixes = Prefixes()
        self._why = "it has not been opened yet"
        self._enis = EniRows(self._sockets)
        self._pods: set[int] = set()
        """Host links of the pods that have rows: of others a lost carrier is nobody's matter."""
        self._carriers: CarrierWatch | None = None
        self._following = Lock()
        self._down: frozenset[int] = frozenset()
        """Pods' links that are down, and may come up again."""
        self._unhooked: set[int] = set()
        """Host links whose place is another plugin's, who may not have taken it yet."""
        self._compared: list[Difference] = []
        """What comparing the prefixes has found since the last ``mend``."""
        self._empty: frozenset[int] = frozenset()
        """Host links with a clsact of somebody else's that was empty at the last round."""
        self._good: _Good | None = None
        self._home = 0
        self.last = Round()
        """The last round of repair: what it found of others', and what it could not mend."""
        self.own_addresses: frozenset[Address] = frozenset()
        """The node's own, which the stack answers, as they were at the last look."""

    def open(self, pin_dir: Path, prefixes: Prefixes, *, objects: Path | None = None) -> None:
        """From now on there is a fast path. Raises Unavailable, and then there is none.

        ``objects`` as for ``open_fast_path``.
        """
        self._prefixes = prefixes
        try:
            self._fast = open_fast_path(
                pin_dir, netns=self._netns, objects=objects, prepare=self._tell_prefixes
            )
        except Unavailable as exc:
            self._why = exc.reason
            raise
        try:
            self._carriers = CarrierWatch(self._netns)
        except (KernelError, OSError) as exc:
            log.warning("packets for pods whose link is down are lost without a reason: %s", exc)
        self._pods = set(self._fast.endpoints())
        self._follow_carriers(self._fast, anew=True)

    def tell(self, prefixes: Prefixes) -> None:
        """Other prefixes from now on. Raises KernelError if they do not all fit."""
        if prefixes == self._prefixes:
            return
        before, self._prefixes = self._prefixes, prefixes
        if self._fast is None:
            return
        try:
            self._tell_prefixes(self._fast)
        except KernelError:
            self._prefixes = before
            raise

    def compare_prefixes(self) -> None:
        """Read all rows of prefixes and put them right; the next ``mend`` tells. For a thread if many."""
        if self._fast is None:
            return
        found = self._fast.compare_stack_prefixes()
        if found:
            log.warning("prefixes of the fast path were put right: %s", found)
            self._compared = [*self._compared, Difference(ObjectKind.ROW, "map stack_prefixes", str(found))]

    def close(self) -> None:
        """Let go of it; packets do not notice."""
        if self._carriers is not None:
            self._carriers.close()
            self._carriers = None
        if self._fast is not None:
            self._fast.close()
            self._fast = None
        self._sockets.close()

    @property
    def fast(self) -> FastPath:
        """Raises Unavailable if there is none."""
        if self._fast is None:
            raise Unavailable(self._why)
        return self._fast

    def devices(self) -> frozenset[str]:
        """Names of the ENIs."""
        with nullcontext() if self._netns is None else namespace.entered(self._netns):
            return frozenset(filter(None, map(_name_of, self._enis.devices())))

    def learn(self) -> bool:
        """Look again for gateways' MACs that are not known; False if some still are not."""
        return self._fast is None or self._enis.learn(self._fast)

    def links_fd(self) -> int:
        """Readable when links have gone down: call ``links_changed`` then. -1 if there is no fast path."""
        return -1 if self._carriers is None else self._carriers.fileno()

    def links_changed(self) -> bool:
        """Note which links are down, so that what is for their pods is dropped with a reason.

        True if some are: nobody is told when they are up again, so call this now and then.
        """
        if self._fast is not None:
            self._follow_carriers(self._fast)
        return bool(self._down or self._enis.dark)

    # What a mode tells

    def node_ready(self, home: int) -> None:
        self._home = home
        if self._fast is not None:
            self._fast.set_home(home)

    def lacking(self) -> str:
        return self._why if self._fast is None else ""

    def pod_joined(self, endpoint: Endpoint, applied: AppliedVeth) -> str:
        if self._fast is None:
            return self._why
        try:
            self._pods.add(applied.host_ifindex)
            self._join(self._fast, endpoint, applied)
        except (KernelError, OSError) as exc:
            log.warning("%s is routed for now, the fast path did not take it: %s", endpoint.host_link, exc)
            return str(exc)
        return "" if endpoint.hooked else UNHOOKED

    def pod_leaves(self, host_ifindex: int) -> None:
        self._unhooked.discard(host_ifindex)
        self._pods.discard(host_ifindex)
        if self._fast is not None:
            self._fast.drop_endpoint(host_ifindex)

    def addresses_free(self, addresses: Iterable[Address]) -> None:
        if self._fast is not None:
            free = set(addresses)
            for ifindex, pod in self._fast.endpoints().items():
                if free.intersection(pod.addresses):
                    self._fast.drop_endpoint(ifindex)

    def eni_ready(self, eni: EniLink, ifindex: int) -> None:
        if self._fast is None:
            return
        try:
            self._enis.tell(self._fast, eni, ifindex)
            self._fast.attach_eni(ifindex)
            self._tell_prefixes(self._fast)
        except (KernelError, OSError) as exc:
            log.warning("ENI %s has no fast path for now: %s", eni.mac, exc)

    def eni_leaves(self, ifindex: int) -> None:
        self._enis.forget(self._fast, ifindex)
        if self._fast is not None:
            self._fast.detach_eni(ifindex)

    def carried(self) -> Mapping[int, frozenset[Address]]:
        if self._fast is None:
            return {}
        try:
            return {index: frozenset(pod.addresses) for index, pod in self._fast.endpoints().items()}
        except (KernelError, OSError) as exc:
            log.warning("the fast path's pods could not be read, their routes speak for them: %s", exc)
            return {}

    def mend(self, present: Present) -> list[Difference]:
        if self._fast is None:
            return []
        fast, round = self._fast, Round()
        round.each("pins of the fast path", fast.mend_pins)
        round.each("the fast path's settings", lambda: fast.mend_settings(self._home))
        round.each("the fast path's prefixes", lambda: self._mend_prefixes(fast))
        round.each("the fast path of devices", lambda: self._mend_devices(fast, present, round))
        self._pods.update(present.pods)
        self._follow_carriers(fast, anew=True)
        self.last = round
        return round.done

    def check(self, endpoint: Endpoint, applied: AppliedVeth) -> tuple[Difference, ...]:
        if self._fast is None:
            return ()
        fast, index = self._fast, applied.host_ifindex
        found = fast.snapshot(_pod(endpoint, applied, None))
        pod = _pod(endpoint, applied, fast.endpoints().get(index))
        hooks, where = fast.hooks(), f"fast path of {endpoint.host_link}"
        told = [Difference(ObjectKind.ROW, where, one) for one in fast.pod_differences(pod, found)]
        if endpoint.hooked and index not in hooks.shaped.received | self._unhooked:
            told += _programs(where, fast.hook_differences(index, hooks, eni=False))
        return (*told, *self._check_eni(fast, endpoint, applied, hooks))

    def _check_eni(
        self, fast: FastPath, endpoint: Endpoint, applied: AppliedVeth, hooks: Hooks
    ) -> list[Difference]:
        index, where = applied.eni_ifindex, f"fast path of ENI {endpoint.eni.mac}"
        name = _uplink_of(endpoint)
        wrong = all((one.name, one.ifindex) != (name, index) for one in fast.uplinks().values())
        told = ["map uplinks has no such row"] if wrong and index not in self._enis.dark else []
        rows = [Difference(ObjectKind.ROW, where, one) for one in told]
        return rows + _programs(where, fast.hook_differences(index, hooks, eni=True))

    # Steps

    def _mend_prefixes(self, fast: FastPath) -> list[Difference]:
        """Many are compared elsewhere, in a thread (``compare_prefixes``), and told of here."""
        self._tell_prefixes(fast)
        if fast.stack_prefix_count <= FEW_PREFIXES:
            self.compare_prefixes()
        found, self._compared = self._compared, []
        return found

    def _mend_devices(self, fast: FastPath, present: Present, round: Round) -> list[Difference]:
        """All by one reading of qdiscs, of which a node has hundreds."""
        hooks = fast.hooks()
        round.each("the programs of pods", lambda: fast.mend_blocks(hooks))
        round.each("the fast path of ENIs", lambda: self._mend_enis(fast, present, hooks, round))
        round.each("the rows of pods", lambda: self._mend_rows(fast, present, round))
        round.each("the fast path of pods", lambda: self._mend_hooks(fast, present, hooks, round))
        return []

    def _mend_enis(self, fast: FastPath, present: Present, hooks: Hooks, round: Round) -> list[Difference]:
        rows = {one.ifindex: one for one in fast.uplinks().values()}
        for ifindex, eni in present.enis.items():
            name = f"fast path of ENI {eni.mac}"
            round.each(name, partial(self._mend_eni_row, fast, eni, ifindex, rows.get(ifindex)))
            round.each(name, partial(_mend_eni_hook, fast, eni, ifindex, hooks))
            round.each(
                f"what others have at ENI {eni.mac}", partial(_tell_eni, fast, eni, ifindex, hooks, round)
            )
        for ifindex in {*rows, *self._enis.devices()} - present.enis.keys():
            round.each(f"fast path of device {ifindex}", partial(self._end_eni, ifindex))
        return []

    def _mend_eni_row(
        self, fast: FastPath, eni: EniLink, ifindex: int, before: UplinkRow | None
    ) -> list[Difference]:
        known = ifindex in self._enis
        wanted = self._enis.tell(fast, eni, ifindex)
        if before == wanted or not known:
            return []
        found = "no row" if before is None else str(before)
        if wanted is not None and before is not None and _is_learned(before, wanted):
            return []
        return [Difference(ObjectKind.ROW, f"fast path of ENI {eni.mac}", found)]

    def _end_eni(self, ifindex: int) -> list[Difference]:
        self.eni_leaves(ifindex)
        return [Difference(ObjectKind.ROW, f"fast path of device {ifindex}", "no ENI of ours")]

    def _mend_rows(self, fast: FastPath, present: Present, round: Round) -> list[Difference]:
        """Pod by pod, unless all reads byte for byte as it did when the round before found nothing to do."""
        now = _Good(fast.fingerprint(), dict(present.pods), present.links)
        if now == self._good:
            return []
        before = len(round.done), len(round.refused)
        round.each("addresses of the fast path", lambda: _remove_strays(fast))
        found, rows = fast.snapshot(), fast.endpoints()
        for ifindex, (endpoint, applied) in present.pods.items():
            name, pod = endpoint.host_link, _pod(endpoint, applied, rows.get(ifindex))
            round.each(f"fast path of {name}", partial(self._mend_pod, fast, name, pod, found))
        for ifindex in rows.keys() - present.links:
            round.each(f"fast path of device {ifindex}", partial(self._end_pod, fast, ifindex))
        self._good = now if before == (len(round.done), len(round.refused)) else None
        return []

    def _mend_hooks(self, fast: FastPath, present: Present, hooks: Hooks, round: Round) -> list[Difference]:
        left_alone = hooks.shaped.received | self._unhooked
        for ifindex, (endpoint, _) in present.pods.items():
            name = endpoint.host_link
            if ifindex not in left_alone:
                round.each(f"program of {name}", partial(self._mend_pod_hook, fast, name, ifindex, hooks))
            round.each(f"what others have at {name}", partial(_tell_pod, fast, name, ifindex, hooks, round))
        self._empty &= present.pods.keys()
        return []

    def _mend_pod(self, fast: FastPath, name: str, pod: Pod, found: Snapshot) -> list[Difference]:
        told = fast.pod_differences(pod, found)
        if told:
            self._put_or_detach(fast, pod, found)
        return [Difference(ObjectKind.ROW, f"fast path of {name}", one) for one in told]

    def _mend_pod_hook(self, fast: FastPath, name: str, ifindex: int, hooks: Hooks) -> list[Difference]:
        told = fast.hook_differences(ifindex, hooks, eni=False)
        if told:
            fast.attach_pod(ifindex)
        return _programs(f"fast path of {name}", told + self._mend_place(fast, ifindex, hooks))

    def _mend_place(self, fast: FastPath, ifindex: int, hooks: Hooks) -> list[str]:
        """Another's clsact is left a round for whoever added it to put something into it."""
        if not hooks.is_anothers(ifindex):
            self._empty -= {ifindex}
        elif ifindex not in self._empty:
            self._empty |= {ifindex}
        elif fast.take_place(ifindex):
            self._empty -= {ifindex}
            return ["a clsact of somebody else's, with nothing of his in it"]
        return []

    def _end_pod(self, fast: FastPath, ifindex: int) -> list[Difference]:
        fast.drop_endpoint(ifindex)
        self._pods.discard(ifindex)
        return [Difference(ObjectKind.ROW, f"fast path of device {ifindex}", "left behind: its pod is gone")]

    def _join(self, fast: FastPath, endpoint: Endpoint, applied: AppliedVeth) -> None:
        fast.put_endpoint(_pod(endpoint, applied, None))
        if endpoint.hooked:
            self._unhooked.discard(applied.host_ifindex)
            fast.attach_pod(applied.host_ifindex)
        else:
            self._unhooked.add(applied.host_ifindex)
            fast.detach_pod(applied.host_ifindex)

    def _put_or_detach(self, fast: FastPath, pod: Pod, found: Snapshot) -> None:
        """Where the program is and the row cannot be, it would drop all that the pod sends."""
        try:
            fast.mend_endpoint(pod, found)
        except KernelError:
            fast.detach_pod(pod.host_ifindex)
            raise

    def _follow_carriers(self, fast: FastPath, *, anew: bool = False) -> None:
        """``anew``: of all links, whatever events said. May be called from several threads."""
        carriers = self._carriers
        if carriers is None:
            return
        try:
            with self._following:
                found = carriers.all() if anew else carriers.changes()
                found = {i: up for i, up in found.items() if i in self._pods or i in self._enis}
                # Of an ENI that was just plugged the event is of a moment ago, when its carrier was to come.
                lost = set() if anew else {ifindex for ifindex, carrier in found.items() if not carrier}
                again = carriers.of(lost | (self._down | self._enis.dark) - found.keys())
                found |= {ifindex: bool(carrier) for ifindex, carrier in again.items()}
                self._enis.follow(fast, found)
                for ifindex, carrier in found.items():
                    if fast.set_pod_down(ifindex, not carrier):
                        log.debug("a pod's link, number %d, is %s", ifindex, "up" if carrier else "down")
                        self._down = self._down - {ifindex} if carrier else self._down | {ifindex}
                # A link that is gone does not come back: its rows wait for the DEL, or the next repair.
                self._down -= {ifindex for ifindex, carrier in again.items() if carrier is not False}
        except (KernelError, OSError) as exc:
            log.warning("which pods' links are up is not known; the next look tries again: %s", exc)

    def _tell_prefixes(self, fast: FastPath) -> None:
        with self._sockets.borrowed() as socket:
            found = {one.address for one in address.list_all(socket)}
        told = self._prefixes
        own = frozenset(one for one in found if _needs_row(one, told))
        fast.set_stack_prefixes(
            service=told.service, host_cidrs=told.host_cidrs, node=own, hosts=told.addresses
        )
        self.own_addresses = own


def _mend_eni_hook(fast: FastPath, eni: EniLink, ifindex: int, hooks: Hooks) -> list[Difference]:
    told = fast.hook_differences(ifindex, hooks, eni=True)
    if told:
        fast.attach_eni(ifindex)
    return _programs(f"fast path of ENI {eni.mac}", told)


def _programs(where: str, told: Iterable[str]) -> list[Difference]:
    return [Difference(ObjectKind.PROGRAM, where, one) for one in told]


def _tell_eni(
    fast: FastPath, eni: EniLink, ifindex: int, hooks: Hooks, round: Round
) -> tuple[Difference, ...]:
    where = f"ENI {eni.mac}"
    round.foreign += [Foreign(where, one) for one in fast.foreign(ifindex, hooks, eni=True)]
    if ifindex in hooks.roots:
        round.foreign.append(Foreign(where, f"qdisc {hooks.roots[ifindex]} at the root"))
    return ()


def _tell_pod(fast: FastPath, name: str, ifindex: int, hooks: Hooks, round: Round) -> tuple[Difference, ...]:
    found = fast.foreign(ifindex, hooks, eni=False)
    round.foreign += [Foreign(f"host link {name}", one) for one in found]
    return ()


def _remove_strays(fast: FastPath) -> list[Difference]:
    return [Difference(ObjectKind.ROW, "maps of the fast path", one) for one in fast.remove_strays()]


def _is_learned(before: UplinkRow, now: UplinkRow) -> bool:
    """Whether nothing is new but a gateway's MAC that was not known."""
    known = replace(
        before,
        gateway_mac=before.gateway_mac or now.gateway_mac,
        gateway_mac_v6=before.gateway_mac_v6 or now.gateway_mac_v6,
    )
    return known == now


def _name_of(ifindex: int) -> str:
    try:
        return if_indextoname(ifindex)
    except OSError:  # it went a moment ago
        return ""


def _needs_row(own: Address, told: Prefixes) -> bool:
    """Not for what never leaves a link, nor for the thousands of service addresses that IPVS gives a node."""
    if own.is_link_local or own.is_loopback or own in told.addresses:
        return False
    return not any(own in one for one in told.service)


def _uplink_of(endpoint: Endpoint) -> UplinkName:
    vlan = endpoint.uplink.vlan if isinstance(endpoint.uplink, TrunkMember) else 0
    return UplinkName(endpoint.eni.mac.lower(), vlan)


def _pod(endpoint: Endpoint, applied: AppliedVeth, before: Pod | None) -> Pod:
    """``before``: its row as it is, which says whether it is fast if the endpoint does not."""
    as_it_is = True if before is None else before.fast
    return Pod(
        host_ifindex=applied.host_ifindex,
        uplink=_uplink_of(endpoint),
        pod_mac=applied.pod_mac,
        host_mac=applied.host_mac,
        addresses=endpoint.addresses(),
        mtu=endpoint.mtu,
        fast=as_it_is if endpoint.fast is None else endpoint.fast,
    )
