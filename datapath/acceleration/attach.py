"""Programs onto devices.

Pods: their host veths share two blocks, one per direction. A pod joins with one message, one replaced filter
serves all. A veth whose clsact somebody else added cannot join; it gets filters of its own, and so do the
ENIs of a kernel without tcx. A tcx link would save 70 of the 340 ns of a packet's way through the node,
but it waits for a grace period of RCU with rtnl held: 15 ms to attach, and as much for each link when veths
are deleted, which makes 420 to 750 ms of 26 for thirty that go together. All others' ADDs would wait.
ENIs: tcx links (``eni_links``) where the kernel has them; found out by trying.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from datapath import namespace
from datapath.acceleration import bpf_call, pins, tc
from datapath.acceleration.eni_links import NO_TCX, EniLinks
from datapath.acceleration.load import Loaded
from datapath.acceleration.tc import Blocks, Place, Shaped, Side
from datapath.difference import Difference, ObjectKind
from datapath.errors import KernelError
from datapath.netlink.memory import Memory
from datapath.netlink.socket import Pool, Socket
from datapath.netlink.wire import Request

BLOCKS = Blocks(ingress=0x7465, egress=0x7466)
_POD = {Side.INGRESS: "pod_egress", Side.EGRESS: "pod_ingress"}
_ENI = {Side.INGRESS: "eni_ingress", Side.EGRESS: "eni_egress"}


@dataclass(frozen=True, slots=True)
class Hooks:
    """The devices that have clsact, with its blocks; that others shape; and whose root somebody has set."""

    clsact: Mapping[int, Blocks]
    shaped: Shaped
    roots: Mapping[int, str]

    def is_anothers(self, ifindex: int) -> bool:
        """Whether the device has a clsact that is in no block of ours."""
        return self.clsact.get(ifindex, BLOCKS) != BLOCKS

    def is_ours(self, ifindex: int) -> bool:
        """Whether the device is in our blocks."""
        return self.clsact.get(ifindex) == BLOCKS


class Attacher:
    """All verbs are idempotent. ``netns`` is the node's namespace, None for the process's own; kept open."""

    def __init__(self, loaded: Loaded, netns: int | None) -> None:
        self._loaded = loaded
        self._netns = None if netns is None else os.dup(netns)
        self._sockets = Pool(self._netns)
        self._memory = Memory()
        self._links = EniLinks(loaded.pin_dir / "links", _ENI, loaded.program_fd, self._inside)
        self.tcx = loaded.options.tcx
        """Whether ENIs get tcx links; off once the kernel has refused one."""

    def close(self) -> None:
        self._sockets.close()
        self._links.close()
        if self._netns is not None:
            os.close(self._netns)
            self._netns = None

    def attach_pod(self, ifindex: int) -> None:
        """Raises KernelError with ENODEV if the veth is gone."""
        with self._sockets.borrowed() as netlink:
            try:
                netlink.transact(tc.add_clsact(ifindex, BLOCKS), *self._block_filters(tc.add_filter))
            except KernelError as exc:
                if exc.errno != errno.EEXIST:
                    raise
                self._attach_present(netlink, ifindex)

    def attach_eni(self, ifindex: int) -> None:
        """Raises KernelError with ENODEV if the ENI is gone."""
        if self.tcx:
            try:
                self._links.attach(ifindex)
                return
            except KernelError as exc:
                if exc.errno not in NO_TCX:
                    raise
                self.tcx = False
        self._attach_filters(ifindex, _ENI)

    # Compared

    def mend_blocks(self, hooks: Hooks) -> list[Difference]:
        """Both blocks: exactly our programs. What else is in them was put there by others, and goes.

        By the number of a block alone: the kernel lets nobody write to one by a device that hangs on it.
        """
        done: list[Difference] = []
        if BLOCKS not in hooks.clsact.values():
            return done
        with self._sockets.borrowed() as netlink:
            for side in Side:
                place = Place.block(_number(side))
                there = tc.list_filters(netlink, place)
                wrong = self._wrong(there, _POD[side])
                if wrong:
                    netlink.one(self._block_filter(tc.put_filter, side))
                    done.append(Difference(ObjectKind.PROGRAM, f"{_POD[side]} of pods ({place})", wrong))
                for other in (one for one in there if not one.is_ours):
                    netlink.one(tc.delete_other(other))
                    done.append(
                        Difference(ObjectKind.PROGRAM, f"{place} of pods", f"{other}, somebody else's")
                    )
        return done

    def look(self) -> Hooks:
        """Where pods and ENIs may have programs; the very same while the kernel says the same."""
        with self._sockets.borrowed() as netlink:
            listed = self._memory.read(netlink, tc.QDISCS)
        return self._memory.made("hooks", (listed,), lambda: _hooks(tc.qdiscs(listed)))

    def pod_differences(self, ifindex: int, hooks: Hooks) -> list[str]:
        """What is otherwise at a pod's host link than ``attach_pod`` leaves it."""
        blocks = hooks.clsact.get(ifindex)
        if blocks is None:
            return ["not attached"]
        return [] if blocks == BLOCKS else self._filter_differences(ifindex, _POD)

    def eni_differences(self, ifindex: int) -> list[str]:
        """The same of an ENI and ``attach_eni``: on both sides, which program, and whether it is pinned."""
        if not self.tcx:
            return self._filter_differences(ifindex, _ENI)
        return self._links.differences(ifindex)

    def take_place(self, ifindex: int) -> bool:
        """Put our clsact in place of one that somebody added and put nothing into. False if it is in use."""
        with self._sockets.borrowed() as netlink:
            others = [o for o in self._filters(netlink, ifindex) if not o.is_ours]
            if others or tc.clsact_at(netlink, ifindex) != Blocks(0, 0):
                return False
            block = self._block_filters(tc.add_filter)
            netlink.transact(tc.delete_clsact(ifindex), tc.add_clsact(ifindex, BLOCKS), *block)
        return True

    def foreign(self, ifindex: int, hooks: Hooks, *, eni: bool) -> list[str]:
        """Programs of others at a device of ours, beside our own place."""
        found = []
        if ifindex in hooks.clsact and hooks.clsact[ifindex] != BLOCKS:
            with self._sockets.borrowed() as netlink:
                found += [
                    f"{one} ({Side(one.place.parent).name.lower()})"
                    for one in self._filters(netlink, ifindex)
                    if not one.is_ours
                ]
        return [*found, *self._links.others(ifindex)] if self.tcx and eni else found

    def tcx_at_pods(self, devices: Collection[int]) -> dict[int, list[str]]:
        """Programs at devices that have none of ours by tcx; of those that have any."""
        return self._links.programs_at(devices) if self.tcx else {}

    def _filters(self, netlink: Socket, ifindex: int) -> list[tc.Filter]:
        return [one for side in Side for one in tc.list_filters(netlink, Place.device(ifindex, side))]

    def _filter_differences(self, ifindex: int, programs: dict[Side, str]) -> list[str]:
        told = []
        with self._sockets.borrowed() as netlink:
            for side, name in programs.items():
                wrong = self._wrong(tc.list_filters(netlink, Place.device(ifindex, side)), name)
                if wrong:
                    told.append(f"{side.name.lower()}: {wrong}")
        return told

    def _wrong(self, there: Sequence[tc.Filter], name: str) -> str:
        """What is under our number where ``name`` should be; "" if all is well."""
        own = next((one for one in there if one.is_ours), None)
        if own is None:
            return "not attached"
        return "" if self._is_ours(own.program_id, name) else f"{own}, not {name}"

    def _is_ours(self, program_id: int, name: str) -> bool:
        return program_id == bpf_call.identity(self._loaded.program_fd(name)).id

    def detach_pod(self, ifindex: int) -> None:
        """Leave the blocks; succeeds for the absent. clsact of somebody else's stays."""
        with self._sockets.borrowed() as netlink:
            _detach(netlink, ifindex, tc.clsact_at(netlink, ifindex))

    def detach_eni(self, ifindex: int) -> None:
        """Succeeds for the absent."""
        self._links.detach(ifindex)
        with self._sockets.borrowed() as netlink:
            netlink.transact(*(tc.delete_filter(Place.device(ifindex, side)) for side in Side))

    def swap(self, side: Side) -> None:
        """Put our programs wherever earlier ones of ours are attached; each place changes in one step."""
        with self._sockets.borrowed() as netlink:
            present = tc.list_clsact(netlink)
            if BLOCKS in present.values():
                netlink.one(self._block_filter(tc.put_filter, side))
            for ifindex in (index for index, blocks in present.items() if blocks != BLOCKS):
                self._swap_filter(netlink, ifindex, side)
        self._links.swap(side)

    def detach_all(self) -> None:
        """Everything that ``swap`` would find."""
        self._links.close()
        with self._sockets.borrowed() as netlink:
            detach_all(netlink, self._links.directory)

    def attached(self) -> dict[int, str]:
        """How each device is attached: ``block``, ``tcx`` or ``clsact``."""
        with self._sockets.borrowed() as netlink:
            found = {}
            for ifindex, blocks in tc.list_clsact(netlink).items():
                if blocks == BLOCKS:
                    found[ifindex] = "block"
                elif tc.program_at(netlink, Place.device(ifindex, Side.INGRESS)) is not None:
                    found[ifindex] = "clsact"
        found |= dict.fromkeys(self._links.devices(), "tcx")
        return found

    def shaped(self) -> Shaped:
        """Devices that somebody else shapes."""
        with self._sockets.borrowed() as netlink:
            return tc.list_qdiscs(netlink).shaped

    def _attach_present(self, netlink: Socket, ifindex: int) -> None:
        """The veth has clsact: ours, and then all is well, or another's.

        Or it has somebody's ingress qdisc, whose one hook would take the filters of both directions: such a
        pod is left to the stack.
        """
        blocks = tc.clsact_at(netlink, ifindex)
        if blocks is not None and blocks != BLOCKS:
            self._attach_filters(ifindex, _POD)

    def _attach_filters(self, ifindex: int, programs: dict[Side, str]) -> None:
        with self._sockets.borrowed() as netlink:
            netlink.transact(
                tc.add_clsact(ifindex).also_done_if(errno.EEXIST),
                *(
                    tc.put_filter(Place.device(ifindex, side), self._loaded.program_fd(name), name)
                    for side, name in reversed(programs.items())
                ),
            )

    def _swap_filter(self, netlink: Socket, ifindex: int, side: Side) -> None:
        """Filters of a device by itself: a pod's if a pod's program is there, else an ENI's."""
        here = tc.program_at(netlink, Place.device(ifindex, Side.INGRESS))
        if here is None:
            return
        fd = bpf_call.program_by_id(here)
        try:
            pod = bpf_call.program_info(fd).name == _POD[Side.INGRESS]
        finally:
            os.close(fd)
        name = (_POD if pod else _ENI)[side]
        netlink.one(tc.put_filter(Place.device(ifindex, side), self._loaded.program_fd(name), name))

    def _block_filters(self, make: tc.MakeFilter) -> list[Request]:
        return [self._block_filter(make, side) for side in (Side.EGRESS, Side.INGRESS)]

    def _block_filter(self, make: tc.MakeFilter, side: Side) -> Request:
        return make(Place.block(_number(side)), self._loaded.program_fd(_POD[side]), _POD[side])

    def _inside(self) -> AbstractContextManager[None]:
        return nullcontext() if self._netns is None else namespace.entered(self._netns)


def _hooks(found: tc.Qdiscs) -> Hooks:
    return Hooks(found.clsact, found.shaped, found.roots)


def _number(side: Side) -> int:
    return BLOCKS.ingress if side is Side.INGRESS else BLOCKS.egress


def detach_all(netlink: Socket, links: Path) -> None:
    """Whatever of ours is attached in the namespace, and the links pinned in the directory ``links``.

    Needs no program of ours, so that what a kernel does not load any more can still be taken away.
    """
    if links.is_dir():
        for path in links.iterdir():
            pins.remove(path)
    for ifindex, blocks in tc.list_clsact(netlink).items():
        _detach(netlink, ifindex, blocks)


def _detach(netlink: Socket, ifindex: int, blocks: Blocks | None) -> None:
    if blocks == BLOCKS:
        netlink.one(tc.delete_clsact(ifindex))
    else:
        netlink.transact(*(tc.delete_filter(Place.device(ifindex, side)) for side in Side))
