"""Connections that say nothing, too much, or too many: bounded, quiet, and nobody else is kept out."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import logging
import os
import resource
import socket
import stat
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from cni.wire import ACK, Frame, encode_request
from control.agent.cni import socket as cni_socket
from control.agent.cni.socket import CniSocket
from control.process import http_server
from control.process.http_api import HttpApi
from control.process.quiet_log import QuietLog

REQUEST = encode_request(Frame({"CNI_COMMAND": "STATUS"}, b"{}"))


def serving(path: Path, scenario: Callable[[CniSocket], Awaitable[None]]) -> None:
    async def answer(_frame: Frame, _netns: int | None) -> tuple[int, bytes]:
        return 0, b"{}"

    async def run() -> None:
        server = CniSocket(path, answer)
        server.listen()
        try:
            async with asyncio.timeout(30):
                await scenario(server)
        finally:
            await server.close()

    asyncio.run(run())


async def ask(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(REQUEST)
    said = await reader.read()
    writer.close()
    return said


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_no_descriptor_left_is_one_line_and_no_spinning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cni_socket, "REST", 0.05)
    path = tmp_path / "s"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scenario(_server: CniSocket) -> None:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        client.setblocking(False)
        client.send(REQUEST)
        used = max(map(int, os.listdir("/proc/self/fd"))) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        hogs = []
        try:
            while True:
                try:
                    hogs.append(os.dup(0))
                except OSError:
                    break
            before = time.thread_time()
            await asyncio.sleep(1.0)
            spent = time.thread_time() - before
        finally:
            for hog in hogs:
                os.close(hog)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        said = b""
        while len(said) < 11:
            said += await asyncio.get_running_loop().sock_recv(client, 100)
        assert said[:1] == ACK, "the request that waited is served"
        client.close()
        assert spent < 0.5, "it rests in between"

    with caplog.at_level(logging.WARNING):
        serving(path, scenario)
    assert [r.message for r in caplog.records if "cannot accept" in r.message] == [
        "cannot accept a CNI request: [Errno 24] Too many open files"
    ]


def test_who_says_nothing_gives_its_descriptor_to_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DEL must not wait until the silent have had their time, while the executable gives up after less."""
    monkeypatch.setattr(cni_socket, "REST", 0.05)
    path = tmp_path / "s"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scenario(_server: CniSocket) -> None:
        loop = asyncio.get_running_loop()
        with ExitStack() as held:
            clients = [held.enter_context(closing(socket.socket(socket.AF_UNIX))) for _ in range(9)]
            for client in clients[:5]:
                client.connect(str(path))
            await asyncio.sleep(0.1)
            used = max(map(int, os.listdir("/proc/self/fd"))) + 1
            held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
            with contextlib.suppress(OSError):
                while True:
                    held.callback(os.close, os.dup(0))
            for client in clients[5:]:
                client.connect(str(path))
            clients[8].setblocking(False)
            clients[8].send(REQUEST)
            said = b""
            while len(said) < 11:
                async with asyncio.timeout(10):
                    said += await loop.sock_recv(clients[8], 100)
            assert said[:1] == ACK

    serving(path, scenario)


@pytest.mark.parametrize("piece", [b"", REQUEST[:1], REQUEST[:-1]], ids=["nothing", "a byte", "almost all"])
def test_a_connection_that_does_not_say_what_it_wants_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: bytes
) -> None:
    monkeypatch.setattr(cni_socket, "SILENCE_TIMEOUT", 0.2)
    path = tmp_path / "s"

    async def scenario(_server: CniSocket) -> None:
        before = descriptors()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(piece)
        assert await reader.read() == b""
        writer.close()
        await until(lambda: descriptors() == before)

    serving(path, scenario)


def test_bytes_in_drops_do_not_stretch_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cni_socket, "SILENCE_TIMEOUT", 0.3)
    path = tmp_path / "s"

    async def scenario(_server: CniSocket) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        ended = asyncio.create_task(reader.read())
        for byte in REQUEST[:-1]:
            if ended.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        # A byte may be under way as the server ends it: then the client's socket says so in other words.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            assert await ended == b""
        assert ended.done()
        writer.close()

    serving(path, scenario)


