"""The CNI socket: one connection per request, its namespace as a file descriptor beside it.

Everything runs on the event loop. A connection's reader stays registered while its request is being worked
on, so that a runtime that hangs up (its own time-out has passed) calls the work off at once and nothing is
set up for nobody.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from cni.wire import ACK, Frame, RequestParser, WireError, encode_answer

log = logging.getLogger(__name__)

Handler = Callable[[Frame, int | None], Awaitable[tuple[int, bytes]]]
"""Frame and the namespace's descriptor (owned by the caller) in, exit code and stdout out."""

_INT = array.array("i").itemsize
_CHUNK = 65536


class CniSocket:
    """Mode 0600 in a directory of mode 0700: whoever may write to it is root on the node already."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._listener: socket.socket | None = None
        self._connections: set[_Connection] = set()

    def listen(self) -> None:
        """Takes the path over by rename, so that there is no moment without a socket on it."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        listener.bind(str(fresh))
        fresh.chmod(0o600)
        listener.listen(512)
        fresh.rename(self._path)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                log.warning("cannot accept a CNI request: %s", exc)
                return
            made = _Connection(connection, self._handler, self._connections.discard)
            self._connections.add(made)
            made.read()

    async def close(self) -> None:
        """Stop accepting, let what is under way end, remove the path."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        self._listener = None
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        await asyncio.gather(*(c.done() for c in list(self._connections)), return_exceptions=True)


class _Connection:
    """Reads one frame, acknowledges it, has it handled, answers, closes."""

    def __init__(self, sock: socket.socket, handler: Handler, forget: Callable[[_Connection], None]) -> None:
        self._sock = sock
        self._handler = handler
        self._forget = forget
        self._parser = RequestParser()
        self._netns: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self.read)

    def read(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(
                _CHUNK, socket.CMSG_SPACE(_INT), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        self._keep_descriptor(ancillary)
        if not data:
            self._hung_up()
            return
        if self._task is not None:
            return
        try:
            frame = self._parser.feed(data)
        except WireError as exc:
            log.warning("dropped a CNI connection: %s", exc)
            self._close()
            return
        if frame is not None:
            self._begin(frame)

    def _keep_descriptor(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                for fd in array.array("i", data[: len(data) - len(data) % _INT]):
                    if self._netns is None:
                        self._netns = fd
                    else:
                        os.close(fd)

    def _begin(self, frame: Frame) -> None:
        try:
            self._sock.send(ACK)
        except OSError:
            self._close()
            return
        self._task = self._loop.create_task(self._handle(frame))

    async def _handle(self, frame: Frame) -> None:
        try:
            code, stdout = await self._handler(frame, self._netns)
            self._loop.remove_reader(self._sock.fileno())
            await self._loop.sock_sendall(self._sock, encode_answer(code, stdout))
        except OSError as exc:
            log.warning("the runtime did not take the answer: %s", exc)
        finally:
            self._close()

    def _hung_up(self) -> None:
        """Before a full frame: forget it. During the work: call it off; the task closes."""
        if self._task is None:
            self._close()
            return
        self._loop.remove_reader(self._sock.fileno())
        self._task.cancel()

    def _close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        if self._netns is not None:
            os.close(self._netns)
            self._netns = None
        self._forget(self)

    async def done(self) -> None:
        if self._task is not None:
            await self._task
