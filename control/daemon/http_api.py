"""The daemon's window: health, readiness, metrics and what ``terway-cli`` shows, over HTTP.

On a UNIX socket (upstream's ``eni_debug.socket``) that ``-readonly-listen`` names. A second one, with no more
than health, readiness and metrics, is at the TCP address of ``-health-listen``, for kubelet and Prometheus.
Requests are answered in threads; whatever reads the daemon's state is run on its event loop, so an answer is
never torn, and a loop that is stuck fails the liveness probe.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from prometheus_client import CollectorRegistry, generate_latest

from control.model.errors import ConfigError, TerwayError

log = logging.getLogger(__name__)

LOOP_TIMEOUT = 5.0
"""Seconds the event loop may take to answer before the daemon counts as stuck."""

HANG_TIMEOUT = 10.0
"""Seconds that whoever listens to a stream may take no bytes before it counts as gone."""

Query = dict[str, str]
Route = Callable[[list[str], Query], Awaitable[Any]]
"""Path segments after the route's name and the query in, a JSON value out."""


class Stream(Protocol):
    """An answer without an end. ``close`` is called once, whoever hangs up."""

    def __iter__(self) -> Iterator[list[Any]]:
        """JSON values as they come, one line each; at least each second, then [] if there are none."""
        ...

    def close(self) -> None: ...


StreamRoute = Callable[[list[str], Query], Stream]
"""As ``Route``, but called and iterated on the request's own thread, not on the event loop."""


class HttpApi:
    def __init__(self, listen: str, loop: asyncio.AbstractEventLoop, registry: CollectorRegistry) -> None:
        self._loop = loop
        self._registry = registry
        self._routes: dict[tuple[str, str], Route] = {}
        self._streams: dict[str, StreamRoute] = {}
        self._server = _bind(listen)
        self._server.api = self
        self.ready: Callable[[], str] = lambda: "starting"
        """"" if pods can be served, else why not."""

    def route(self, method: str, name: str, handler: Route) -> None:
        self._routes[method, name] = handler

    def stream(self, name: str, handler: StreamRoute) -> None:
        """GET of ``name`` is answered in chunks of JSON lines; an empty line says that somebody is there."""
        self._streams[name] = handler

    def start(self) -> None:
        threading.Thread(
            target=self._server.serve_forever, args=(None,), daemon=True, name="http-api"
        ).start()

    def stop(self) -> None:
        """Stop answering. The thread waits without polling, so it ends with the process."""
        self._server.server_close()

    def answer(self, method: str, target: str) -> tuple[int, str, bytes | Stream]:
        """Status, content type, body."""
        url = urlsplit(target)
        segments = [unquote(s) for s in url.path.strip("/").split("/")]
        query = {k: v[-1] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        try:
            return self._answer(method, segments, query)
        except TimeoutError:
            return 503, "text/plain", f"the event loop has not answered for {LOOP_TIMEOUT:.0f} s\n".encode()
        except TerwayError as exc:
            return 400, "application/json", _json({"error": str(exc), "cause": str(exc.cause)})

    def _answer(self, method: str, segments: list[str], query: Query) -> tuple[int, str, bytes | Stream]:
        if segments == ["metrics"]:
            return 200, "text/plain; version=0.0.4", self._on_loop(self._metrics())
        if segments == ["healthz"]:
            self._on_loop(asyncio.sleep(0))
            return 200, "text/plain", b"ok\n"
        if segments == ["readyz"]:
            why = self.ready()
            return (503, "text/plain", f"{why}\n".encode()) if why else (200, "text/plain", b"ok\n")
        if method == "GET" and segments[0] in self._streams:
            return 200, "application/x-ndjson", self._streams[segments[0]](segments[1:], query)
        route = self._routes.get((method, segments[0]))
        if route is None:
            return 404, "application/json", _json({"error": f"no {method} /{'/'.join(segments)}"})
        return 200, "application/json", _json(self._on_loop(route(segments[1:], query)))

    async def _metrics(self) -> bytes:
        return generate_latest(self._registry)

    def _on_loop(self, work: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(LOOP_TIMEOUT)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    api: HttpApi


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)  # HTTPServer's own asks for a host name and port
        self.server_name, self.server_port = "terwayd", 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            self.rfile.read(min(length, 1 << 20))
        status, kind, body = self.server.api.answer(self.command, self.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
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
                self._chunk(b"".join(map(_json, values)) or b"\n")
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


def _bind(listen: str) -> _Server:
    """``unix:///path`` or ``host:port``. Raises ConfigError naming the flag."""
    try:
        if listen.startswith("unix://"):
            path = Path(listen.removeprefix("unix://"))
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            server: _Server = _UnixServer(str(path), _Handler)  # type: ignore[arg-type]  # AF_UNIX address
            path.chmod(0o600)
            return server
        host, _, port = listen.rpartition(":")
        return _Server((host.strip("[]"), int(port)), _Handler)
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"cannot listen on {listen!r}: {exc}",
            remedy="-readonly-listen takes unix:///PATH, -health-listen HOST:PORT; both must be free to bind",
        ) from exc
