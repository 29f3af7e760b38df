"""One rtnetlink socket, bound for life to the network namespace that it was opened in."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from datapath import namespace
from datapath.errors import KernelError
from datapath.netlink import wire
from datapath.netlink.wire import Message, Request

log = logging.getLogger(__name__)

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

RECEIVE_BYTES = 65536
"""Above the 32 KiB that the kernel puts into one datagram of a dump."""

BATCH = 48
"""Requests per ``sendmsg``: their answers (under 2 KiB of buffer each) fit the default receive buffer."""

_DONE_BYTES = 20
"""Of NLMSG_DONE without words of the kernel's: a header and an errno."""

ENDS = frozenset({wire.NLMSG_DONE, wire.NLMSG_ERROR})

DUMP_TRIES = 10
"""A dump that another writer disturbed is taken anew so many times."""


class Socket:
    """Requests and answers. Not for two threads at once; see ``Pool``.

    ``netns`` is an open file descriptor of the namespace, None for the caller's own; it is not kept.
    ``protocol``: another one than rtnetlink; OSError with EPROTONOSUPPORT if the kernel has not got it.
    """

    def __init__(self, netns: int | None = None, *, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = open_raw(netns, protocol=protocol)
        self._sequence = 0
        # EXT_ACK is of 4.12, STRICT_CHK of 4.20: without them errors are terser and dumps unfiltered,
        # which the readers of this package allow for.
        self.port: int = self._socket.getsockname()[0]
        for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
            with suppress(OSError):
                self._socket.setsockopt(SOL_NETLINK, option, 1)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def transact(self, *requests: Request) -> list[Message | None]:
        """Send all, in one ``sendmsg`` per ``BATCH``; one answer per request, None where none was due.

        A failed request does not stop those behind it in its batch: the kernel goes on.
        Raises the first error that is not in its request's ``done_if``.
        """
        answers: list[Message | None] = []
        failed: KernelError | None = None
        for start in range(0, len(requests), BATCH):
            failed = self._batch(requests[start : start + BATCH], answers) or failed
            if failed is not None:
                raise failed
        return answers

    def batch(self, *requests: Request) -> None:
        """A transaction of netfilter's, in one ``sendmsg``; the first and the last request are its edges.

        The answer that is waited for is that of the last request between the edges: only since Linux 6.10 do
        the edges get answers of their own. Raises the first error; then nothing was changed.
        """
        first = self._sequence + 1
        self._sequence += len(requests)
        last = first + len(requests) - 2
        head = wire.encode(requests[:-1], first)
        self._socket.send(head + wire.encode(requests[-1:], last + 1, acknowledged=False))
        failed: KernelError | None = None
        while True:
            for message in wire.messages(self._socket.recv(RECEIVE_BYTES)):
                if message.kind != wire.NLMSG_ERROR or not first <= message.sequence <= last:
                    continue
                number, words = message.error()
                request = requests[message.sequence - first]
                if number and number not in request.done_if and failed is None:
                    name = str(request.subject)
                    failed = KernelError(request.verb, errno=number, object=name, detail=words)
                # An error of the first is one of the whole.
                if message.sequence == last or (number and message.sequence == first):
                    if failed is not None:
                        raise failed
                    return

    def one(self, request: Request) -> Message | None:
        return self.transact(request)[0]

    def dump(self, request: Request) -> list[Message]:
        """All objects of a kind. A dump that changed underneath is repeated, see ``DUMP_TRIES``."""
        return self.dump_unless(request, lambda _: False)[1]

    def dump_unless(self, request: Request, known: Callable[[bytes], bool]) -> tuple[bytes, list[Message]]:
        """The dump as it came, and its messages: none are read if it is ``known`` by its bytes."""
        for _ in range(DUMP_TRIES):
            sequence = self._send((request,))
            raw = self._receive_dump(sequence)
            if known(raw):
                return raw, []
            found = _messages_of(raw, sequence, request)
            if found is not None:
                return raw, found
        raise KernelError(
            request.verb,
            errno=errno.EINTR,
            object=str(request.subject),
            detail=f"disturbed {DUMP_TRIES} times by other writers; try again",
        )

    def _send(self, requests: tuple[Request, ...]) -> int:
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(wire.encode(requests, first))
        return first

    def _batch(self, requests: tuple[Request, ...], answers: list[Message | None]) -> KernelError | None:
        first = self._send(requests)
        base = len(answers)
        answers.extend([None] * len(requests))
        failed: KernelError | None = None
        for message in self._answers(first, first + len(requests) - 1):
            if message.kind != wire.NLMSG_ERROR:
                answers[base + message.sequence - first] = message
                continue
            number, words = message.error()
            request = requests[message.sequence - first]
            if number and number not in request.done_if and failed is None:
                failed = KernelError(request.verb, errno=number, object=str(request.subject), detail=words)
        return failed

    def _answers(self, first: int, last: int) -> Iterator[Message]:
        """Messages numbered ``first`` to ``last``, up to the acknowledgement or the error of ``last``."""
        while True:
            for message in wire.messages(self._socket.recv(RECEIVE_BYTES)):
                if not first <= message.sequence <= last:
                    continue
                yield message
                if message.sequence == last and message.kind == wire.NLMSG_ERROR:
                    return

    def _receive_dump(self, sequence: int) -> bytes:
        """Up to the message that ends it."""
        parts: list[bytes] = []
        while not parts or not _ends_dump(parts[-1], sequence):
            data = self._socket.recv(RECEIVE_BYTES)
            if len(data) >= wire.HEADER.size and wire.HEADER.unpack_from(data)[3] == sequence:
                parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _ends_dump(data: bytes, sequence: int) -> bool:
    """The end is the last of its datagram, and mostly of one length."""
    if len(data) >= _DONE_BYTES:
        length, kind, _, number, _ = wire.HEADER.unpack_from(data, len(data) - _DONE_BYTES)
        if (length, kind, number) == (_DONE_BYTES, wire.NLMSG_DONE, sequence):
            return True
    offset = 0
    while offset + wire.HEADER.size <= len(data):
        length, kind, _, number, _ = wire.HEADER.unpack_from(data, offset)
        if kind in ENDS and number == sequence:
            return True
        offset += max(wire.HEADER.size, wire.aligned(length))
    return False


def _messages_of(raw: bytes, sequence: int, request: Request) -> list[Message] | None:
    """None if the dump was disturbed. Raises what the kernel says of the request."""
    found: list[Message] = []
    disturbed = False
    for message in wire.messages(raw):
        if message.sequence != sequence:
            continue
        disturbed = disturbed or bool(message.flags & wire.DUMP_INTR)
        if message.kind in ENDS:
            number, words = message.error()
            if number and number not in request.done_if:
                raise KernelError(request.verb, errno=number, object=str(request.subject), detail=words)
            break
        found.append(message)
    return None if disturbed else found


class Pool:
    """Sockets of one namespace for several threads: each borrows one and gives it back.

    ``netns`` must stay open while the pool lives; None: the namespace of the borrowing thread.
    """

    def __init__(self, netns: int | None) -> None:
        self._netns = netns
        self._free: list[Socket] = []
        self._closed = False
        self._telling = threading.Lock()
        self.ports: frozenset[int] = frozenset()
        """Of all its sockets: by them the kernel tells who asked for a change."""
        self.on_ports: Callable[[frozenset[int]], None] = nobody_asks
        """Hears of ``ports`` when they are others."""

    @contextmanager
    def borrowed(self) -> Iterator[Socket]:
        """A socket for the length of the block. It is dropped, not given back, if its state is in doubt.

        Whatever the block meets of the kernel is a KernelError: also that there is no descriptor left, or
        that an answer was lost.
        """
        try:
            found = self._free.pop()
        except IndexError:
            found = self._opened()
        try:
            yield found
        except KernelError:
            self._give_back(found)
            raise
        except OSError as exc:
            self._drop(found)
            raise KernelError("talk to the kernel", errno=exc.errno or 0, detail=_words(exc)) from exc
        except BaseException:
            self._drop(found)
            raise
        self._give_back(found)

    def _opened(self) -> Socket:
        try:
            found = Socket(self._netns)
        except OSError as exc:
            raise KernelError("open a netlink socket", errno=exc.errno or 0, detail=_words(exc)) from exc
        with self._telling:
            self._tell(self.ports | {found.port})
        return found

    def _tell(self, ports: frozenset[int]) -> None:
        """Who hears of it may fail: what others change is looked at by a round all the same."""
        self.ports = ports
        try:
            self.on_ports(ports)
        except OSError as exc:
            log.warning("changes of our own are not told from others' by the kernel: %s", exc)

    def _drop(self, found: Socket) -> None:
        with self._telling:
            self._tell(self.ports - {found.port})  # which may be another program's next
        found.close()

    def _give_back(self, found: Socket) -> None:
        if self._closed:
            found.close()
        else:
            self._free.append(found)

    def close(self) -> None:
        """Close the free sockets now and each borrowed one when it comes back."""
        self._closed = True
        while self._free:
            self._free.pop().close()


def nobody_asks(ports: frozenset[int]) -> None:
    pass


def _words(exc: OSError) -> str:
    """What an errno does not say."""
    return str(exc.filename or "") if exc.errno else str(exc)


def waiting(events: socket.socket) -> Iterator[bytes | None]:
    """Events of the kernel that a non-blocking socket has by now; None where some were lost, being unread."""
    while True:
        try:
            data = events.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            yield None
        else:
            yield data


def open_raw(netns: int | None, *, groups: int = 0, protocol: int = socket.NETLINK_ROUTE) -> socket.socket:
    """A bound socket, subscribed to the legacy group mask ``groups``."""
    if netns is None:
        return _bound(groups, protocol)
    with namespace.entered(netns):
        return _bound(groups, protocol)


def _bound(groups: int, protocol: int) -> socket.socket:
    raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        raw.bind((0, groups))
    except BaseException:
        raw.close()
        raise
    return raw
