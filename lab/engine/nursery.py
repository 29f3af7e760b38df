"""How the worker has nodes started and ended: process 1 of the lab forks them."""

from __future__ import annotations

import socket
import threading
from typing import Any

from lab import messages


class Nursery:
    """Starts and ends nodes, by asking process 1 of the lab. Safe to call from several threads."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()

    def _ask(self, **request: Any) -> Any:
        with self._lock:
            return messages.ask(self._channel, request)[0]

    def start(self, name: str) -> None:
        """Fork the node; it is ready once it answers on its socket. Raises LabError."""
        self._ask(verb="start_node", name=name)

    def stop(self, name: str) -> bool:
        """Kill everything of the node and wait for its end. False if it did not run."""
        return bool(self._ask(verb="stop_node", name=name))

    def running(self) -> frozenset[str]:
        return frozenset(self._ask(verb="nodes"))
