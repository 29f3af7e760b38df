"""The CNI socket: one connection per request, its namespace as a file descriptor beside it.

Everything runs on the event loop. A connection's reader stays registered while its request is being worked
on, so that a runtime that hangs up (its own time-out has passed) calls the work off at once and nothing is
set up for nobody.

Who connects is root already; what it does by mistake must not cost the node. A connection that does not say
what it wants is closed, and there is a bound on those that do not and on all of them: the rest wait in the
kernel's queue. When no descriptor is left the socket rests a while.
"""

from __future__ import annotations

import array
import asyncio
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from cni.wire import ACK, Frame, RequestParser, WireError, encode_answer
from control.process.private_socket import PrivateSocket
from control.process.quiet_log import QuietLog

log = logging.getLogger(__name__)

Handler = Callable[[Frame, int | None], Awaitable[tuple[int, bytes]]]
"""Frame and the namespace's descriptor (owned by the caller) in, exit code and stdout out."""

_INT = array.array("i").itemsize
_CHUNK = 65536

MAX_CONNECTIONS = 256
"""Requests at a time; a node has no more pods. Each has two descriptors, and 1024 is the usual limit."""
MAX_SILENT = 128
"""Connections at a time whose request is not complete; the oldest makes room. More than the pods that a node
starts at once: on a busy machine each may have connected and not sent yet."""
SILENCE_TIMEOUT = 30.0
"""Seconds for a request to be complete. The executable sends it at once, even on a machine that crawls."""
ANSWER_TIMEOUT = 30.0
"""Seconds for an answer to be taken."""
_BACKLOG = 512
REST = 0.5
"""Seconds without accepting when the process has no descriptor left; requests wait in the kernel's queue."""
_NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class CniSocket:
    """Mode 0600 in a directory of root's: whoever may write to it is root on the node already."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._place = PrivateSocket(path)
        self._handler = handler
        self._listener: socket.socket | None = None
        self._connections: dict[_Connection, None] = {}
        """The oldest first."""
        self._listening = False
        self._resting: asyncio.TimerHandle | None = None
        self._refused = QuietLog(log)
        self._silent = QuietLog(log)

    def listen(self) -> None:
        """Takes the path over by rename, so that there is no moment without a socket on it."""
        self._listener = self._place.bind(_BACKLOG)
        self._listen_on()

    # As a thing that is kept (control.process.keeper.Kept).

    name = "cni-socket"
    pods_need_it = True

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self._place.path,)

    def wrong(self) -> str:
        return "" if self._listener is None else self._place.wrong()

    def mend(self) -> str:
        """A new listener at the path; who had connected to the old one is still answered."""
        fresh, before = self._place.bind(_BACKLOG), self._listener
        self._rest()
        self._listener = fresh
        if before is not None:
            self._accept(before)
            before.close()
        if self._resting is None:
            self._listen_on()
        return "bound anew"

    def _listen_on(self) -> None:
        self._resting = None
        if self._listener is not None and not self._listening:
            self._listening = True
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _rest(self) -> None:
        """Accept nothing until ``_listen_on``: an event loop that is told of what it cannot take spins."""
        if self._listener is not None and self._listening:
            self._listening = False
            asyncio.get_running_loop().remove_reader(self._listener.fileno())

    def _accept(self, listener: socket.socket | None = None) -> None:
        """Everybody who waits at ``listener``, by default the present one."""
        while (at := listener or self._listener) is not None:
            if len(self._connections) >= MAX_CONNECTIONS:
                self._rest()  # until one has ended
                return
            try:
                connection, _ = at.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                self._refused.warning(f"cannot accept a CNI request: {exc}")
                if exc.errno in _NONE_LEFT:
                    self._rest()
                    self._resting = asyncio.get_running_loop().call_later(REST, self._listen_on)
                    self._bound_silent(0, "its descriptors are needed, and there are none left")
                return
            made = _Connection(connection, self._handler, self._forget, self._silent)
            self._connections[made] = None
            made.read()
            self._bound_silent(MAX_SILENT, "too many others say nothing either")

    def _bound_silent(self, most: int, why: str) -> None:
        if len(self._connections) <= most:
            return
        silent = [c for c in self._connections if not c.working]
        if len(silent) > most:
            silent[0].give_up(why)

    def _forget(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)
        if self._resting is None:
            self._listen_on()

    async def close(self) -> None:
        """Stop accepting, let what is under way end, remove the path unless a successor has it already."""
        if self._listener is None:
            return
        self._rest()
        if self._resting is not None:
            self._resting.cancel()
        self._place.unlink()  # while the listener holds the inode's number
        self._listener.close()
        self._listener = None
        await asyncio.gather(*(c.done() for c in list(self._connections)), return_exceptions=True)


class _Connection:
    """Reads one frame, acknowledges it, has it handled, answers, closes."""

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        forget: Callable[[_Connection], None],
        complaints: QuietLog,
    ) -> None:
        self._sock = sock
        self._complaints = complaints
        self._handler = handler
        self._forget = forget
        self._parser = RequestParser()
        self._netns: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self.read)
        self._timer = self._loop.call_later(
            SILENCE_TIMEOUT, self.give_up, f"its request was not complete within {SILENCE_TIMEOUT:.0f} s"
        )

    @property
    def working(self) -> bool:
        """Its request is complete."""
        return self._task is not None

    def give_up(self, why: str) -> None:
        """Close a connection whose request is not complete."""
        self._complaints.warning(f"dropped a CNI connection: {why}")
        self._close()

    def read(self) -> None:
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(
                _CHUNK, socket.CMSG_SPACE(_INT), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        self._keep_descriptor(ancillary)
        if not data or self._task is not None:  # a connection carries one request, and nothing after it
            self._hung_up()
            return
        if flags & socket.MSG_CTRUNC and self._netns is None:
            # Unacknowledged, the executable sends it again.
            self.give_up("terwayd has no file descriptor left for the pod's namespace")
            return
        try:
            frame = self._parser.feed(data)
        except WireError as exc:
            self.give_up(str(exc))
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
        self._timer.cancel()
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
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await self._loop.sock_sendall(self._sock, encode_answer(code, stdout))
        except OSError as exc:
            log.warning(
                "the runtime did not take the answer: %s", exc or f"not within {ANSWER_TIMEOUT:.0f} s"
            )
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
        self._timer.cancel()
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
        else:
            self._close()
