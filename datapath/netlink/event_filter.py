"""Which events of the kernel wake a process: a program of classic BPF on the socket that they come by.

Source: linux/bpf_common.h, Documentation/networking/filter.rst. What is loaded is taken for big-endian, so
that a number of netlink's, which is the machine's, is compared in network order, and for equality only.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from enum import IntEnum

_SO_ATTACH_FILTER = 26
_RETURN = 0x06
_ALL = 0xFFFFFFFF

Instruction = bytes


class Test(IntEnum):
    LOAD_WORD = 0x20
    LOAD_HALF = 0x28
    EQUAL = 0x15
    ANY_OF = 0x45


def instruction(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> Instruction:
    """struct sock_filter. ``then`` and ``otherwise``: how many instructions a test leaves out."""
    return struct.pack("=HBBI", code, then, otherwise, value)


ACCEPT, REJECT = instruction(_RETURN, _ALL), instruction(_RETURN, 0)


def attach(to: socket.socket, program: list[Instruction]) -> None:
    """Let the kernel give ``to`` only what the program accepts."""
    text = ctypes.create_string_buffer(b"".join(program))
    head = struct.pack("@HP", len(program), ctypes.addressof(text))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
