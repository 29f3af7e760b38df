"""GET of the instance metadata service over kept-alive connections of asyncio, with its token protocol.

Source: Alibaba Cloud's page on instance metadata (hardened mode). PUT /latest/api/token gives a token of
six hours; it is renewed after three, and when the service answers 401. Where the service has no tokens
(404 or 403 for the PUT) it is read without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from control.aliyun.settings import Observe
from control.model.clock import Clock
from control.model.errors import MetadataError

log = logging.getLogger(__name__)

_ROOT = "/latest/meta-data/"
_TOKEN_PATH = "/latest/api/token"
_TOKEN_TTL = 21600
_TOKEN_KEPT = 3 * 3600.0
_TOKEN_RETRY = 60.0
_NO_TOKENS = (403, 404)
_TRIES = 4
_FIRST_DELAY = 0.1
_MOST_IDLE = 4
_LARGEST_BODY = 1 << 20
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
"""Left out of what is observed: ENIs come and go, and a label for each would stay."""
_REMEDY = "check that the node reaches 100.100.100.200 (route, firewall, proxy); it is tried again by itself"


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: str


class _Temporary(Exception):
    """An attempt failed in a way that another one may mend."""


class _Stale(Exception):
    """The service closed a kept connection before it answered."""


@dataclass(frozen=True, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class MetadataHttp:
    """``text(path)`` is all there is. Belongs to one event loop. ``timeout``: for all attempts of a read."""

    def __init__(self, address: str, *, clock: Clock, observe: Observe, timeout: float = 2.0) -> None:
        host, _, port = address.rpartition(":") if ":" in address else (address, "", "80")
        self._host, self._port = host, int(port)
        self._clock = clock
        self._observe = observe
        self._timeout = timeout
        self._idle: list[_Connection] = []
        self._token = ""
        self._renew_at = 0.0
        self._refused = False
        """The token was answered with 401."""
        self._renewing = asyncio.Lock()

    async def text(self, path: str) -> str | None:
        """What is at ``path`` below /latest/meta-data/, None for nothing (404). Raises MetadataError."""
        started = time.monotonic()
        failure = ""
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._persistently(path)
            if response.status not in (200, 404):
                failure = str(response.status)
                raise self._error(path, f"HTTP {response.status} {response.body[:80]!r}")
        except TimeoutError as exc:
            failure = "timeout"
            raise self._error(path, f"no answer within {self._timeout:g} s") from exc
        except _Temporary as exc:
            failure = "unreachable"
            raise self._error(path, str(exc)) from exc
        finally:
            self._observe(_MAC.sub("<mac>", path), failure, time.monotonic() - started)
        return response.body if response.status == 200 else None

    async def close(self) -> None:
        while self._idle:
            await _hang_up(self._idle.pop())

    async def _persistently(self, path: str) -> Response:
        delay = _FIRST_DELAY
        for _ in range(_TRIES - 1):
            try:
                return await self._with_token(path)
            except _Temporary as exc:
                log.info("metadata %s: %s; again in %.1f s", path, exc, delay)
            await asyncio.sleep(delay)
            delay *= 2
        return await self._with_token(path)

    async def _with_token(self, path: str) -> Response:
        token = await self._current_token()
        response = await self._get(path, token)
        if response.status == 401:
            if self._token == token:
                self._renew_at = 0.0
                self._refused = True
            response = await self._get(path, await self._current_token())
        return response

    async def _get(self, path: str, token: str) -> Response:
        return await self._ask("GET", _ROOT + path, {"X-aliyun-ecs-metadata-token": token} if token else {})

    async def _current_token(self) -> str:
        """ "" while the service has no tokens."""
        async with self._renewing:
            now = self._clock.now()
            if now >= self._renew_at:
                try:
                    async with asyncio.timeout(self._timeout / 2 if self._token else None):
                        self._token = await self._new_token()
                except (_Temporary, MetadataError, TimeoutError) as exc:
                    # The old one is good for as long again, and if it is not the service says so (401).
                    if not self._token or self._refused:
                        raise
                    log.warning("the metadata token serves on: %s", exc)
                    self._renew_at = now + _TOKEN_RETRY
                    return self._token
                self._refused = False
                self._renew_at = now + _TOKEN_KEPT
            return self._token

    async def _new_token(self) -> str:
        header = {"X-aliyun-ecs-metadata-token-ttl-seconds": str(_TOKEN_TTL)}
        response = await self._ask("PUT", _TOKEN_PATH, header)
        if response.status != 200 and response.status not in _NO_TOKENS:
            raise self._error("api/token", f"HTTP {response.status} {response.body[:80]!r}")
        return response.body.strip() if response.status == 200 else ""

    async def _ask(self, method: str, target: str, headers: Mapping[str, str]) -> Response:
        """One request and its answer. Raises _Temporary for 429, 5xx and a broken connection."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}", "Accept: */*", "Content-Length: 0"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
        try:
            response = await self._exchange(request)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as exc:
            raise _Temporary(f"{type(exc).__name__}: {exc}") from exc
        if response.status == 429 or response.status >= 500:
            raise _Temporary(f"HTTP {response.status} {response.body[:80]!r}")
        return response

    async def _exchange(self, request: bytes) -> Response:
        while self._idle:
            with contextlib.suppress(_Stale):
                return await self._converse(self._idle.pop(), request, kept=True)
        connection = _Connection(*await asyncio.open_connection(self._host, self._port))
        return await self._converse(connection, request, kept=False)

    async def _converse(self, connection: _Connection, request: bytes, *, kept: bool) -> Response:
        keep = False
        try:
            connection.writer.write(request)
            try:
                head = await connection.reader.readuntil(b"\r\n\r\n")
            except (ConnectionError, asyncio.IncompleteReadError) as exc:
                unanswered = not isinstance(exc, asyncio.IncompleteReadError) or not exc.partial
                if kept and unanswered:
                    raise _Stale from exc
                raise
            status, headers = parse_head(head)
            body = await _read_body(connection.reader, headers)
            keep = headers.get("connection", "").lower() != "close" and "content-length" in headers
            return Response(status, body.decode("utf-8", "replace"))
        finally:
            # A connection that was left in the middle, for a time-out say, cannot be used again.
            if keep and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
            else:
                connection.writer.close()

    def _error(self, path: str, why: str) -> MetadataError:
        return MetadataError(f"metadata {path} at {self._host}:{self._port}: {why}", remedy=_REMEDY)


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers (lower case names) of a response's head. Raises ValueError."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdigit():
        raise ValueError(f"not HTTP: {first[:60]!r}")
    fields = (line.partition(":") for line in lines)
    return int(status), {name.strip().lower(): value.strip() for name, _, value in fields}


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _read_chunks(reader)
    length = headers.get("content-length")
    if length is None:
        return await reader.read(_LARGEST_BODY)
    if not length.isdigit() or int(length) > _LARGEST_BODY:
        raise ValueError(f"content-length {length!r}")
    return await reader.readexactly(int(length))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """All chunks; the connection is not used again, so that trailers need not be read."""
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        if size + len(body) > _LARGEST_BODY:
            raise ValueError(f"a body above {_LARGEST_BODY} bytes")
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    return body


async def _hang_up(connection: _Connection) -> None:
    connection.writer.close()
    with contextlib.suppress(OSError):
        await connection.writer.wait_closed()
