"""Programs onto devices.

Pods: their host veths share two blocks, one per direction. A pod joins with one message, one replaced filter
serves all. A veth whose clsact somebody else added cannot join; it gets filters of its own, and so do the
ENIs of a kernel without tcx. A tcx link would save 70 of the 340 ns of a packet's way through the node,
but it waits for a grace period of RCU with rtnl held: 15 ms to attach, and as much for each link when veths
are deleted, which makes 420 to 750 ms of 26 for thirty that go together. All others' ADDs would wait.
ENIs: tcx links, pinned, so that they outlive the process; found out by trying.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from datapath import namespace
from datapath.acceleration import bpf_call, tc
from datapath.acceleration.bpf_call import TcxHook
from datapath.acceleration.load import Loaded
from datapath.acceleration.tc import Blocks, Place, Shaped, Side
from datapath.ebpf import libbpf
from datapath.errors import KernelError
from datapath.netlink.socket import Pool, Socket
from datapath.netlink.wire import Request

BLOCKS = Blocks(ingress=0x7465, egress=0x7466)
_POD = {Side.INGRESS: "pod_egress", Side.EGRESS: "stack_egress"}
_ENI = {Side.INGRESS: "eni_ingress", Side.EGRESS: "stack_egress"}
_TCX = {Side.INGRESS: TcxHook.INGRESS, Side.EGRESS: TcxHook.EGRESS}
_NO_TCX = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


class Attacher:
    """All verbs are idempotent. ``netns`` is the node's namespace, None for the process's own; kept open."""

    def __init__(self, loaded: Loaded, netns: int | None) -> None:
        self._loaded = loaded
        self._netns = None if netns is None else os.dup(netns)
        self._sockets = Pool(self._netns)
        self._links = loaded.pin_dir / "links"
        self._links.mkdir(exist_ok=True)
        self.tcx = loaded.options.tcx
        """Whether ENIs get tcx links; off once the kernel has refused one."""

    def close(self) -> None:
        self._sockets.close()
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
                self._attach_links(ifindex)
                return
            except KernelError as exc:
                if exc.errno not in _NO_TCX:
                    raise
                self.tcx = False
        self._attach_filters(ifindex, _ENI)

    def detach_pod(self, ifindex: int) -> None:
        """Leave the blocks; succeeds for the absent. clsact of somebody else's stays."""
        with self._sockets.borrowed() as netlink:
            _detach(netlink, ifindex, tc.clsact_at(netlink, ifindex))

    def detach_eni(self, ifindex: int) -> None:
        """Succeeds for the absent."""
        for side in Side:
            self._pin(side, ifindex).unlink(missing_ok=True)
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
        for path in self._links.glob(f"{side.name.lower()}_*"):
            self._swap_link(path, side)

    def detach_all(self) -> None:
        """Everything that ``swap`` would find."""
        with self._sockets.borrowed() as netlink:
            detach_all(netlink, self._links)

    def attached(self) -> dict[int, str]:
        """How each device is attached: ``block``, ``tcx`` or ``clsact``."""
        with self._sockets.borrowed() as netlink:
            found = {}
            for ifindex, blocks in tc.list_clsact(netlink).items():
                if blocks == BLOCKS:
                    found[ifindex] = "block"
                elif tc.program_at(netlink, Place.device(ifindex, Side.INGRESS)) is not None:
                    found[ifindex] = "clsact"
        for path in self._links.glob("ingress_*"):
            with _opened(path) as fd:
                if bpf_call.link_info(fd).ifindex:
                    found[bpf_call.link_info(fd).ifindex] = "tcx"
        return found

    def shaped(self) -> Shaped:
        """Devices that somebody else shapes."""
        with self._sockets.borrowed() as netlink:
            return tc.list_shaped(netlink)

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

    def _attach_links(self, ifindex: int) -> None:
        for side in (Side.EGRESS, Side.INGRESS):
            if not self._renew_link(side, ifindex):
                self._new_link(side, ifindex)

    def _renew_link(self, side: Side, ifindex: int) -> bool:
        """False if there is no link, or one whose device is gone."""
        path = self._pin(side, ifindex)
        if not path.exists():
            return False
        with _opened(path) as fd:
            if bpf_call.link_info(fd).ifindex != ifindex:
                path.unlink()
                return False
            bpf_call.link_update(fd, self._loaded.program_fd(_ENI[side]))
        return True

    def _new_link(self, side: Side, ifindex: int) -> None:
        with self._inside():
            fd = bpf_call.link_create(self._loaded.program_fd(_ENI[side]), ifindex, _TCX[side])
        try:
            libbpf.pin(fd, str(self._pin(side, ifindex)))
        finally:
            os.close(fd)

    def _swap_link(self, path: Path, side: Side) -> None:
        with _opened(path) as fd:
            if bpf_call.link_info(fd).ifindex:
                bpf_call.link_update(fd, self._loaded.program_fd(_ENI[side]))
                return
        path.unlink(missing_ok=True)

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
        number = BLOCKS.ingress if side is Side.INGRESS else BLOCKS.egress
        return make(Place.block(number), self._loaded.program_fd(_POD[side]), _POD[side])

    def _pin(self, side: Side, ifindex: int) -> Path:
        return self._links / f"{side.name.lower()}_{ifindex}"

    def _inside(self) -> AbstractContextManager[None]:
        return nullcontext() if self._netns is None else namespace.entered(self._netns)


def detach_all(netlink: Socket, links: Path) -> None:
    """Whatever of ours is attached in the namespace, and the links pinned in the directory ``links``.

    Needs no program of ours, so that what a kernel does not load any more can still be taken away.
    """
    if links.is_dir():
        for path in links.iterdir():
            path.unlink()
    for ifindex, blocks in tc.list_clsact(netlink).items():
        _detach(netlink, ifindex, blocks)


def _detach(netlink: Socket, ifindex: int, blocks: Blocks | None) -> None:
    if blocks == BLOCKS:
        netlink.one(tc.delete_clsact(ifindex))
    else:
        netlink.transact(*(tc.delete_filter(Place.device(ifindex, side)) for side in Side))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = libbpf.open_pinned(str(path))
    try:
        yield fd
    finally:
        os.close(fd)
