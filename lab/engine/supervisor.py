"""The warden of a lab: the one process of it in the machine's namespaces.

It reads {"name": ..., "spec": ...} on stdin, forks process 1 of the lab (``lab.engine.init``) into a pid
namespace and waits. When that ends, or when the client lets go of the lifeline, it ends what is left and
removes the state directory and the control groups. It imports next to nothing, so that its own start costs
little.

Should the warden be killed itself, process 1 dies with it and everything of the lab with that; what lies in
the state directory then says what ``down`` has to remove (``leftovers.json``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.cleanup import clean, start_time
from lab.engine.init import Setting, run
from lab.messages import KEEP
from lab.nodes import cgroups, syscalls
from lab.nodes.syscalls import Namespace
from lab.ownership import note
from lab.statedir import LabDir

SOURCE = Path(__file__).resolve().parent.parent.parent
"""Where this product's packages lie."""


class Warden:
    def __init__(self, directory: LabDir, lifeline: int, ready: int) -> None:
        self._directory = directory
        self._lifeline = lifeline
        self._ready = ready
        self._groups = cgroups.hierarchies()

    def run(self, spec: object) -> int:
        """Hold the lab until its end. Returns its exit status."""
        tops = [str(h.lab(self._directory.name)) for h in self._groups]
        try:
            pid, pidfd = self._fork_init(spec)
            try:
                self._record(pid, tops)
                self._wait(pidfd)
            finally:
                status = _end(pid, pidfd)
        finally:
            clean(self._directory, tops)
        return status

    def _fork_init(self, spec: object) -> tuple[int, int]:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        syscalls.unshare(Namespace.PID)
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.close(theirs)
                os.close(self._lifeline)
                keep = tuple(dict.fromkeys((str(SOURCE), sys.prefix, sys.base_prefix, *_programs(spec))))
                setting = Setting(self._directory, self._groups, keep)
                os._exit(run(setting, ours, self._work(spec)))
            finally:
                os._exit(1)
        os.close(ours)
        os.close(self._ready)
        # theirs stays open: its end is ours.
        return pid, os.pidfd_open(pid)

    def _work(self, spec: object) -> Callable[[socket.socket], None]:
        def work(channel: socket.socket) -> None:
            from lab.engine.worker import work as run_worker

            run_worker(self._directory, spec, channel, self._ready)

        return work

    def _record(self, pid: int, tops: list[str]) -> None:
        processes = {str(p): start_time(p) for p in (pid, os.getpid())}
        value = {"processes": processes, "groups": tops}
        temporary = self._directory.leftovers.with_suffix(".new")
        temporary.write_text(json.dumps(value))
        temporary.rename(self._directory.leftovers)

    def _wait(self, pidfd: int) -> None:
        """Until the lab has ended or its client has let go."""
        watched = [pidfd, self._lifeline]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if pidfd in ready or os.read(self._lifeline, 1) != KEEP:
                return
            watched.remove(self._lifeline)


def _programs(spec: object) -> tuple[str, ...]:
    """The directory of a cluster's programs, which nodes run too; what is wrong with it the worker says."""
    named = spec.get("kube_bin") if isinstance(spec, dict) else None
    return (named,) if isinstance(named, str) and os.path.isabs(named) else ()


def _end(pid: int, pidfd: int) -> int:
    """Kill the lab's process 1 and wait until every process of the lab is gone. Its exit status."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) & 0xFF


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.engine.supervisor", description=__doc__)
    parser.add_argument("--lifeline", type=int, required=True, help="pipe whose end is the lab's end")
    parser.add_argument("--ready", type=int, required=True, help="pipe for one line of JSON once it is up")
    options = parser.parse_args(argv)
    order = json.load(sys.stdin)
    directory = LabDir.of(order["name"])
    for fd in (options.lifeline, options.ready):
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    os.umask(0o022)
    try:
        directory.root.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        sys.stderr.write("another process brings up a lab of this name at this moment\n")
        return 1
    note(directory, os.getpid())
    directory.log.parent.mkdir()
    log = os.open(directory.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir("/")
    return Warden(directory, options.lifeline, options.ready).run(order["spec"])


if __name__ == "__main__":
    sys.exit(main())
