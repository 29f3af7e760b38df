"""One HTTP request to the OpenAPI and the reply to it, apart from how they travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """``headers`` have lower-case names. Blank values of ``query`` and ``form`` are kept: they are signed."""

    method: str
    path: str
    query: Pairs
    headers: Mapping[str, str]
    body: bytes = b""
    source: str = ""
    """Address of the caller."""

    @property
    def form(self) -> Pairs:
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return ()
        return tuple(parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True))


def split_target(target: str) -> tuple[str, Pairs]:
    """Path and decoded query of a request line."""
    parts = urlsplit(target)
    return parts.path or "/", tuple(parse_qsl(parts.query, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Reply:
    """``dropped``: the connection is closed and nothing is sent."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)
    dropped: bool = False
