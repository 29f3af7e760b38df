"""The wire between the daemon and the SDK's process: a 4-byte big-endian length, then one JSON object.

Daemon to worker: first ``{"settings": {...}}``, then any number of
``{"id", "action", "parameters", "credentials": {"id", "secret", "token"}}``.
Worker to daemon, in any order: ``{"id", "answer": {...}}`` or ``{"id", "refusal": {...}}`` with the fields
of ``errors.Refusal``. The worker ends when it reads end-of-file.

This module is imported on both sides and needs nothing but the standard library.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping

_HEADER = struct.Struct(">I")
HEADER_SIZE = _HEADER.size
_LARGEST = 64 << 20


def encode(message: Mapping[str, object]) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEADER.pack(len(body)) + body


def body_size(header: bytes) -> int:
    """Raises ValueError for a length that no frame has: the stream is out of step."""
    (size,) = _HEADER.unpack(header)
    if size > _LARGEST:
        raise ValueError(f"a frame of {size} bytes: the stream is out of step")
    return int(size)


def decode(body: bytes) -> dict[str, object]:
    message = json.loads(body)
    if not isinstance(message, dict):
        raise ValueError(f"a frame is a JSON object, got {body[:40]!r}")
    return message


def read_frame(read: Callable[[int], bytes]) -> dict[str, object] | None:
    """One frame through ``read(n)`` of a blocking file, None at end-of-file."""
    header = read(HEADER_SIZE)
    if len(header) < HEADER_SIZE:
        return None
    size = body_size(header)
    body = read(size)
    return decode(body) if len(body) == size else None