def test_a_thousand_silent_connections_keep_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def scenario(server: CniSocket) -> None:
        with ExitStack() as held:
            for _ in range(300):
                client = held.enter_context(closing(socket.socket(socket.AF_UNIX)))
                client.connect(str(path))
                await asyncio.sleep(0)
            assert (await ask(path))[:1] == ACK
            assert len(server._connections) <= cni_socket.MAX_SILENT + 1

    serving(path, scenario)


def test_more_requests_than_there_may_be_wait_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cni_socket, "MAX_CONNECTIONS", 3)
    path, most = tmp_path / "s", 0

    async def scenario() -> None:
        under_way = 0

        async def answer(_frame: Frame, _netns: int | None) -> tuple[int, bytes]:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            under_way -= 1
            return 0, b"{}"

        server = CniSocket(path, answer)
        server.listen()
        async with asyncio.timeout(30):
            answers = await asyncio.gather(*(ask(path) for _ in range(20)))
        await server.close()
        assert all(a[:1] == ACK for a in answers)

    asyncio.run(scenario())
    assert most == 3


def test_descriptors_that_nobody_asked_for_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def scenario(_server: CniSocket) -> None:
        before = descriptors()
        for parts in ((REQUEST[:1],) * 5, (REQUEST[:1], REQUEST[1:2], REQUEST[2:3]), (REQUEST,)):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            for part in parts:
                many = array.array("i", [0] * 200)
                with suppress(BrokenPipeError):  # nobody's bytes: the server has hung up already
                    client.sendmsg([part], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
                await asyncio.sleep(0.01)
            assert descriptors() <= before + 4, "at most one of each connection is kept"
            client.close()
        await until(lambda: descriptors() == before)

    serving(path, scenario)


def test_what_follows_a_request_ends_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "s"
    cancelled = asyncio.Event()

    async def scenario() -> None:
        async def answer(_frame: Frame, _netns: int | None) -> tuple[int, bytes]:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return 0, b""

        server = CniSocket(path, answer)
        server.listen()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(REQUEST)
        assert await reader.readexactly(1) == ACK
        writer.write(b"more")
        async with asyncio.timeout(10):
            await cancelled.wait()
        writer.close()
        await server.close()

    asyncio.run(scenario())


def test_frames_that_claim_too_much_are_dropped_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s"
    huge = struct.pack("<4sIiII", b"TWY1", 1, 0, 0xFFFFFFFF, 0xFFFFFFFF)

    async def scenario(_server: CniSocket) -> None:
        for _ in range(50):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(huge)
            assert await reader.read() == b""
            writer.close()

    with caplog.at_level(logging.WARNING):
        serving(path, scenario)
    assert len(caplog.records) == 1


def test_quiet_log_counts_what_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    quiet = QuietLog(logging.getLogger("test"), period=0.0)
    noisy = QuietLog(logging.getLogger("test"), period=3600.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            noisy.warning("again")
        noisy._next = 0.0
        noisy.warning("again")
        quiet.warning("once")
        quiet.warning("twice")
    assert [r.message for r in caplog.records] == [
        "again",
        "again (999 more like this since the last line)",
        "once",
        "twice",
    ]


# --- HTTP ---


@contextmanager
def window(listen: str) -> Iterator[HttpApi]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    made = HttpApi(listen, loop, CollectorRegistry())
    made.ready = lambda: ""
    made.start()
    try:
        yield made
    finally:
        made.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as asked:
        number = int(asked.getsockname()[1])
    with window(f"127.0.0.1:{number}"):
        yield number


def say(port: int, data: bytes, *, source: str = "127.0.0.1") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
    made.sendall(data)
    return made


def status(port: int, data: bytes) -> int:
    with say(port, data) as made:
        return int(made.recv(65536).split(b" ")[1])


GOOD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = [
    b"GET /healthz HTTP/1.1\r\nContent-Length: many\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET /healthz HTTP/x.y\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
]


@pytest.mark.parametrize("request_", BAD)
def test_what_is_no_request_gets_a_quiet_400(
    port: int, request_: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert status(port, request_) == 400
        assert status(port, GOOD) == 200
    assert "Traceback" not in capfd.readouterr().err
    assert not caplog.records


def test_a_peer_that_hangs_up_leaves_no_trace(
    port: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for part in (b"", b"GET /he", b"POST /x HTTP/1.1\r\nContent-Length: 100\r\n\r\nshort"):
            made = say(port, part)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.close()
        assert status(port, GOOD) == 200
    assert "Traceback" not in capfd.readouterr().err
    assert not caplog.records


def test_an_unforeseen_fault_is_a_500_and_in_the_log(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async def broken(_path: list[str], _query: dict[str, str]) -> None:
        raise KeyError("x")

    with window(f"unix://{tmp_path}/w") as api:
        api.route("GET", "broken", broken)
        code, _, body = api.answer("GET", "/broken")
    assert code == 500
    assert isinstance(body, bytes)
    assert json.loads(body) == {"error": "KeyError('x')"}
    assert "nobody foresaw" in caplog.text


def threads() -> int:
    return sum("process_request" in t.name for t in threading.enumerate())


def test_idle_connections_are_bounded_and_end(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 of one peer; the kubelet, another one, is served at once."""
    monkeypatch.setattr(http_server, "IDLE_TIMEOUT", 3.0)
    with ExitStack() as held:
        kubelet = held.enter_context(say(port, b"", source="127.0.0.2"))
        for _ in range(300):
            held.enter_context(say(port, b"", source="127.0.0.3"))
        assert status(port, GOOD) == 200
        kubelet.sendall(GOOD)
        assert b"200" in kubelet.recv(100), "no connection of a modest peer is closed for a greedy one"
        deadline = time.monotonic() + 20
        while threads() > http_server.MAX_CONNECTIONS:
            assert time.monotonic() < deadline, threads()
            time.sleep(0.01)
        while threads():
            assert time.monotonic() < deadline, threads()
            time.sleep(0.01)


def test_a_request_in_drops_ends_in_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT", 0.5)
    with say(port, b"GET /healthz HTTP/1.1\r\n") as made:
        made.settimeout(0.05)
        deadline = time.monotonic() + 20
        while True:
            assert time.monotonic() < deadline
            try:
                made.sendall(b"X: y\r\n")
                if made.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break


def test_the_windows_socket_is_roots_alone(tmp_path: Path) -> None:
    with window(f"unix://{tmp_path}/w"):
        assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == 0o600


def test_the_windows_socket_is_roots_alone_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the umask: nobody can connect before it listens, and it has its mode with its name."""
    seen: list[int] = []
    bind = socket.socket.bind

    def watched(made: socket.socket, address: Any) -> None:
        bind(made, address)
        seen.append(stat.S_IMODE(os.lstat(address).st_mode))

    monkeypatch.setattr(socket.socket, "bind", watched)
    before = os.umask(0)
    try:
        with window(f"unix://{tmp_path}/w"):
            assert seen == [0o600]
    finally:
        os.umask(before)


def test_no_descriptor_left_for_http_is_one_line_and_no_spinning(
    port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each accept that fails is followed by a rest."""
    failed: list[str] = []
    rested: list[float] = []
    complain = QuietLog.warning

    def warning(log: QuietLog, message: str) -> None:
        failed.append(message)
        complain(log, message)

    class Time:
        def __getattr__(self, name: str) -> object:
            return getattr(time, name)

        def sleep(self, seconds: float) -> None:
            rested.append(seconds)
            time.sleep(seconds)

    monkeypatch.setattr(QuietLog, "warning", warning)
    monkeypatch.setattr(http_server, "time", Time())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with caplog.at_level(logging.WARNING), say(port, GOOD) as held, say(port, b"") as waiting:
        assert held.recv(100)
        used = max(map(int, os.listdir("/proc/self/fd"))) + 2
        client = socket.socket()
        hogs = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
            with suppress(OSError):
                while True:
                    hogs.append(os.dup(0))
            client.connect(("127.0.0.1", port))
            while len(rested) < 3 and len(failed) < 100:
                time.sleep(0.01)
        finally:
            for hog in hogs:
                os.close(hog)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.sendall(GOOD)
        assert b"200" in client.recv(100), "who waited is served"
        client.close()
        assert len(failed) <= len(rested) + 1, "it rests in between"
        waiting.close()
    assert [r.message for r in caplog.records] == ["cannot accept a request: [Errno 24] Too many open files"]


def test_a_stopped_window_has_no_thread_that_waits_for_its_socket_s_number() -> None:
    def accepting() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "http-api"]

    before = accepting()
    with socket.create_server(("127.0.0.1", 0)) as asked:
        number = int(asked.getsockname()[1])
    with window(f"127.0.0.1:{number}"):
        assert status(number, GOOD) == 200
        assert len(accepting()) == len(before) + 1
    assert accepting() == before
