"""Batches, answers and dumps over a kernel that answers what the test says."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

import pytest

from datapath.errors import KernelError
from datapath.netlink import socket, wire
from datapath.netlink.socket import DUMP_TRIES, Pool, Socket
from datapath.netlink.wire import Kind, Message, Request

Answer = Callable[[Message], bytes]


class Kernel:
    """Stands for the raw socket: works a batch through at ``send`` and queues one datagram per answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.queue: list[bytes] = []
        self.sent: list[int] = []
        self.closed = False

    def setsockopt(self, *option: int) -> None:
        raise OSError(errno.ENOPROTOOPT, f"an old kernel knows no {option}")

    def getsockname(self) -> tuple[int, int]:
        return id(self), 0

    def send(self, data: bytes) -> None:
        requests = list(wire.messages(data))
        self.sent.append(len(requests))
        self.queue.extend(filter(None, map(self.answer, requests)))

    def recv(self, size: int) -> bytes:
        assert self.queue, "the socket would wait for ever"
        assert len(self.queue[0]) <= size
        return self.queue.pop(0)

    def close(self) -> None:
        self.closed = True


def packet(kind: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
    return wire.HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body


def result(request: Message, number: int) -> bytes:
    body = struct.pack("=i", -number) + wire.HEADER.pack(16, request.kind, 0, request.sequence, 0)
    return packet(wire.NLMSG_ERROR, request.sequence, body, wire.NLM_F_CAPPED)


def over(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> tuple[Socket, Kernel]:
    kernel = Kernel(answer)
    monkeypatch.setattr(socket, "open_raw", lambda _netns, **_options: kernel)
    return Socket(), kernel


def wish(body: bytes, *done_if: int) -> Request:
    return Request(Kind.NEWROUTE, 0, body, "add route", body.decode(), frozenset(done_if))


def test_answers_are_in_the_order_of_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Message) -> bytes:
        echo = packet(Kind.NEWROUTE, request.sequence, request.body) if request.body == b"get" else b""
        return echo + (result(request, 0) if request.flags & wire.ACK else b"")

    sock, kernel = over(monkeypatch, answer)
    found = sock.transact(wish(b"one"), wish(b"get"), wish(b"two"))
    assert [one and one.body for one in found] == [None, b"get", None]
    assert kernel.sent == [3]
    assert sock.transact() == []


def test_long_lists_go_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sock, kernel = over(monkeypatch, lambda r: result(r, 0) if r.flags & wire.ACK else b"")
    assert len(sock.transact(*[wish(b"x")] * 100)) == 100
    assert kernel.sent == [48, 48, 4]


def test_first_error_is_raised_and_names_its_object(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {b"bad": errno.EEXIST, b"worse": errno.EPERM}

    def answer(request: Message) -> bytes:
        number = errors.get(request.body, 0)
        return result(request, number) if number or request.flags & wire.ACK else b""

    sock, kernel = over(monkeypatch, answer)
    with pytest.raises(KernelError, match="add route: bad: File exists") as caught:
        sock.transact(wish(b"good"), wish(b"bad"), wish(b"worse"), wish(b"good"))
    assert caught.value.errno == errno.EEXIST
    assert kernel.queue == []
    assert sock.transact(wish(b"bad", errno.EEXIST), wish(b"good")) == [None, None]


def test_answers_to_earlier_requests_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    sock, kernel = over(monkeypatch, lambda r: result(r, 0))
    kernel.queue.append(packet(Kind.NEWROUTE, 99, b"stale"))
    assert sock.one(wish(b"x")) is None


def dumping(rounds: list[int]) -> Answer:
    """Each dump takes the next flags from ``rounds``."""

    def answer(request: Message) -> bytes:
        flags = wire.MULTI | rounds.pop(0)
        objects = packet(Kind.NEWROUTE, request.sequence, b"an object   ", flags) * 2
        return objects + packet(wire.NLMSG_DONE, request.sequence, bytes(4), wire.MULTI)

    return answer


def test_disturbed_dump_is_taken_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    sock, kernel = over(monkeypatch, dumping([wire.DUMP_INTR, wire.DUMP_INTR, 0]))
    assert len(sock.dump(wish(b"all"))) == 2
    assert kernel.sent == [1, 1, 1]


def test_dump_disturbed_for_ever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    sock, _ = over(monkeypatch, dumping([wire.DUMP_INTR] * DUMP_TRIES))
    with pytest.raises(KernelError, match="disturbed") as caught:
        sock.dump(wish(b"all"))
    assert caught.value.errno == errno.EINTR


def test_error_of_a_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    sock, _ = over(monkeypatch, lambda r: result(r, errno.ENOENT))
    with pytest.raises(KernelError, match="all"):
        sock.dump(wish(b"all"))
    assert sock.dump(wish(b"all", errno.ENOENT)) == []


def test_pool_reuses_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: list[Kernel] = []

    def opened(_netns: int | None, *, protocol: int) -> Kernel:
        del protocol
        kernels.append(Kernel(lambda r: result(r, 0)))
        return kernels[-1]

    monkeypatch.setattr(socket, "open_raw", opened)
    pool = Pool(None)
    with pool.borrowed() as first:
        with pool.borrowed() as second:
            assert second is not first
    with pool.borrowed() as again:
        assert again in (first, second)
    with pytest.raises(KernelError), pool.borrowed():
        raise KernelError("an orderly failure")
    assert len(kernels) == 2
    with pytest.raises(RuntimeError), pool.borrowed():
        raise RuntimeError("state in doubt")
    assert [kernel.closed for kernel in kernels].count(True) == 1
    assert len(pool.ports) == 1, "the number of one that was closed may be another program's next"
    with pool.borrowed():
        pool.close()
    assert all(kernel.closed for kernel in kernels)


def test_what_a_pool_meets_of_the_system_is_a_kernel_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor left, or no room for an answer: callers know one kind of refusal."""
    kernel = Kernel(lambda r: result(r, 0))
    opened: list[OSError] = [OSError(errno.EMFILE, "Too many open files")]

    def open_raw(_netns: int | None, *, protocol: int) -> Kernel:
        del protocol
        if opened:
            raise opened.pop()
        return kernel

    monkeypatch.setattr(socket, "open_raw", open_raw)
    pool = Pool(None)
    with pytest.raises(KernelError, match="Too many open files"), pool.borrowed():
        raise AssertionError
    with pytest.raises(KernelError, match="No buffer space") as refused, pool.borrowed():
        raise OSError(errno.ENOBUFS, "No buffer space available")
    assert refused.value.errno == errno.ENOBUFS
    assert kernel.closed, "an answer may still come"


def test_who_hears_of_ports_and_fails_costs_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that the kernel has no room for: our own changes are told to us, and that is all."""
    kernel = Kernel(lambda r: result(r, 0))
    monkeypatch.setattr(socket, "open_raw", lambda _netns, **_options: kernel)

    def no_room(_ports: frozenset[int]) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    pool = Pool(None)
    pool.on_ports = no_room
    with pool.borrowed() as found:
        assert pool.ports == {found.port}
    with pytest.raises(KernelError, match="No buffer space"), pool.borrowed():
        raise OSError(errno.ENOBUFS, "No buffer space available")
    assert kernel.closed
    assert pool.ports == frozenset()
