"""The one door to bpf(2) itself, for what libbpf 1.1 has no call for: tcx links, and who is who by id.

Source: linux/bpf.h, union bpf_attr. Devices are those of the calling thread's network namespace.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from enum import IntEnum

from datapath.errors import KernelError

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_PROG_GET_FD_BY_ID, _MAP_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _PROG_QUERY = 13, 14, 15, 16
_LINK_CREATE, _LINK_UPDATE = 28, 29
_ATTR_BYTES = 144
_INFO_BYTES = 256
_MOST_PROGRAMS = 64
"""At a hook of a device: BPF_MPROG_MAX of kernel/bpf/mprog.c."""
_MOST_MAPS = 64
"""Of a program: MAX_USED_MAPS of include/linux/bpf_verifier.h."""
_MAP_IDS = 52
"""Of struct bpf_prog_info: nr_map_ids, and the address of where they go."""
_PROGRAM_FIELDS = (("=Q", 40), ("=QQ", 192), ("=I", 216))
"""Of struct bpf_prog_info: load_time; run_time_ns and run_cnt; verified_insns."""

_libc = ctypes.CDLL(None, use_errno=True)


class TcxHook(IntEnum):
    """enum bpf_attach_type, of Linux 6.6."""

    INGRESS = 46
    EGRESS = 47


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """``ifindex`` 0: the device is gone and the link holds nothing."""

    program_id: int
    ifindex: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What a descriptor is of: ``kind`` is ``map``, ``prog`` or ``link``, "" if it is none of these."""

    kind: str
    id: int


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """``tag`` is a hash of the instructions: two builds of one source may share it.

    ``loaded`` is in seconds since boot. ``runs`` and ``run_ns`` (all runs together) grow only while
    kernel.bpf_stats_enabled is on. ``verified`` counts the instructions that the verifier looked at,
    0 before Linux 5.16.
    """

    id: int
    name: str
    tag: str
    jited_bytes: int
    loaded: float
    runs: int
    run_ns: int
    verified: int


def link_create(program_fd: int, ifindex: int, hook: TcxHook) -> int:
    """A descriptor of a new tcx link. KernelError with EINVAL on a kernel without tcx."""
    attr = struct.pack("=IIII", program_fd, ifindex, hook, 0)
    return _call(_LINK_CREATE, attr, f"link the program to {hook.name.lower()}", f"device {ifindex}")


def link_update(link_fd: int, program_fd: int) -> None:
    """Put another program into a link; every packet meets the one or the other."""
    attr = struct.pack("=IIII", link_fd, program_fd, 0, 0)
    _call(_LINK_UPDATE, attr, "update the link", f"descriptor {link_fd}")


def link_info(link_fd: int) -> LinkInfo:
    raw = _info(link_fd)
    _, _, program_id, _, ifindex, _ = struct.unpack_from("=IIIIII", raw)
    return LinkInfo(program_id, ifindex)


def identity(fd: int) -> Identity:
    """Two descriptors of one object have the same."""
    text = os.readlink(f"/proc/self/fd/{fd}").removeprefix("anon_inode:").replace("-", "_")
    kind = text.removeprefix("bpf_") if text in ("bpf_map", "bpf_prog", "bpf_link") else ""
    return Identity(kind, struct.unpack_from("=I", _info(fd), 4)[0] if kind else 0)


def is_link(fd: int) -> bool:
    return identity(fd).kind == "link"


def programs_at(ifindex: int, hook: TcxHook) -> tuple[int, ...]:
    """The ids of all programs at the hook, whoever attached them, in the order in which packets meet them."""
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    attr = struct.pack("=IIIIQI", ifindex, hook, 0, 0, ctypes.addressof(ids), _MOST_PROGRAMS)
    what = f"ask which programs are at {hook.name.lower()}"
    number = _filled(_PROG_QUERY, attr, what, f"device {ifindex}")
    return tuple(ids[:number])


def program_info(program_fd: int) -> ProgramInfo:
    raw = _info(program_fd)
    number, tag, jited = struct.unpack_from("=I8sI", raw, 4)
    (loaded,), (run_ns, runs), (verified,) = (struct.unpack_from(f, raw, at) for f, at in _PROGRAM_FIELDS)
    return ProgramInfo(
        id=number,
        name=raw[64:80].rstrip(b"\0").decode(errors="replace"),
        tag=tag.hex(),
        jited_bytes=jited,
        loaded=loaded / 1e9,
        runs=runs,
        run_ns=run_ns,
        verified=verified,
    )


def program_by_id(number: int) -> int:
    """A descriptor, owned by the caller."""
    return _call(_PROG_GET_FD_BY_ID, struct.pack("=III", number, 0, 0), "open the program", f"id {number}")


def maps_of(program_fd: int) -> tuple[int, ...]:
    """Descriptors, owned by the caller, of the maps that a program uses."""
    ids = (ctypes.c_uint32 * _MOST_MAPS)()
    raw = bytearray(_INFO_BYTES)
    struct.pack_into("=IQ", raw, _MAP_IDS, _MOST_MAPS, ctypes.addressof(ids))
    (number,) = struct.unpack_from("=I", _info(program_fd, bytes(raw)), _MAP_IDS)
    found: list[int] = []
    try:
        for one in ids[:number]:
            attr = struct.pack("=III", one, 0, 0)
            found.append(_call(_MAP_GET_FD_BY_ID, attr, "open the map", f"id {one}"))
    except KernelError:
        for fd in found:
            os.close(fd)
        raise
    return tuple(found)


def program_name(number: int) -> str:
    """By the kernel's id; "" if it is gone or has none."""
    try:
        fd = program_by_id(number)
    except KernelError:
        return ""
    try:
        return program_info(fd).name
    finally:
        os.close(fd)


def _info(fd: int, asked: bytes = b"") -> bytes:
    raw = ctypes.create_string_buffer(asked, _INFO_BYTES)
    attr = struct.pack("=IIQ", fd, _INFO_BYTES, ctypes.addressof(raw))
    _call(_OBJ_GET_INFO_BY_FD, attr, "ask about the BPF object", f"descriptor {fd}")
    return raw.raw


def _filled(command: int, attr: bytes, what: str, name: str) -> int:
    """How many the kernel has counted: the last word of ``attr``, which it writes."""
    room = ctypes.create_string_buffer(attr, _ATTR_BYTES)
    _call_in(command, room, what, name)
    return int(struct.unpack_from("=I", room.raw, len(attr) - 4)[0])


def _call(command: int, attr: bytes, what: str, name: str) -> int:
    return _call_in(command, ctypes.create_string_buffer(attr, _ATTR_BYTES), what, name)


def _call_in(command: int, room: ctypes.Array[ctypes.c_char], what: str, name: str) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise KernelError(what, object=name, detail=f"bpf(2) has no known number on {platform.machine()}")
    result = int(_libc.syscall(number, command, room, _ATTR_BYTES))
    if result < 0:
        raise KernelError(what, errno=ctypes.get_errno(), object=name)
    return result
