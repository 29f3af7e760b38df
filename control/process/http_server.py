"""The HTTP server under the daemon's window: who is heard, for how long, and how many at a time.

The TCP address can be reached by others than kubelet. A request has a time to be complete, and connections,
which are threads, have a bound: beyond it the peer with the most of them loses its oldest, so that no peer
keeps the kubelet's probes out. What is no request of ours gets a 400 and no line in the log.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from control.process.private_socket import PrivateSocket
from control.process.quiet_log import QuietLog

log = logging.getLogger(__name__)

HANG_TIMEOUT = 10.0
"""Seconds that whoever listens to a stream may take no bytes before it counts as gone."""

IDLE_TIMEOUT = 60.0
"""Seconds for a request to begin, from the connection or the answer before it."""
REQUEST_TIMEOUT = 10.0
"""Seconds for a request that has begun to be complete."""
MAX_CONNECTIONS = 32
"""Connections at a time. The kubelet, a Prometheus or two and an operator need ten."""
MAX_BODY = 1 << 20
_REST = 0.2
"""Seconds without accepting when the process has no descriptor left."""
_NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Stream(Protocol):
    """An answer without an end. ``close`` is called once, whoever hangs up."""

    def __iter__(self) -> Iterator[list[Any]]:
        """JSON values as they come, one line each; at least each second, then [] if there are none."""
        ...

    def close(self) -> None: ...


class Answers(Protocol):
    def answer(self, method: str, target: str) -> tuple[int, str, bytes | Stream]:
        """Status, content type, body. Called in a connection's own thread."""
        ...


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    api: Answers

    def __init__(self, address: Any) -> None:
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, str] = {}
        """To the peer's address, the oldest first."""
        self._refused = QuietLog(log)
        self._thread: threading.Thread | None = None
        self._stopping = False
        super().__init__(address, _Handler)

    def start(self) -> None:
        """Accept on a thread, which waits without polling."""
        self._thread = threading.Thread(target=self.serve_forever, args=(None,), daemon=True, name="http-api")
        self._thread.start()

    def stop(self) -> None:
        """End that thread before its socket: it would wait on for a number that another socket has next."""
        self._stopping = True
        if self._thread is not None:
            ending = threading.Thread(target=self.shutdown)  # says so to the loop, and waits for it
            ending.start()
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)  # wakes it
            ending.join()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as exc:
            if self._stopping:
                raise
            self._refused.warning(f"cannot accept a request: {exc}")
            if exc.errno in _NONE_LEFT:
                time.sleep(_REST)  # what waits to be accepted wakes this thread again and again
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        peer = str(client_address[0]) if client_address else "local"
        with self._lock:
            crowded = len(self._connections) >= MAX_CONNECTIONS
            if crowded:
                peers = list(self._connections.values())
                greediest = max(peers, key=peers.count)
                victim = next(s for s, p in self._connections.items() if p == greediest)
                del self._connections[victim]
                with contextlib.suppress(OSError):
                    victim.shutdown(socket.SHUT_RDWR)  # its thread sees the end, and closes it
            self._connections[request] = peer
        if crowded:
            self._refused.warning(
                f"{MAX_CONNECTIONS} connections at a time: the oldest of {greediest} is closed"
            )
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of the conversation, not of an answer: peers that hang up, and what cannot be read."""
        del request
        log.debug("the conversation with %s broke off", client_address, exc_info=True)


class UnixServer(Server):
    address_family = socket.AF_UNIX

    def __init__(self, place: PrivateSocket) -> None:
        self._place = place
        super().__init__(str(place.path))

    def server_bind(self) -> None:
        self.socket.close()
        self.socket = self._place.bind(self.request_queue_size)
        self.socket.setblocking(True)
        self.server_name, self.server_port = "terwayd", 0  # HTTPServer's own asks for a host name

    def server_activate(self) -> None:
        """It listens already."""


class _Incoming(io.RawIOBase):
    """What a peer sends, for as long as one request may take: bytes in drops do not stretch that."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.begin()

    def begin(self) -> None:
        self._idle = True
        self._deadline = time.monotonic() + IDLE_TIMEOUT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request was not complete in time")
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        if self._idle:
            self._idle, self._deadline = False, time.monotonic() + REQUEST_TIMEOUT
        self._connection.settimeout(HANG_TIMEOUT)
        return count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self._incoming = _Incoming(self.connection)
        self.rfile.close()
        self.rfile = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        self._incoming.begin()
        super().handle_one_request()

    def _skip_body(self) -> str:
        """No request of ours has one. Why it cannot be skipped, "" if it was."""
        told = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            return "give Content-Length, not Transfer-Encoding"
        if not (told.isascii() and told.isdigit()) or len(told) > 9:
            return f"Content-Length {told[:40]!r} is no length"
        if int(told) > MAX_BODY:
            return f"a body of {told} bytes is more than {MAX_BODY}"
        return "" if len(self.rfile.read(int(told))) == int(told) else "the body ends before its length"

    def _any(self) -> None:
        status: int
        kind: str
        body: bytes | Stream
        wrong = self._skip_body()
        if wrong:
            self.close_connection = True
            status, kind, body = 400, "application/json", as_json({"error": wrong})
        else:
            status, kind, body = self.server.api.answer(self.command, self.path)
        self._respond(status, kind, body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The base class's own, for what it cannot read: JSON and a status line, whatever the peer speaks."""
        del explain
        self.request_version, self.close_connection = self.protocol_version, True
        self._respond(int(code), "application/json", as_json({"error": message or f"HTTP {int(code)}"}))

    def _respond(self, status: int, kind: str, body: bytes | Stream) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if self.close_connection:
            self.send_header("Connection", "close")
        if isinstance(body, bytes):
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self._stream(body)

    def _stream(self, lines: Stream) -> None:
        """Until either side ends it. Writing is how a client that has gone is noticed."""
        self.close_connection = True
        self.connection.settimeout(HANG_TIMEOUT)
        try:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for values in lines:
                self._chunk(b"".join(map(as_json, values)) or b"\n")
            self._chunk(b"")
        except OSError as exc:
            log.debug("the client of %s has gone: %s", self.path, exc)
        finally:
            lines.close()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    do_GET = do_POST = _any

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
