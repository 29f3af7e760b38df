"""A server that hangs up on requests, for what only a broken connection shows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class RudeServer:
    """Each connection gets ``answers`` times ``answer``, and at the next request it is closed without one."""

    def __init__(self, *answers: int, answer: bytes = _ANSWER) -> None:
        self._answer_bytes = answer
        self.requests: list[str] = []
        """First lines of all requests, in order."""
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._current = self._listener
        self._thread = threading.Thread(target=self._serve)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @contextmanager
    def running(self) -> Iterator[RudeServer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):  # the client has hung up
                self._current.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                connection, _ = self._listener.accept()
                self._current = connection
                with connection:
                    self._answer(connection, self._answers.pop(0) if self._answers else 0)

    def _answer(self, connection: socket.socket, answers: int) -> None:
        for number in range(answers + 1):
            request = connection.recv(65536)
            if not request:
                return
            self.requests.append(request.split(b"\r\n", 1)[0].decode())
            if number < answers:
                connection.sendall(self._answer_bytes)
