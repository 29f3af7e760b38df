"""Frames between the executable (``terway.c``) and the daemon, over a stream UNIX socket.

All integers are little endian. The executable sends ::

    4s   magic        "TWY1"
    u32  version      1
    i32  netns_errno  0: CNI_NETNS is open and its descriptor is attached, or CNI_NETNS is empty;
                      else the errno with which opening it failed
    u32  env_len      at most ENV_MAX
    u32  stdin_len    at most STDIN_MAX
    env_len bytes     NAME=VALUE\\0 for every CNI_* variable, TRACEPARENT, TRACESTATE and BAGGAGE
    stdin_len bytes   stdin as it is

The descriptor (SCM_RIGHTS) comes with the first byte. When the frame is complete the daemon answers with
the byte ACK: from here on the request is its own, and before it the executable may give up or send the
request again on another connection. A daemon that cannot send the ACK must therefore forget the request.
When it is done, the daemon sends ::

    u32  exit_code    of the executable: 0, or 1 if stdout is an error
    u32  len          at most ANSWER_MAX
    len bytes         stdout of the executable
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

MAGIC = b"TWY1"
VERSION = 1
ACK = b"\x06"
ENV_MAX = 256 << 10
STDIN_MAX = 1 << 20
ANSWER_MAX = 1 << 20

_REQUEST = struct.Struct("<4sIiII")
_ANSWER = struct.Struct("<II")


class WireError(ValueError):
    """Bytes that no executable of ours sends. The connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One request as it came. ``env`` is decoded as file names are: what is not UTF-8 is a surrogate."""

    env: Mapping[str, str]
    stdin: bytes
    netns_errno: int = 0


def encode_request(frame: Frame) -> bytes:
    env = b"".join(
        f"{name}={value}\0".encode("utf-8", "surrogateescape") for name, value in frame.env.items()
    )
    return _REQUEST.pack(MAGIC, VERSION, frame.netns_errno, len(env), len(frame.stdin)) + env + frame.stdin


class RequestParser:
    """Collects one request from a socket that gives it in pieces. One parser per connection."""

    __slots__ = ("_buffer", "_head")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[int, int, int] | None = None
        """netns_errno, env_len, stdin_len."""

    def feed(self, data: bytes) -> Frame | None:
        """The request once it is complete, None until then. Raises WireError as soon as it is certain."""
        self._buffer += data
        if self._head is None:
            if len(self._buffer) < _REQUEST.size:
                if not MAGIC.startswith(self._buffer[: len(MAGIC)]):
                    raise WireError(f"request starts with {bytes(self._buffer)!r}, expected {MAGIC!r}")
                return None
            self._head = _head(self._buffer)
        netns_errno, env_len, stdin_len = self._head
        missing = _REQUEST.size + env_len + stdin_len - len(self._buffer)
        if missing > 0:
            return None
        if missing < 0:
            raise WireError(f"{-missing} bytes follow the request; a connection carries one")
        env_end = _REQUEST.size + env_len
        env = _environment(bytes(self._buffer[_REQUEST.size : env_end]))
        return Frame(env, bytes(self._buffer[env_end:]), netns_errno)


def _head(buffer: bytearray) -> tuple[int, int, int]:
    magic, version, netns_errno, env_len, stdin_len = _REQUEST.unpack_from(buffer)
    if magic != MAGIC:
        raise WireError(f"request starts with {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise WireError(
            f"request has wire version {version}, expected {VERSION}: executable and daemon differ"
        )
    if env_len > ENV_MAX or stdin_len > STDIN_MAX:
        raise WireError(
            f"request claims {env_len} bytes of environment and {stdin_len} of stdin,"
            f" allowed are {ENV_MAX} and {STDIN_MAX}"
        )
    return netns_errno, env_len, stdin_len


def _environment(block: bytes) -> dict[str, str]:
    """As getenv sees it: the first of two equal names counts, an entry without "=" does not."""
    env: dict[str, str] = {}
    for entry in block.split(b"\0"):
        name, equals, value = entry.decode("utf-8", "surrogateescape").partition("=")
        if equals:
            env.setdefault(name, value)
    return env


def encode_answer(exit_code: int, stdout: bytes) -> bytes:
    if len(stdout) > ANSWER_MAX:
        raise WireError(f"answer has {len(stdout)} bytes, allowed are {ANSWER_MAX}")
    return _ANSWER.pack(exit_code, len(stdout)) + stdout


def decode_answer(data: bytes) -> tuple[int, bytes]:
    """Exit code and stdout of a complete answer, without its ACK. Raises WireError."""
    if len(data) < _ANSWER.size:
        raise WireError(f"answer has {len(data)} bytes, its head alone has {_ANSWER.size}")
    exit_code, length = _ANSWER.unpack_from(data)
    stdout = data[_ANSWER.size :]
    if len(stdout) != length:
        raise WireError(f"answer has {len(stdout)} bytes of stdout, announced were {length}")
    return exit_code, stdout
