"""Offloads of a device, by SIOCETHTOOL: off, a frame on a veth is what it would be on a wire.

With them on, the kernel passes frames of up to 64 KiB and checksums that nobody computed from end to end of a
veth pair, and takes a wrong checksum for a right one. All functions act on the calling thread's network
namespace. Source of the numbers: include/uapi/linux/ethtool.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from dataclasses import dataclass

from datapath.errors import KernelError

_SIOCETHTOOL = 0x8946


@dataclass(frozen=True, slots=True)
class _Feature:
    name: str
    get: int
    set: int


_FEATURES = (
    _Feature("rx-checksum", 0x14, 0x15),
    _Feature("tx-checksum", 0x16, 0x17),
    _Feature("scatter-gather", 0x18, 0x19),
    _Feature("tso", 0x1E, 0x1F),
    _Feature("gso", 0x23, 0x24),
    _Feature("gro", 0x2B, 0x2C),
)
"""In the order in which they can be switched on: segmentation needs scatter-gather and checksums."""


class _Value(ctypes.Structure):
    """struct ethtool_value."""

    _fields_ = [("command", ctypes.c_uint32), ("data", ctypes.c_uint32)]


def offloads(ifname: str) -> dict[str, bool]:
    """The state of each offload that ``disable_offloads`` switches. Raises KernelError."""
    with _socket() as control:
        return {each.name: bool(_call(control, ifname, each.get)) for each in _FEATURES}


def disable_offloads(ifname: str) -> None:
    """Checksums are computed and verified in software, and no frame is longer than the MTU."""
    with _socket() as control:
        for each in reversed(_FEATURES):
            _call(control, ifname, each.set, 0)


def enable_offloads(ifname: str) -> None:
    with _socket() as control:
        for each in _FEATURES:
            _call(control, ifname, each.set, 1)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _call(control: socket.socket, ifname: str, command: int, data: int = 0) -> int:
    value = _Value(command, data)
    request = struct.pack("16sP16x", ifname.encode(), ctypes.addressof(value))
    try:
        fcntl.ioctl(control, _SIOCETHTOOL, request)
    except OSError as exc:
        raise KernelError(f"ethtool command {command:#x}", errno=exc.errno or 0, object=ifname) from exc
    return int(value.data)
