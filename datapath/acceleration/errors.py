"""Why a node has no fast path."""

from __future__ import annotations


class Unavailable(Exception):
    """The fast path cannot be had here; the node works by routing. ``reason`` is for the operator."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the eBPF fast path is not available: {reason}")
        self.reason = reason
