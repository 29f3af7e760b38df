"""Programs of a node that are started again when they end, as systemd does with ``Restart=always``.

Pure but for the clock that its caller reads: ``lab.nodes.holder`` starts processes and says when they end.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.messages import LabError, Value


@dataclass(slots=True)
class _Program:
    request: Value
    files: list[int]
    """Own copies of its stdin, stdout and stderr."""
    pause: float
    """Seconds from an end to the next start."""
    pid: int | None
    due: float = 0.0
    ends: int = 0
    last: str = ""


def told(code: int) -> str:
    """How a process ended, by ``os.waitstatus_to_exitcode``."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


class KeptPrograms:
    """``start`` takes a request and its files, and returns the pid; OSError or LabError is another end."""

    def __init__(self, start: Callable[[Value, list[int]], int]) -> None:
        self._start = start
        self._programs: dict[str, _Program] = {}

    def add(self, pid: int, request: Value, files: list[int]) -> None:
        """``pid`` has been started by ``request``, whose ``label`` names it and ``again`` is the pause."""
        label = str(request["label"])
        old = self._programs.pop(label, None)
        for fd in old.files if old else ():
            os.close(fd)
        copies = [os.dup(fd) for fd in files]
        self._programs[label] = _Program(request, copies, float(request["again"]), pid)

    def ended(self, pid: int, code: int, now: float) -> None:
        """Nothing for a process that is not kept."""
        for label, program in self._programs.items():
            if program.pid == pid:
                self._note(label, program, told(code), now)

    def start_due(self, now: float) -> None:
        """Start what has waited long enough."""
        for label, program in self._programs.items():
            if program.pid is None and program.due <= now:
                try:
                    program.pid = self._start(program.request, program.files)
                except (OSError, LabError) as exc:
                    self._note(label, program, f"did not start: {exc}", now)

    def timeout(self, now: float) -> float | None:
        """Seconds until ``start_due`` has something to do, None if nothing waits."""
        waiting = [program.due for program in self._programs.values() if program.pid is None]
        return max(0.0, min(waiting) - now) if waiting else None

    def describe(self) -> dict[str, dict[str, Any]]:
        """By label: ``ends``, how often since the boot, and ``last``, the latest end in words."""
        return {label: {"ends": p.ends, "last": p.last} for label, p in self._programs.items()}

    def _note(self, label: str, program: _Program, last: str, now: float) -> None:
        program.pid, program.due = None, now + program.pause
        program.ends, program.last = program.ends + 1, last
        line = f"{label} {last}; it is started again in {program.pause:g} s"
        print(line, flush=True)
        if len(program.files) > 2:
            # Beside what it has said itself. A full disk must not end process 1.
            with contextlib.suppress(OSError):
                os.write(program.files[2], f"{line}\n".encode())
