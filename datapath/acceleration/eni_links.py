"""tcx links of ENIs: pinned, so that they outlive the process, and held open, so that none goes with its pin.

PIN_DIR/links/SIDE_IFINDEX
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from datapath.acceleration import bpf_call, pins
from datapath.acceleration.bpf_call import LinkInfo, TcxHook
from datapath.acceleration.tc import Side
from datapath.ebpf import libbpf
from datapath.errors import KernelError

NO_TCX = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
_TCX = {Side.INGRESS: TcxHook.INGRESS, Side.EGRESS: TcxHook.EGRESS}


class EniLinks:
    """``inside`` enters the node's namespace, whose devices are meant."""

    def __init__(
        self,
        directory: Path,
        programs: Mapping[Side, str],
        program_fd: Callable[[str], int],
        inside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.directory = directory
        self._programs, self._program_fd, self._inside = programs, program_fd, inside
        self._held: dict[tuple[Side, int], int] = {}
        directory.mkdir(exist_ok=True)

    def close(self) -> None:
        """Let go of all of them: they stay."""
        for key in tuple(self._held):
            self._let_go(key)

    def attach(self, ifindex: int) -> None:
        """What notes comes before what reads the notes. KernelError of ``NO_TCX``: there is no tcx."""
        for side in (Side.EGRESS, Side.INGRESS):
            if not self._renew(side, ifindex):
                self._make(side, ifindex)

    def detach(self, ifindex: int) -> None:
        """Succeeds for the absent."""
        for side in Side:
            pins.remove(self._pin(side, ifindex))
            self._let_go((side, ifindex))

    def swap(self, side: Side) -> None:
        """Our program into every link; what is pinned there and holds none goes."""
        for path in self.directory.glob(f"{side.name.lower()}_*"):
            fd = _opened(path)
            try:
                if fd is not None and bpf_call.is_link(fd) and bpf_call.link_info(fd).ifindex:
                    bpf_call.link_update(fd, self._program_fd(self._programs[side]))
                else:
                    pins.remove(path)
            finally:
                if fd is not None:
                    os.close(fd)

    def differences(self, ifindex: int) -> list[str]:
        """What is otherwise than ``attach`` leaves it: which program, and whether it is pinned."""
        told = []
        for side in Side:
            fd, name, wanted = self._link(side, ifindex), side.name.lower(), self._programs[side]
            if fd is None:
                told.append(f"{name}: not attached")
            elif bpf_call.link_info(fd).program_id != bpf_call.identity(self._program_fd(wanted)).id:
                told.append(f"{name}: program {bpf_call.link_info(fd).program_id}, not {wanted}")
            elif pins.pinned(self._pin(side, ifindex)) != bpf_call.identity(fd):
                told.append(f"{name}: not pinned")
        return told

    def devices(self) -> Iterator[int]:
        return (one.ifindex for one in links_in(self.directory, Side.INGRESS))

    def others(self, ifindex: int) -> list[str]:
        """Programs at an ENI beside ours."""
        found = []
        with self._inside():
            there = {side: self._at(side, ifindex) for side in Side}
        for side, numbers in there.items():
            link = self._link(side, ifindex)
            own = 0 if link is None else bpf_call.link_info(link).program_id
            found += [_words(one, side) for one in numbers if one != own]
        return found

    def programs_at(self, devices: Iterable[int]) -> dict[int, list[str]]:
        """Programs at devices that have none of ours; of those that have any. One entry of the namespace."""
        with self._inside():
            there = [(one, side, self._at(side, one)) for one in devices for side in Side]
        found: dict[int, list[str]] = {}
        for ifindex, side, numbers in there:
            for number in numbers:
                found.setdefault(ifindex, []).append(_words(number, side))
        return found

    def _at(self, side: Side, ifindex: int) -> tuple[int, ...]:
        """The calling thread is in the namespace."""
        try:
            return bpf_call.programs_at(ifindex, _TCX[side])
        except KernelError as exc:
            if exc.errno in NO_TCX | {errno.ENODEV}:
                return ()
            raise

    def _link(self, side: Side, ifindex: int) -> int | None:
        """Our link at the device, held open; None if there is none, or one whose device is gone."""
        key = side, ifindex
        if key not in self._held:
            fd = _opened(self._pin(side, ifindex))
            if fd is None:
                return None
            self._held[key] = fd
        fd = self._held[key]
        if bpf_call.is_link(fd) and bpf_call.link_info(fd).ifindex == ifindex:
            return fd
        self._let_go(key)
        return None

    def _let_go(self, key: tuple[Side, int]) -> None:
        fd = self._held.pop(key, None)
        if fd is not None:
            os.close(fd)

    def _renew(self, side: Side, ifindex: int) -> bool:
        """False if there is no link of ours at the device."""
        fd = self._link(side, ifindex)
        if fd is None:
            return False
        bpf_call.link_update(fd, self._program_fd(self._programs[side]))
        pins.mend({self._pin(side, ifindex): fd})
        return True

    def _make(self, side: Side, ifindex: int) -> None:
        with self._inside():
            fd = bpf_call.link_create(self._program_fd(self._programs[side]), ifindex, _TCX[side])
        self._held[side, ifindex] = fd
        pins.put(fd, self._pin(side, ifindex))

    def _pin(self, side: Side, ifindex: int) -> Path:
        return self.directory / f"{side.name.lower()}_{ifindex}"


def _words(program: int, side: Side) -> str:
    return f"{f'program {bpf_call.program_name(program)}'.rstrip()} (tcx {side.name.lower()})"


def links_in(directory: Path, side: Side) -> Iterator[LinkInfo]:
    """Pinned links that hold a program at a device."""
    for path in sorted(directory.glob(f"{side.name.lower()}_*")):
        fd = _opened(path)
        if fd is None:
            continue
        try:
            found = bpf_call.link_info(fd) if bpf_call.is_link(fd) else None
        finally:
            os.close(fd)
        if found is not None and found.ifindex:
            yield found


def _opened(path: Path) -> int | None:
    """None for nothing, and for what is no BPF object."""
    with suppress(KernelError):
        return libbpf.open_pinned(str(path)) if path.exists() else None
    return None
