"""What a real API server was asked, from its audit log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "rules": [
        # The server's own loops, and the lab's look whether it is ready.
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "None", "nonResourceURLs": ["/readyz"]},
        {"level": "Metadata"},
    ],
}
_METHODS = {
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "deletecollection": "DELETE",
}
"""Verbs of the API that are not the HTTP method's own name."""
_REQUESTS_KEPT = 1000
_BYTES_READ = 8 << 20
"""Two stages of a thousand requests, and of the watches among them a third."""


def records(log: Path) -> Iterator[dict[str, Any]]:
    """The latest ones, oldest first; none if the server has not written any."""
    try:
        file = log.open("rb")
    except FileNotFoundError:
        return
    with file:
        begin = max(0, os.fstat(file.fileno()).st_size - _BYTES_READ)
        file.seek(begin)
        lines = file.read().split(b"\n")
    # The first line may have lost its beginning; what follows the last newline is being written.
    for line in lines[1 if begin else 0 : -1]:
        yield json.loads(line)


def requests(log: Path) -> tuple[tuple[str, str], ...]:
    """The latest thousand, oldest first: HTTP method, and path with query."""
    asked = [
        (_METHODS.get(r["verb"], r["verb"].upper()), r["requestURI"])
        for r in records(log)
        if r["stage"] == "RequestReceived"
    ]
    return tuple(asked[-_REQUESTS_KEPT:])


def refusals(log: Path) -> list[str]:
    """One line per request that was refused as forbidden (403) or for its credentials (401)."""
    return [
        f"{r['user'].get('username', 'nobody')}: {r['verb']} {r['requestURI']}: {r['responseStatus']['code']}"
        for r in records(log)
        if r.get("responseStatus", {}).get("code") in (401, 403)
    ]
