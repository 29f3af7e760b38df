"""The fast path beside a mode: it hears of pods and ENIs, and sees to rows, attachments and gateways' MACs.

Without a fast path, or before ``open``, it hears and does nothing: the node routes. A pod that the kernel
refuses a row or an attachment is routed as well, and the next ``mend`` tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import if_indextoname
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from datapath import namespace
from datapath.acceleration import open_fast_path
from datapath.acceleration.carriers import CarrierWatch
from datapath.acceleration.eni_rows import EniRows
from datapath.acceleration.errors import Unavailable
from datapath.acceleration.repair import Foreign, Round
from datapath.acceleration.rows import Pod, UplinkName, UplinkRow
from datapath.acceleration.shortcut import UNHOOKED, AsSeen, Now, Present
from datapath.difference import Difference, ObjectKind
from datapath.endpoint import AppliedVeth, Endpoint, EniLink, TrunkMember
from datapath.errors import KernelError
from datapath.netlink import address
from datapath.netlink.memory import Memory
from datapath.netlink.socket import Pool
from datapath.netlink.wire import Address, Network
from datapath.pausing import Pausing, at_once

if TYPE_CHECKING:
    from datapath.acceleration.attach import Hooks
    from datapath.acceleration.path import FastPath
    from datapath.acceleration.pod_table import Snapshot

log = logging.getLogger(__name__)


FEW_PREFIXES = 1024
"""Read within a step of ``mending``: 1 ms."""
SOME = 16
"""Pods that are asked about in one step, and in each round at least."""
ROUNDS_TO_ASK_ALL = 6

T = TypeVar("T")
Act = Callable[[], Iterable[Difference]]
Step = tuple[str, Act]
"""What it is about, and what puts that right."""


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
        self._by_tcx: dict[int, list[str]] = {}
        """Programs of others at pods' host links, as they were when it was the pod's turn."""
        self._asked_last = -1
        self._memory = Memory()
        self._carried: tuple[Mapping[int, Pod], Mapping[int, frozenset[Address]]] | None = None
        self._good: _Good | None = None
        self._as_before = False
        """Rows read in this round as they did when the round before found nothing to do."""
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
            pods, known = self._fast.endpoints(), self._carried
            if known is None or known[0] is not pods:
                carried = {index: frozenset(pod.addresses) for index, pod in pods.items()}
                self._carried = known = pods, carried
            return known[1]
        except (KernelError, OSError) as exc:
            log.warning("the fast path's pods could not be read, their routes speak for them: %s", exc)
            return {}

    def mend(self, present: Present) -> list[Difference]:
        """``mending`` without a pause, of what does not come and go meanwhile."""
        return at_once(self.mending(present, AsSeen(present.enis)))

    def mending(self, present: Present, now: Now) -> Pausing[list[Difference]]:
        if self._fast is None:
            return []
        fast, round = self._fast, Round()
        for what, step in self._steps(fast, present, now, round):
            if self._fast is not fast:  # it was closed while others had the loop
                break
            with now.step():
                round.each(what, step)
            yield
        self.last = round
        return round.done

    def _steps(self, fast: FastPath, present: Present, now: Now, round: Round) -> Iterator[Step]:
        """Each about one object, which may have gone since it was seen: a step asks ``now``."""
        yield "pins of the fast path", fast.mend_pins
        yield "the fast path's settings", lambda: fast.mend_settings(self._home)
        yield "the fast path's prefixes", lambda: self._mend_prefixes(fast)
        devices = frozenset(self._enis.devices())
        look = _Answer(fast.hooks)
        yield "the fast path of devices", look.take
        if look.said is not None:
            hooks = look.said
            yield "the programs of pods", lambda: fast.mend_blocks(hooks)
            yield from self._eni_steps(fast, present, now, hooks, round, devices)
            yield from self._row_steps(fast, present, now, round)
            yield from self._hook_steps(fast, present, now, hooks, round)
        yield "the pods that are known", lambda: self._know(present, now)
        yield "the carriers of links", lambda: self._compare_carriers(fast, present)

    def _know(self, present: Present, now: Now) -> list[Difference]:
        self._pods.update(i for i, (endpoint, _) in present.pods.items() if now.has_pod(i, endpoint))
        return []

    def _compare_carriers(self, fast: FastPath, present: Present) -> list[Difference]:
        """Links are looked at anew only if what the round saw is not what is known of them, or rows are not
        as they were, whose flags say it."""
        told, ours = present.carriers, self._pods | set(self._enis.devices())
        if told is not None and self._as_before:
            down = {i for i, up in told.items() if not up and i in ours}
            if down == (self._down | self._enis.dark) & told.keys():
                return []
        self._follow_carriers(fast, anew=True)
        return []

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
        told = self._enis.differences(fast, index, _uplink_of(endpoint))
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

    def _eni_steps(
        self,
        fast: FastPath,
        present: Present,
        now: Now,
        hooks: Hooks,
        round: Round,
        devices: frozenset[int],
    ) -> Iterator[Step]:
        """``devices``: those that had a row before the round."""
        uplinks = _Answer(fast.uplinks)
        yield "the rows of uplinks", uplinks.take
        rows = {one.ifindex for one in (uplinks.said or {}).values()}
        for ifindex, eni in present.enis.items():
            name = f"fast path of ENI {eni.mac}"
            there = partial(now.has_eni, ifindex, eni)
            yield name, _if(there, partial(self._mend_eni_row, fast, eni, ifindex))
            yield name, _if(there, partial(_mend_eni_hook, fast, eni, ifindex, hooks))
            yield f"what others have at ENI {eni.mac}", partial(_tell_eni, fast, eni, ifindex, hooks, round)
        ours = {UplinkName(eni.mac.lower()) for eni in present.enis.values()}
        ours |= {_uplink_of(endpoint) for endpoint, _ in present.pods.values()}
        yield "the rows of uplinks", uplinks.take
        for row in (uplinks.said or {}).values():
            named = present.enis.get(row.ifindex)
            if named is not None and row.name not in ours:
                there = partial(now.has_eni, row.ifindex, named)
                yield f"row of uplink {row.mac}", _if(there, partial(_drop_stray, fast, row))
        for ifindex in (rows | devices) - present.enis.keys():
            gone = partial(_is_no, now.has_device, ifindex)
            yield f"fast path of device {ifindex}", _if(gone, partial(self._end_eni, ifindex))

    def _mend_eni_row(self, fast: FastPath, eni: EniLink, ifindex: int) -> list[Difference]:
        """A gateway's MAC that is another by now is written as well: the kernel's news, and nobody's hand."""
        known = ifindex in self._enis
        told = self._enis.differences(fast, ifindex, UplinkName(eni.mac.lower())) if known else []
        self._enis.tell(fast, eni, ifindex)
        return [Difference(ObjectKind.ROW, f"fast path of ENI {eni.mac}", one) for one in told]

    def _end_eni(self, ifindex: int) -> list[Difference]:
        self.eni_leaves(ifindex)
        return [Difference(ObjectKind.ROW, f"fast path of device {ifindex}", "no ENI of ours")]

    def _row_steps(self, fast: FastPath, present: Present, now: Now, round: Round) -> Iterator[Step]:
        """Pod by pod, unless all reads byte for byte as it did when the round before found nothing to do."""
        before = len(round.done), len(round.refused)
        raw = _Answer(fast.fingerprint)
        yield "rows of the fast path", raw.take
        seen = None if raw.said is None else _Good(raw.said, present.pods, present.links)
        self._as_before = seen is not None and seen == self._good
        if self._as_before:
            return
        self._good = None
        yield "addresses of the fast path", lambda: _remove_strays(fast)
        read = _Answer(lambda: (fast.snapshot(), fast.endpoints()))
        yield "rows of pods", read.take
        if read.said is None:
            return
        found, rows = read.said
        for ifindex, (endpoint, applied) in present.pods.items():
            pod = _pod(endpoint, applied, rows.get(ifindex))
            mend = partial(self._mend_pod, fast, endpoint, applied, pod, found)
            yield f"fast path of {endpoint.host_link}", _if(partial(now.has_pod, ifindex, endpoint), mend)
        for ifindex in rows.keys() - present.links:
            gone = partial(_is_no, now.has_link, ifindex)
            yield f"fast path of device {ifindex}", _if(gone, partial(self._end_pod, fast, ifindex))
        if before == (len(round.done), len(round.refused)):
            self._good = seen

    def _hook_steps(
        self, fast: FastPath, present: Present, now: Now, hooks: Hooks, round: Round
    ) -> Iterator[Step]:
        """Of pods whose place is not ours, that is. Of the others the kernel has said that all is well."""
        unhooked, received = self._unhooked, hooks.shaped.received
        for ifindex, (endpoint, _) in present.pods.items():
            if hooks.is_ours(ifindex) and ifindex not in self._empty:
                continue
            name = endpoint.host_link
            if ifindex not in received | unhooked:
                there = partial(now.has_pod, ifindex, endpoint)
                yield (
                    f"program of {name}",
                    _if(there, partial(self._mend_pod_hook, fast, name, ifindex, hooks)),
                )
            yield f"what others have at {name}", partial(_tell_pod, fast, name, ifindex, hooks, round)
        self._empty &= present.pods.keys()
        for some in self._in_turn(present):
            yield "what others have at pods by tcx", partial(self._ask_tcx, fast, some)
        for ifindex, programs in self._by_tcx.items():
            if ifindex in present.pods:
                where = f"host link {present.pods[ifindex][0].host_link}"
                round.foreign += [Foreign(where, one) for one in programs]

    def _in_turn(self, present: Present) -> Iterator[tuple[int, ...]]:
        """A part of the pods, some at a time; whose turn it is not keeps what was found of him.

        It takes two calls a pod, the kernel tells of no change, and nothing is mended by what is found.
        """
        pods = sorted(present.pods)
        share = max(SOME, -(-len(pods) // ROUNDS_TO_ASK_ALL))
        later = [one for one in pods if one > self._asked_last]
        chosen = (later if later else pods)[:share]
        self._asked_last = chosen[-1] if chosen and chosen[-1] != pods[-1] else -1
        self._by_tcx = {i: found for i, found in self._by_tcx.items() if i in present.pods}
        for begins in range(0, len(chosen), SOME):
            yield tuple(chosen[begins : begins + SOME])

    def _ask_tcx(self, fast: FastPath, devices: tuple[int, ...]) -> list[Difference]:
        found = fast.tcx_at_pods(devices)
        self._by_tcx = {i: one for i, one in self._by_tcx.items() if i not in devices} | found
        return []

    def _mend_pod(
        self, fast: FastPath, endpoint: Endpoint, applied: AppliedVeth, pod: Pod, found: Snapshot
    ) -> list[Difference]:
        told = fast.pod_differences(pod, found)
        if told:  # others may have written since ``found`` was read
            found = fast.snapshot()
            pod = _pod(endpoint, applied, fast.endpoints().get(pod.host_ifindex))
            told = fast.pod_differences(pod, found)
        if told:
            self._put_or_detach(fast, pod, found)
        return [Difference(ObjectKind.ROW, f"fast path of {endpoint.host_link}", one) for one in told]

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
            found = {one.address for one in self._memory.read(socket, address.LISTING)}
        told = self._prefixes
        own = frozenset(one for one in found if _needs_row(one, told))
        fast.set_stack_prefixes(
            service=told.service, host_cidrs=told.host_cidrs, node=own, hosts=told.addresses
        )
        self.own_addresses = own


@dataclass(slots=True)
class _Answer(Generic[T]):
    """What a reading came to that several steps go by; None if it failed. A step of its own, as it may."""

    ask: Callable[[], T]
    said: T | None = None

    def take(self) -> list[Difference]:
        self.said = None
        self.said = self.ask()
        return []


def _if(holds: Callable[[], bool], step: Act) -> Act:
    """Nothing is done about what is not there any more."""
    return lambda: list(step()) if holds() else []


def _is_no(has: Callable[[int], bool], ifindex: int) -> bool:
    return not has(ifindex)


def _mend_eni_hook(fast: FastPath, eni: EniLink, ifindex: int, hooks: Hooks) -> list[Difference]:
    told = fast.hook_differences(ifindex, hooks, eni=True)
    if told:
        fast.attach_eni(ifindex)
    return _programs(f"fast path of ENI {eni.mac}", told)


def _programs(where: str, told: Iterable[str]) -> list[Difference]:
    return [Difference(ObjectKind.PROGRAM, where, one) for one in told]


def _drop_stray(fast: FastPath, row: UplinkRow) -> list[Difference]:
    """Of a device of ours by another name: no pod of ours names it."""
    fast.drop_uplink(row.name)
    return [Difference(ObjectKind.ROW, f"map uplinks, row of {row.mac}", f"{row}, no ENI of ours")]


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
