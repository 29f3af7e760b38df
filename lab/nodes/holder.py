"""Process 1 of a node: it holds the node's namespaces, runs what it is told in them, and reaps.

Forked (never exec'd) by ``lab.engine.init``, so that a node costs no Python start-up. One thread, one loop: a
listening socket in the node's state directory, and SIGCHLD. Whoever connects sends one request of
``lab.messages``; ``exec`` keeps the connection open until its process has ended. When this process ends, for
whatever reason, the kernel ends every process of the node, and with the last one its mounts and namespaces.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab import messages
from lab.messages import LabError, Value
from lab.nodes import cgroups, sandboxes, syscalls
from lab.nodes.kept import KeptPrograms
from lab.nodes.mounts import Layout, assemble
from lab.nodes.syscalls import Namespace

_REQUEST_DEADLINE = 30.0
"""Seconds for a client to finish sending a request; process 1 must not hang on one of them."""
_NAMESPACES = {"net": "net", "mount": "mnt", "pid": "pid", "uts": "uts", "ipc": "ipc", "cgroup": "cgroup"}


@dataclass(slots=True)
class _Child:
    connection: socket.socket | None
    """None for a program that was started again: nobody waits for it."""
    detached: bool
    label: str
    argv: list[str]
    started: float


def run(layout: Layout, lab: str) -> None:
    """Become the node: never returns. The caller has forked us into a fresh pid namespace."""
    try:
        syscalls.die_with_parent(signal.SIGKILL)
        listener = messages.listen(layout.directory.socket)
        cgroups.enter_node(layout.groups, lab, layout.hostname)
        syscalls.unshare(Namespace.MOUNT | Namespace.NETWORK | Namespace.UTS | Namespace.IPC)
        socket.sethostname(layout.hostname)
        syscalls.loopback_up()
        assemble(layout)
        os.chdir("/")
        Holder(listener).serve()
    except BaseException as exc:
        print(f"node {layout.hostname}: {exc!r}", flush=True)
        raise
    finally:
        os._exit(1)


class Holder:
    """The loop of process 1. ``serve`` returns never; SIGTERM ends the process and so the node."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._kept = KeptPrograms(self._spawn)
        self._verbs: Mapping[str, Callable[[Value, list[int]], tuple[Any, list[int]]]] = {
            "hello": lambda _request, _files: ({"pid": os.getpid()}, []),
            "namespaces": self._open_namespaces,
            "add_sandbox": lambda request, _files: (None, [sandboxes.add(str(request["name"]))]),
            "open_sandbox": lambda request, _files: (None, [sandboxes.open_(str(request["name"]))]),
            "remove_sandbox": lambda request, _files: (sandboxes.remove(str(request["name"])), []),
            "sandboxes": lambda _request, _files: (sandboxes.names(), []),
            "processes": self._list_processes,
            "open_process": self._open_process,
        }

    def serve(self) -> None:
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(wake_read, selectors.EVENT_READ, lambda: self._woken(wake_read))
        while True:
            for key, _ in self._selector.select(self._kept.timeout(time.monotonic())):
                key.data()
            self._kept.start_due(time.monotonic())

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(_REQUEST_DEADLINE)
        keep = False
        files: list[int] = []
        try:
            received = messages.receive(connection)
            if received is not None:
                request, files = received
                keep = self._answer(connection, request, files)
        except (OSError, LabError, ValueError) as exc:
            print(f"a client was lost: {exc}", flush=True)
        finally:
            messages.close(files)
            if not keep:
                connection.close()

    def _answer(self, connection: socket.socket, request: Value, files: list[int]) -> bool:
        """True if the connection stays open."""
        verb = str(request.get("verb"))
        given: list[int] = []
        keep = False
        try:
            if verb == "exec":
                value, given = self._exec(connection, request, files)
                keep = True
            elif verb in self._verbs:
                value, given = self._verbs[verb](request, files)
            else:
                raise LabError(f"a node has no verb {verb!r}")
            answer: Value = {"ok": value}
        except (OSError, LabError, KeyError, TypeError, ValueError) as exc:
            answer = {"error": f"{verb}: {exc}"}
        try:
            messages.send(connection, answer, given)
        finally:
            messages.close(given)
        return keep

    def _open_namespaces(self, _request: Value, _files: list[int]) -> tuple[Any, list[int]]:
        files = [
            os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _NAMESPACES.values()
        ]
        return list(_NAMESPACES), files

    def _list_processes(self, _request: Value, _files: list[int]) -> tuple[Any, list[int]]:
        """Those that run; and of those that are started again when they end, how often that was needed."""
        self._reap()
        running = [{"pid": pid, "label": c.label, "argv": c.argv} for pid, c in self._children.items()]
        return {"running": running, "kept": self._kept.describe()}, []

    def _open_process(self, request: Value, _files: list[int]) -> tuple[Any, list[int]]:
        """A pidfd of the running process that was started with ``label``; one that has ended is none."""
        self._reap()
        for pid, child in self._children.items():
            if child.label == request["label"]:
                return {"pid": pid, "argv": child.argv}, [os.pidfd_open(pid)]
        raise LabError(f"no process {request['label']!r} runs")

    def _exec(self, connection: socket.socket, request: Value, files: list[int]) -> tuple[Any, list[int]]:
        """Start ``argv`` with ``env`` in ``cwd``; ``files`` are its stdin, stdout and stderr.

        With ``tty`` (a path below /dev/pts) the terminal becomes its controlling one instead. ``label`` is
        a name by which others find the process; ``detached`` lets it outlive its client. ``sandbox`` names a
        pod's network namespace for it, ``group`` its control group in the node. With ``again``, seconds, it
        is started again that long after each end.
        """
        pid = self._spawn(request, files)
        child = self._children[pid]
        child.connection = connection
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hung_up(pid))
        if request.get("again") is not None:
            self._kept.add(pid, request, files)
        return {"pid": pid}, [os.pidfd_open(pid)]

    def _spawn(self, request: Value, files: list[int]) -> int:
        """A child that nobody waits for yet. Raises LabError, OSError."""
        argv = [str(word) for word in request["argv"]]
        env = {str(k): str(v) for k, v in request["env"].items()}
        program = shutil.which(argv[0], path=env.get("PATH", os.defpath))
        if program is None:
            raise LabError(f"no program {argv[0]!r} on this node")
        os.chdir(str(request.get("cwd") or "/"))
        started = time.monotonic()
        try:
            with sandboxes.entered(request.get("sandbox")):
                pid = os.posix_spawn(
                    program,
                    argv,
                    env,
                    file_actions=_file_actions(request, files),
                    setsid=True,
                    setsigmask=(),
                    setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ),
                )
        finally:
            os.chdir("/")
        label = str(request.get("label") or "")
        self._children[pid] = _Child(None, bool(request.get("detached")), label, argv, started)
        if group := request.get("group"):
            _join(str(group), pid)
        return pid

    def _hung_up(self, pid: int) -> None:
        """The client is gone: so is its process, unless it was started to stay."""
        child = self._children[pid]
        if child.connection is not None:
            self._selector.unregister(child.connection)
        if not child.detached:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _woken(self, wake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                self._report(child, os.waitstatus_to_exitcode(status))
                self._kept.ended(pid, os.waitstatus_to_exitcode(status), time.monotonic())

    def _report(self, child: _Child, code: int) -> None:
        if child.connection is None:
            return
        seconds = time.monotonic() - child.started
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.connection)
        with contextlib.suppress(OSError):
            messages.send(child.connection, {"ok": {"code": code, "seconds": seconds}})
        child.connection.close()


def _join(group: str, pid: int) -> None:
    """Move a new child into ``group``; one that cannot be there is ended. Raises OSError."""
    # A child that has already ended is a zombie until it is reaped: its pid cannot be another's.
    try:
        cgroups.join(group, pid)
    except OSError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        raise


def _file_actions(request: Value, files: list[int]) -> list[Any]:
    """Standard files of a child: its terminal if it is to have one, else ``files``."""
    if not request.get("tty"):
        return [(os.POSIX_SPAWN_DUP2, fd, i) for i, fd in enumerate(files)]
    terminal = (os.POSIX_SPAWN_OPEN, 0, str(request["tty"]), os.O_RDWR, 0)
    return [terminal, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
