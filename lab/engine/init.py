"""Process 1 of a lab: starts and ends nodes for the supervisor's worker, and reaps.

It stays small and has one thread, because every node is a fork of it. The worker (``lab.engine.worker``) is
its first child and asks over a socket pair; when the worker ends, or the warden (``lab.engine.supervisor``)
does, this process ends, and the kernel ends all that is left of the lab.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from lab import messages
from lab.messages import LabError, Value
from lab.nodes import cgroups, holder, syscalls
from lab.nodes.cgroups import Hierarchy
from lab.nodes.mounts import Layout, detach_from_machine
from lab.nodes.syscalls import Namespace
from lab.statedir import LabDir

_GROUPS_DEADLINE = 240.0
"""Seconds for the last process of a node to leave its groups: bounds what is broken, not what is slow."""


@dataclass(frozen=True, slots=True)
class Setting:
    directory: LabDir
    groups: tuple[Hierarchy, ...]
    keep: tuple[str, ...]


def run(setting: Setting, lifeline: int, work: Callable[[socket.socket], None]) -> int:
    """Become process 1 of the lab. Returns the worker's exit status.

    ``lifeline`` is a pipe from the warden: its end is ours too. ``work`` is run in a child.
    """
    syscalls.die_with_parent(signal.SIGKILL)
    syscalls.unshare(Namespace.MOUNT | Namespace.NETWORK)
    detach_from_machine()
    syscalls.loopback_up()
    ours, theirs = socket.socketpair()
    worker = os.fork()
    if worker == 0:
        ours.close()
        os.close(lifeline)
        try:
            work(theirs)
        finally:
            os._exit(1)
    theirs.close()
    return Init(setting, ours, worker).serve(lifeline)


class Init:
    def __init__(self, setting: Setting, channel: socket.socket, worker: int) -> None:
        self._setting = setting
        self._channel = channel
        self._worker = worker
        self._nodes: dict[str, int] = {}
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def serve(self, lifeline: int) -> int:
        """Answer the worker until it ends; its exit status."""
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        while True:
            ready, _, _ = select.select([self._channel.fileno(), wake_read, lifeline], [], [])
            if lifeline in ready:
                return 0
            if wake_read in ready:
                os.read(wake_read, 4096)
                status = self._reap()
                if status is not None:
                    return status
            if self._channel.fileno() in ready:
                received = messages.receive(self._channel)
                if received is not None:
                    messages.send(self._channel, self._answer(received[0]))

    def _answer(self, request: Value) -> Value:
        name = str(request.get("name"))
        try:
            match request["verb"]:
                case "start_node":
                    return {"ok": self._start_node(name)}
                case "stop_node":
                    return {"ok": self._stop_node(name)}
                case "nodes":
                    return {"ok": dict(self._nodes)}
                case verb:
                    raise LabError(f"no verb {verb!r}")
        except (OSError, LabError, ValueError) as exc:
            return {"error": f"{request['verb']} {name}: {exc}"}

    def _start_node(self, name: str) -> int:
        """Fork process 1 of a new boot of the node; its pid in the lab."""
        if name in self._nodes:
            raise LabError("is running")
        directory = self._setting.directory.node(name)
        directory.make()
        directory.boot_id.write_text(f"{uuid.uuid4()}\n")
        cgroups.make_node(self._setting.groups, self._setting.directory.name, name)
        log = os.open(directory.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        layout = Layout(directory, name, self._setting.groups, self._setting.keep)
        try:
            syscalls.unshare(Namespace.PID)
            pid = os.fork()
            if pid == 0:
                self._become_node(layout, log)
        finally:
            syscalls.join(self._home, Namespace.PID)
            os.close(log)
        self._nodes[name] = pid
        return pid

    def _become_node(self, layout: Layout, log: int) -> None:
        """In the child: keep nothing of this process but the log."""
        signal.set_wakeup_fd(-1)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 1 << 20)
        holder.run(layout, self._setting.directory.name)

    def _stop_node(self, name: str) -> bool:
        """Kill the node and wait until nothing of it runs. False if it does not."""
        pid = self._nodes.pop(name, None)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        deadline = time.monotonic() + _GROUPS_DEADLINE
        cgroups.clear_node(self._setting.groups, self._setting.directory.name, name, deadline=deadline)
        return True

    def _reap(self) -> int | None:
        """The worker's status if it was among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == 0:
                return None
            if pid == self._worker:
                return os.waitstatus_to_exitcode(status) & 0xFF
            for name, node in list(self._nodes.items()):
                if node == pid:
                    del self._nodes[name]
