"""How the lab's processes talk: one framed JSON value with open files beside it, over a UNIX socket.

A frame is {u32 length, u32 number of files} in the machine's byte order and then the JSON; the files ride on
the frame's first byte (SCM_RIGHTS). A request is ``{"verb": ..., ...arguments}``; an answer is
``{"ok": value}`` or ``{"error": text}``. Both ends are ours and on one machine: there is no version.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_HEADER = struct.Struct("=II")
_MOST_FILES = 16
_LONGEST = 256 << 20
_LONGEST_PATH = 100
"""sun_path has 108 bytes; a longer path goes through its directory's file descriptor."""

Value = dict[str, Any]

KEEP = b"k"
"""On the lifeline between client and warden: the lab shall outlive its client."""


class LabError(Exception):
    """The lab refused or is not there. The text is one line for its user."""


def send(sock: socket.socket, value: Value, files: Sequence[int] = ()) -> None:
    body = json.dumps(value, separators=(",", ":")).encode()
    frame = _HEADER.pack(len(body), len(files)) + body
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    sent = sock.sendmsg([frame], ancillary)
    if sent < len(frame):
        sock.sendall(memoryview(frame)[sent:])


def receive(sock: socket.socket) -> tuple[Value, list[int]] | None:
    """The next frame, or None if the other end has closed. The caller owns the files.

    Raises LabError for half a frame and OSError of the socket.
    """
    files: list[int] = []
    try:
        header = _read(sock, _HEADER.size, files)
        if header is None:
            return None
        length, count = _HEADER.unpack(header)
        body = _read(sock, length, files) if length <= _LONGEST else None
        if body is None or len(files) != count:
            raise LabError(f"a frame of {length} bytes and {count} files was cut short")
        value = json.loads(body)
    except BaseException:
        close(files)
        raise
    return value, files


def _read(sock: socket.socket, size: int, files: list[int]) -> bytes | None:
    chunks = bytearray()
    space = socket.CMSG_SPACE(_MOST_FILES * 4)
    while len(chunks) < size:
        data, ancillary, _, _ = sock.recvmsg(min(size - len(chunks), 1 << 20), space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                files.extend(array.array("i", payload[: len(payload) - len(payload) % 4]))
        if not data:
            if chunks:
                raise LabError("the other end closed in the middle of a frame")
            return None
        chunks += data
    return bytes(chunks)


def close(files: Sequence[int]) -> None:
    for fd in files:
        with contextlib.suppress(OSError):
            os.close(fd)


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path``, mode 0600; an old socket file there is replaced."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(path) as address:
            sock.bind(address)
        path.chmod(0o600)
        sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock


ANSWER_TIMEOUT = 300.0
"""Seconds for the lab's answer: longer than whatever it waits for itself, so that its own error is heard."""


def connect(path: Path, *, timeout: float | None = ANSWER_TIMEOUT) -> socket.socket:
    """Raises OSError: FileNotFoundError or ConnectionRefusedError if nobody is there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with _address(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def ask(sock: socket.socket, request: Value, files: Sequence[int] = ()) -> tuple[Any, list[int]]:
    """One request and its answer on ``sock``. Raises LabError with the other end's text."""
    try:
        send(sock, request, files)
        answer = receive(sock)
    except TimeoutError as exc:
        raise LabError(f"{request.get('verb')}: the lab gave no answer in {sock.gettimeout():.0f} s") from exc
    except (BrokenPipeError, ConnectionResetError) as exc:
        raise LabError(f"{request.get('verb')}: the lab ended before it answered") from exc
    if answer is None:
        raise LabError(f"{request.get('verb')}: the lab ended before it answered")
    value, received = answer
    if "error" in value:
        close(received)
        raise LabError(str(value["error"]))
    return value["ok"], received


def call(path: Path, request: Value, files: Sequence[int] = ()) -> tuple[Any, list[int]]:
    """Connect to ``path``, ask, hang up."""
    with connect(path) as sock:
        return ask(sock, request, files)
