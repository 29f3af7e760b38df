"""A daemon's window with canned answers, and terway-cli called in this process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from control.cli import main as cli
from control.model.errors import RequestError
from control.process.http_api import HttpApi, Query
from control.process.http_server import Stream


class Lines:
    """A stream that tells ``batches``, then ends, or with ``forever`` goes on saying nothing."""

    def __init__(self, batches: Sequence[list[Any]], *, forever: bool = False) -> None:
        self._batches = batches
        self._forever = forever
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[list[Any]]:
        yield from self._batches
        while self._forever and not self.closed.wait(0.01):
            yield []

    def close(self) -> None:
        self.closed.set()


@dataclass
class Served:
    """``answers`` by method and path; an exception among them is raised."""

    socket: str
    answers: dict[str, Any]
    lines: Lines
    asked: list[str] = field(default_factory=list)

    def cli(self, *words: str) -> tuple[int, str, str]:
        return run("--socket", self.socket, *words)

    def trace(self, path: list[str], query: Query) -> Stream:
        self.asked.append(f"GET /{'/'.join(['trace', *path])} {query}")
        if query.get("address") == "none":
            raise RequestError("'none' is no address")
        return self.lines


def run(*words: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of terway-cli."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main(words)
        except SystemExit as exc:  # argparse's way out of --help
            status = int(exc.code or 0)
    return status, out.getvalue(), err.getvalue()


@contextmanager
def served(scratch: Path, answers: dict[str, Any], lines: Lines | None = None) -> Iterator[Served]:
    """``answers`` are keyed as ``GET /bpf/maps``."""
    made = Served(f"unix://{scratch / 'window'}", answers, lines or Lines([]))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    api = HttpApi(made.socket, loop, CollectorRegistry())
    for method, name in {(key.split()[0], key.split("/")[1]) for key in answers}:
        api.route(method, name, _route(made, method, name))
    api.stream("trace", made.trace)
    api.start()
    try:
        yield made
    finally:
        api.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _route(made: Served, method: str, name: str) -> Any:
    async def route(path: list[str], _query: Query) -> Any:
        key = f"{method} /{'/'.join([name, *path])}"
        made.asked.append(key)
        answer = made.answers.get(key, RequestError(f"no {key}"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return route
