"""Runs ``pingpong.c``: servers in namespaces, one measurement after the other."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from datapath import namespace
from perf.paths import Way

PORT = 5201
SERVERS = ("serve", "echo")


class Pingpong:
    """Make it and run it on the one CPU that the calling thread is bound to."""

    def __init__(self, scratch: Path) -> None:
        self._tool = scratch / "pingpong"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", str(self._tool), str(source)], check=True)
        self._servers: dict[int, tuple[int, ...]] = {}
        (cpu,) = os.sched_getaffinity(0)
        self._softirq = _kernel_thread(f"ksoftirqd/{cpu}")

    @contextmanager
    def serving(self, netns: int) -> Iterator[None]:
        """Both servers, by TCP and by UDP, are there."""
        with ExitStack() as stack:
            made = [self._server(stack, netns, word) for word in SERVERS]
            self._servers[netns] = tuple(made)
            yield

    def run(self, workload: str, way: Way, seconds: float) -> float:
        """Round trips, connections or bytes per second of CPU that both ends took.

        Work for them that the kernel put off to its own thread counts; of a busy machine it may be others'.
        """
        others = [*self._servers[way.server], *self._softirq]
        with namespace.entered(way.client):
            before = _cpu_seconds(others)
            command = [str(self._tool), workload, way.address, str(PORT), str(seconds)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        count, own = done.stdout.split()
        return int(count) / (float(own) + _cpu_seconds(others) - before)

    def _server(self, stack: ExitStack, netns: int, word: str) -> int:
        with namespace.entered(netns):
            process = subprocess.Popen([str(self._tool), word, str(PORT)], stdout=subprocess.PIPE, text=True)
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout is not None
        stack.enter_context(process.stdout)
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"pingpong {word} did not start")
        return process.pid


def _cpu_seconds(pids: list[int]) -> float:
    """That the processes have run. A process's clock is numbered by clock_getcpuclockid(3)."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def _kernel_thread(name: str) -> list[int]:
    """Empty where it cannot be seen: in a pid namespace."""
    found = [one.parent for one in Path("/proc").glob("[0-9]*/comm") if _read(one) == name]
    return [int(one.name) for one in found]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
