"""One HTTP request to the daemon's socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode


class CliError(Exception):
    """One line for the operator. Exit status 1."""


class Unreachable(CliError):
    """No daemon answers there."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Daemon:
    """``address`` is ``unix:///path`` or ``host:port``, as the daemon's -readonly-listen."""

    def __init__(self, address: str, *, timeout: float = 15.0) -> None:
        self._address = address
        self._timeout = timeout

    def _connection(self) -> http.client.HTTPConnection:
        if self._address.startswith("unix://"):
            return _UnixConnection(self._address.removeprefix("unix://"), self._timeout)
        return http.client.HTTPConnection(self._address, timeout=self._timeout)

    def call(self, method: str, *segments: str, **query: str) -> Any:
        """The JSON answer. Raises CliError with the daemon's own words, or with what to do if it is away."""
        with self._asked(method, _target(segments, query)) as answer:
            return json.loads(answer.read())

    def get(self, *segments: str, **query: str) -> Any:
        return self.call("GET", *segments, **query)

    def stream(self, *segments: str, **query: str) -> Iterator[Any]:
        """JSON values as they come, None about each second that brings none, until the daemon ends it.

        Raises CliError as ``call`` does, and if the daemon falls silent.
        """
        with self._asked("GET", _target(segments, query)) as answer:
            while line := answer.readline():
                yield json.loads(line) if line.strip() else None

    @contextmanager
    def _asked(self, method: str, target: str) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection()
        try:
            connection.request(method, target)
            answer = connection.getresponse()
            if answer.status != 200:
                raise CliError(_words(answer.read(), answer.status))
            yield answer
        except (OSError, http.client.HTTPException) as exc:
            raise Unreachable(
                f"cannot reach terwayd at {self._address}: {exc}; does it run on this node, are you root?"
            ) from exc
        finally:
            connection.close()


def _target(segments: tuple[str, ...], query: dict[str, str]) -> str:
    path = "/" + "/".join(quote(s, safe="") for s in segments)
    return f"{path}?{urlencode(query)}" if query else path


def _words(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"terwayd answered {status}: {body.decode(errors='replace').strip()}"
