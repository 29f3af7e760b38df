"""The threaded HTTP/1.1 server that both services of the cloud stand on.

Connections are kept alive and answered at once: with Nagle's algorithm and an unbuffered response, each call
on a kept connection costs a delayed acknowledgement of 40 ms. The listen queue is long, since asynchronous
clients open a connection per call.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from weakref import WeakSet

_ACCEPT_RETRY_SECONDS = 0.1
"""After an accept that failed while nobody asked to stop, as when file descriptors run out."""


class QuickHandler(BaseHTTPRequestHandler):
    """Base of the services' handlers; says nothing on stderr."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def send(self, status: int, body: bytes, *, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def hang_up(self) -> None:
        """End the connection without an answer."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """Calls are in the call log."""


class QuickServer(ThreadingHTTPServer):
    """A thread per connection, and one that waits for connections without polling.

    ``stop`` ends open connections too, which a kept-alive one would outlive otherwise.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: WeakSet[socket.socket] = WeakSet()
        self._stopping = threading.Event()
        super().__init__(address, handler)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Without the base class's look-up of the host's name, which may ask a name server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def stop(self) -> None:
        """Shutting a listening socket down wakes the accept that waits on it."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, address = self.socket.accept()
            except OSError:
                self._stopping.wait(_ACCEPT_RETRY_SECONDS)
                continue
            self._connections.add(connection)
            self.process_request(connection, address)
