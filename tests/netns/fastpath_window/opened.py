"""The daemon's window over a fast path, without the daemon: a loop in a thread, and terway-cli's calls."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from control.agent.introspection.bpf_window import BpfWindow
from control.cli import main as cli
from control.cli.client import Daemon
from control.model.errors import RequestError
from control.model.ids import Address
from control.process.http_api import HttpApi
from datapath.acceleration.path import FastPath
from tests.netns.fastpath.node import FastNode


@dataclass
class Opened:
    """``pods``: who has which address, as the ledger would say. ``refuse``: why there is no fast path."""

    node: FastNode
    socket: str
    pods: dict[Address, str] = field(default_factory=dict)
    refuse: str = ""

    def daemon(self) -> Daemon:
        return Daemon(self.socket)

    def get(self, *segments: str) -> Any:
        return self.daemon().get("bpf", *segments)

    def cli(self, *words: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr of terway-cli."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main(["--socket", self.socket, *words])
        return status, out.getvalue(), err.getvalue()

    def tracing(self) -> bool:
        """Whether the programs write events."""
        (row,) = self.get("map", "settings")
        return "trace" in row["value"]["flags"]

    def only(self) -> str:
        """The address whose packets alone are told, "" for all."""
        (row,) = self.get("map", "settings")
        return str(row["value"]["trace_address"])

    def fast(self) -> FastPath:
        if self.refuse:
            raise RequestError(self.refuse)
        return self.node.fast

    def name_of(self, address: Address) -> str:
        return self.pods.get(address, "")


@contextmanager
def opened(node: FastNode, path: Path) -> Iterator[Opened]:
    made = Opened(node, f"unix://{path}")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    api = HttpApi(made.socket, loop, CollectorRegistry())
    BpfWindow(made.fast, made.name_of, netns=node.world.node).register(api)
    api.start()
    try:
        yield made
    finally:
        api.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
