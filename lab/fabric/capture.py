"""Packets at a port of the fabric: an AF_PACKET socket on the fabric's side, and pcap files.

The fabric's side sees both directions: what the owner sent, before the fabric judged it, and what the fabric
delivered. Times are of the kernel, in nanoseconds. With offloads on, a frame may be longer than the MTU.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import BinaryIO

from datapath.errors import KernelError
from datapath.namespace import entered

_ETH_P_ALL = 0x0003
_ETH_P_8021Q = b"\x81\x00"
_VLAN_ID = 0xFFF
_SOL_PACKET, _PACKET_AUXDATA = 263, 8
_SO_TIMESTAMPNS = 35
_AUXDATA = struct.Struct("=IIIHHHH")
_TP_STATUS_VLAN_VALID = 0x10
_OUTGOING = 4
_SNAPLEN = 262144
_BUFFER = 4 << 20
_LOOK_AT_STOP = 0.1
"""Seconds between two looks at the event that ends a capture."""


@dataclass(frozen=True, slots=True)
class Frame:
    """``time`` is nanoseconds since the epoch; ``to_port`` tells a delivered frame from a sent one."""

    time: int
    data: bytes
    to_port: bool


class Tap:
    """An open capture: it sees what passes from its creation on. Use as a context manager."""

    def __init__(self, namespace: int, device: str, *, vlan: int = 0) -> None:
        """``device`` is in ``namespace``; of its frames only those with the tag ``vlan``, or all (0).

        Raises KernelError.
        """
        self._vlan = vlan
        try:
            with entered(namespace):
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self._socket.settimeout(_LOOK_AT_STOP)
            self._socket.bind((device, _ETH_P_ALL))
        except OSError as exc:
            raise KernelError("capture", errno=exc.errno or 0, object=device) from exc

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def frames(self, *, count: int | None = None, stop: Event | None = None) -> Iterator[Frame]:
        """Frames as they come, until there were ``count``, or ``stop`` is set, or the device is gone."""
        seen = 0
        while count is None or seen < count:
            try:
                frame = self._receive()
                if self._wanted(frame):
                    yield frame
                    seen += 1
            except TimeoutError:
                if stop is not None and stop.is_set():
                    return
            except OSError:  # the device was unplugged
                return

    def waiting(self) -> Iterator[Frame]:
        """The frames that have come by now; does not wait for more."""
        self._socket.setblocking(False)
        try:
            while True:
                frame = self._receive()
                if self._wanted(frame):
                    yield frame
        except BlockingIOError:
            return
        finally:
            self._socket.settimeout(_LOOK_AT_STOP)

    def _wanted(self, frame: Frame) -> bool:
        tag = int.from_bytes(frame.data[14:16], "big") & _VLAN_ID
        return not self._vlan or (frame.data[12:14] == _ETH_P_8021Q and tag == self._vlan)

    def _receive(self) -> Frame:
        room = socket.CMSG_SPACE(16) + socket.CMSG_SPACE(_AUXDATA.size)
        data, ancillary, _, address = self._socket.recvmsg(_SNAPLEN, room)
        time = 0
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("=qq", value[:16])
                time = seconds * 1_000_000_000 + nanoseconds
        return Frame(time, with_tag(data, ancillary), to_port=address[2] == _OUTGOING)


def write_pcap(file: BinaryIO, frames: Iterator[Frame]) -> int:
    """Write a pcap file with nanosecond times, each frame as it comes; how many there were.

    Source of the format: pcap-savefile(5), magic 0xa1b23c4d, link type 1 (Ethernet).
    """
    file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, _SNAPLEN, 1))
    file.flush()
    written = 0
    for frame in frames:
        seconds, nanoseconds = divmod(frame.time, 1_000_000_000)
        file.write(struct.pack("<IIII", seconds, nanoseconds, len(frame.data), len(frame.data)))
        file.write(frame.data)
        file.flush()
        written += 1
    return written


Ancillary = Iterable[tuple[int, int, bytes]]
"""As ``socket.recvmsg`` gives it."""


def with_tag(data: bytes, ancillary: Ancillary) -> bytes:
    """The kernel takes a VLAN tag out of the frame and reports it beside: put it back.

    ``ancillary`` is from a socket with PACKET_AUXDATA (packet(7)).
    """
    for level, kind, value in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tag, protocol = _AUXDATA.unpack(value[: _AUXDATA.size])
            if status & _TP_STATUS_VLAN_VALID:
                return data[:12] + struct.pack(">HH", protocol, tag) + data[12:]
    return data
