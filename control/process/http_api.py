"""The daemon's window: health, readiness, metrics and what ``terway-cli`` shows, over HTTP.

On a UNIX socket (upstream's ``eni_debug.socket``) that ``-readonly-listen`` names. A second one, with no more
than health, readiness and metrics, is at the TCP address of ``-health-listen``, for kubelet and Prometheus.
Requests are answered in threads; whatever reads the daemon's state is run on its event loop, so an answer is
never torn, and a loop that is stuck fails the liveness probe.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from prometheus_client import CollectorRegistry, generate_latest

from control.model.errors import ConfigError, TerwayError
from control.process.http_server import Server, Stream, UnixServer, as_json
from control.process.private_socket import PrivateSocket

log = logging.getLogger(__name__)

LOOP_TIMEOUT = 5.0
"""Seconds the event loop may take to answer before the daemon counts as stuck."""

Query = dict[str, str]
Route = Callable[[list[str], Query], Awaitable[Any]]
"""Path segments after the route's name and the query in, a JSON value out."""


StreamRoute = Callable[[list[str], Query], Stream]
"""As ``Route``, but called and iterated on the request's own thread, not on the event loop."""


class HttpApi:
    def __init__(self, listen: str, loop: asyncio.AbstractEventLoop, registry: CollectorRegistry) -> None:
        self._loop = loop
        self._registry = registry
        self._routes: dict[tuple[str, str], Route] = {}
        self._streams: dict[str, StreamRoute] = {}
        self._place = _place(listen)
        self._server = _bind(listen, self._place)
        self._server.api = self
        self._started = False
        self.ready: Callable[[], str] = lambda: "starting"
        """"" if pods can be served, else why not."""

    def route(self, method: str, name: str, handler: Route) -> None:
        self._routes[method, name] = handler

    def stream(self, name: str, handler: StreamRoute) -> None:
        """GET of ``name`` is answered in chunks of JSON lines; an empty line says that somebody is there."""
        self._streams[name] = handler

    def start(self) -> None:
        self._started = True
        self._server.start()

    def stop(self) -> None:
        """Stop answering. Connections that are open go on until they end."""
        self._started = False
        self._server.stop()

    # As a thing that is kept (control.process.keeper.Kept); a TCP address cannot be spoiled.

    name = "debug-socket"
    pods_need_it = False

    @property
    def paths(self) -> tuple[Path, ...]:
        return () if self._place is None else (self._place.path,)

    def wrong(self) -> str:
        return self._place.wrong() if self._place is not None and self._started else ""

    def mend(self) -> str:
        """A new listener at the path. Connections that are open go on until they end."""
        assert self._place is not None
        fresh, before = UnixServer(self._place), self._server
        fresh.api = self
        self._server = fresh
        fresh.start()
        before.stop()
        return "bound anew"

    def answer(self, method: str, target: str) -> tuple[int, str, bytes | Stream]:
        """Status, content type, body."""
        try:
            url = urlsplit(target)
            segments = [unquote(s) for s in url.path.strip("/").split("/")]
            query = {k: v[-1] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        except ValueError as exc:
            return 400, "application/json", as_json({"error": f"no path that can be read: {exc}"})
        try:
            return self._answer(method, segments, query)
        except TimeoutError:
            return 503, "text/plain", f"the event loop has not answered for {LOOP_TIMEOUT:.0f} s\n".encode()
        except TerwayError as exc:
            return 400, "application/json", as_json({"error": str(exc), "cause": str(exc.cause)})
        except Exception as exc:  # the last resort: a client is owed an answer, and the log the trace
            log.exception("%s /%s failed in a way nobody foresaw", method, "/".join(segments))
            return 500, "application/json", as_json({"error": repr(exc)})

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
            return 404, "application/json", as_json({"error": f"no {method} /{'/'.join(segments)}"})
        return 200, "application/json", as_json(self._on_loop(route(segments[1:], query)))

    async def _metrics(self) -> bytes:
        return generate_latest(self._registry)

    def _on_loop(self, work: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await work

        answer = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            return answer.result(LOOP_TIMEOUT)
        finally:
            answer.cancel()


def _place(listen: str) -> PrivateSocket | None:
    return PrivateSocket(Path(listen.removeprefix("unix://"))) if listen.startswith("unix://") else None


def _bind(listen: str, place: PrivateSocket | None) -> Server:
    """``unix:///path`` or ``host:port``. Raises ConfigError naming the flag."""
    try:
        if place is not None:
            return UnixServer(place)
        host, _, port = listen.rpartition(":")
        return Server((host.strip("[]"), int(port)))
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"cannot listen on {listen!r}: {exc}",
            remedy="-readonly-listen takes unix:///PATH, -health-listen HOST:PORT; both must be free to bind",
        ) from exc
