"""The lab's control socket: a registry of verbs, and one thread per client.

A handler takes a ``Call`` and returns a JSON value or an ``Answer`` with files. Several requests may follow
each other on a connection. Everything the command line and ``lab.client`` do to a running lab comes in here.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import messages
from lab.cloud.errors import ApiError
from lab.messages import LabError, Value


@dataclass(frozen=True, slots=True)
class Answer:
    """``files`` are closed here once they are sent."""

    value: Any = None
    files: tuple[int, ...] = ()


@dataclass(slots=True)
class Call:
    """One request. ``files`` came with it and are closed after the handler returns."""

    request: Value
    connection: socket.socket
    files: list[int] = field(default_factory=list)

    def text(self, name: str, default: str | None = None) -> str:
        """An argument that is a string. Raises LabError if it is missing or something else."""
        value = self.request.get(name, default)
        if not isinstance(value, str):
            raise LabError(f"argument {name!r} must be a string, got {value!r}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.request.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise LabError(f"argument {name!r} must be a number, got {value!r}")
        return value

    @contextlib.contextmanager
    def until_hung_up(self) -> Iterator[threading.Event]:
        """An event that is set when the client goes away."""
        gone, done = threading.Event(), threading.Event()

        def watch() -> None:
            while not done.is_set():
                if select.select([self.connection], [], [], 0.2)[0]:
                    gone.set()
                    return

        thread = threading.Thread(target=watch, name="control-watch", daemon=True)
        thread.start()
        try:
            yield gone
        finally:
            done.set()


Handler = Callable[[Call], Any]


class ControlServer:
    """``log`` is where this process writes: an answer about a fault of the lab's own names it."""

    def __init__(self, path: Path, verbs: Mapping[str, Handler], log: Path) -> None:
        self._path = path
        self._log = log
        self._verbs = verbs

    def start(self) -> None:
        """Listen; a client that can connect finds a lab that is ready."""
        listener = messages.listen(self._path)
        threading.Thread(target=self._accept, args=(listener,), name="control", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(
                target=self._serve, args=(connection,), name="control-client", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, LabError):
            while (received := messages.receive(connection)) is not None:
                call = Call(received[0], connection, received[1])
                try:
                    answer = self._handle(call)
                finally:
                    messages.close(call.files)
                self._send(connection, answer)

    def _send(self, connection: socket.socket, answer: Answer | Value) -> None:
        if isinstance(answer, Answer):
            try:
                messages.send(connection, {"ok": answer.value}, answer.files)
            finally:
                messages.close(answer.files)
        else:
            messages.send(connection, answer)

    def _handle(self, call: Call) -> Answer | Value:
        verb = call.request.get("verb")
        handler = self._verbs.get(str(verb))
        if handler is None:
            return {"error": f"no verb {verb!r}; there are {', '.join(sorted(self._verbs))}"}
        try:
            result = handler(call)
        except (LabError, ValueError, ApiError) as exc:
            return {"error": str(exc)}
        except KeyError as exc:
            return {"error": f"{verb}: there is no {exc}"}
        except Exception as exc:  # noqa: BLE001  # one bad request must not end the lab; the log has all of it
            traceback.print_exc()
            return {"error": f"{verb}: {type(exc).__name__}: {exc}; its traceback is in {self._log}"}
        return result if isinstance(result, Answer) else Answer(result)
