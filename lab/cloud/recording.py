"""Requests and answers of the cloud's services, one JSON object a line, without anything secret.

Kept out by name: what a call is signed with (access key id, security token, signature, nonce), a metadata
session's token, and the credentials of a role. Kept out by value, wherever else it may turn up: the key
ids, secrets and tokens that this cloud has given out, and any signature base string, which a refusal quotes
in full. Headers are not recorded at all. ClientTokens stay: they are names and no credentials.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

MOST_BYTES = 64 << 20
"""Of one record; the call that would pass it ends the record."""
REMOVED = "(removed)"
_ENVELOPE = frozenset(
    {
        "accesskeyid",
        "securitytoken",
        "signature",
        "signaturemethod",
        "signaturenonce",
        "signaturetype",
        "signatureversion",
    }
)
_SECRET_WORDS = re.compile(r"secret|password|credential|token|authorization", re.IGNORECASE)
_NOT_SECRET = frozenset({"clienttoken", "nexttoken"})
_BASE_STRING = re.compile(r"(string to sign is:).*", re.DOTALL)
_KEY_ID = re.compile(r"\b(?:LTAI|STS\.|TMP\.)[A-Za-z0-9._-]{8,}")
"""How the ids of an account's, a role's and a console's keys begin: one of another cloud is as secret."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request with its answer. ``status`` 0: the connection was closed without one."""

    service: str
    """``openapi`` or ``metadata``."""
    method: str
    action: str
    """Of the OpenAPI; of the metadata service the path below /latest/."""
    parameters: Mapping[str, str]
    source: str
    """Address of the caller."""
    status: int
    answer: object
    at: float
    """Of the lab's clock."""


@dataclass(slots=True)
class _File:
    fd: int
    most: int
    calls: int = 0
    written: int = 0


class Recorder:
    """Writes to at most one open file at a time, which it owns; off until ``start``. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: _File | None = None
        self._ended = ""

    @property
    def running(self) -> bool:
        return self._file is not None

    def start(self, fd: int, most: int = MOST_BYTES) -> None:
        """Record into ``fd`` from now on. Raises ValueError if a record runs."""
        with self._lock:
            if self._file is not None:
                raise ValueError("calls are being recorded already; end that record first")
            self._file, self._ended = _File(fd, most), ""

    def stop(self) -> tuple[int, str]:
        """Calls in the record, and why it ended by itself ("" if it did not). (0, "") if there is none."""
        with self._lock:
            file, ended = self._file, self._ended
            self._close("")
            self._ended = ""
            return (file.calls, "") if file is not None else _counted(ended)

    def add(self, exchange: Exchange, secrets: Iterable[str]) -> None:
        """``secrets`` are values that must not be in the record. Nothing happens when none runs."""
        if not self.running:
            return
        line = as_line(exchange, secrets)
        with self._lock:
            file = self._file
            if file is None:
                return
            if file.written + len(line) > file.most:
                self._close(f"{file.calls} calls, and it was full at {file.most} bytes")
                return
            try:
                _write(file.fd, line)
            except OSError as exc:
                self._close(f"{file.calls} calls, then: {exc.strerror}")
                return
            file.calls += 1
            file.written += len(line)

    def _close(self, ended: str) -> None:
        if self._file is not None:
            os.close(self._file.fd)
            self._file, self._ended = None, ended


def as_line(exchange: Exchange, secrets: Iterable[str]) -> bytes:
    """The line of one exchange, its newline included."""
    values = sorted(filter(None, secrets), key=len, reverse=True)
    value = {
        "time": datetime.fromtimestamp(exchange.at, UTC).isoformat(timespec="milliseconds"),
        "service": exchange.service,
        "source": exchange.source,
        "method": exchange.method,
        "action": _clean_text(exchange.action, values),
        "parameters": _clean(dict(exchange.parameters), values),
        "status": exchange.status,
        "answer": _clean(exchange.answer, values),
    }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _clean(value: object, secrets: list[str]) -> object:
    if isinstance(value, Mapping):
        return {
            str(name): REMOVED if _is_secret(str(name)) else _clean(item, secrets)
            for name, item in value.items()
            if str(name).lower() not in _ENVELOPE
        }
    if isinstance(value, list | tuple):
        return [_clean(item, secrets) for item in value]
    return _clean_text(value, secrets) if isinstance(value, str) else value


def _clean_text(text: str, secrets: list[str]) -> str:
    text = _BASE_STRING.sub(rf"\1 {REMOVED}", text)
    for secret in secrets:
        text = text.replace(secret, REMOVED)
    return _KEY_ID.sub(REMOVED, text)


def _is_secret(name: str) -> bool:
    return name.lower() not in _NOT_SECRET and _SECRET_WORDS.search(name) is not None


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _counted(ended: str) -> tuple[int, str]:
    return int(ended.split(" ", 1)[0]) if ended else 0, ended
