"""A container runtime's part of an ADD and no more: runs inside a node, reads a plan, execs, waits.

``python -m perf.runtime`` reads ``{"mode", "program", "calls": [{"env", "stdin"}...]}`` on stdin.
``sequential`` runs one after the other, ``burst`` starts all and then waits. Prints ``{"wall", "seconds":
[...], "failures": [...]}``; seconds are from posix_spawn to the end of each process.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any


def _file(text: str) -> int:
    made = tempfile.TemporaryFile()  # noqa: SIM115  # lives until the process it is given to has ended
    made.write(text.encode())
    made.flush()
    fd = os.dup(made.fileno())
    made.close()
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _spawn(program: str, env: dict[str, str], stdin: int, stdout: int) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
    return os.posix_spawn(program, [program], env, file_actions=actions)


def run(plan: dict[str, Any]) -> dict[str, Any]:
    program = plan["program"]
    prepared = [(c["env"], _file(c["stdin"]), _file("")) for c in plan["calls"]]
    seconds: dict[int, float] = {}
    codes: dict[int, int] = {}
    began = time.perf_counter()
    if plan["mode"] == "sequential":
        for number, (env, stdin, stdout) in enumerate(prepared):
            start = time.perf_counter()
            pid = _spawn(program, env, stdin, stdout)
            _, status = os.waitpid(pid, 0)
            seconds[number], codes[number] = time.perf_counter() - start, status
    else:
        started: dict[int, tuple[int, float]] = {}
        for number, (env, stdin, stdout) in enumerate(prepared):
            start = time.perf_counter()
            started[_spawn(program, env, stdin, stdout)] = (number, start)
        while started:
            pid, status = os.wait()
            number, start = started.pop(pid)
            seconds[number], codes[number] = time.perf_counter() - start, status
    wall = time.perf_counter() - began
    failures = []
    for number, (_, _, stdout) in enumerate(prepared):
        if codes[number]:
            os.lseek(stdout, 0, os.SEEK_SET)
            failures.append(os.read(stdout, 4096).decode(errors="replace"))
    return {"wall": wall, "seconds": [seconds[n] for n in range(len(prepared))], "failures": failures}


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
