"""A node as its user sees it: run things in it, reach its namespaces, read and write its private files."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import messages
from lab.commands import typed
from lab.messages import LabError, Value
from lab.nodes.process import NodeProcess, Scratch
from lab.statedir import NodeDir

SOURCE = Path(__file__).resolve().parent.parent.parent
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/cni/bin"
"""The last one is the node's own directory for programs: terway-cli is in it."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a process in a node starts with: this interpreter first, the product importable, and ``extra``."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{_PATH}",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(SOURCE),
        **(extra or {}),
    }


class RemoteNode:
    """Talks to process 1 of a running node. Every call raises LabError if the node does not run."""

    def __init__(self, name: str, directory: NodeDir) -> None:
        self.name = name
        self.directory = directory

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        try:
            sock = messages.connect(self.directory.socket)
        except OSError as exc:
            raise LabError(self._absence()) from exc
        try:
            yield sock
        except BaseException:
            sock.close()
            raise

    def _absence(self) -> str:
        """Why nobody answers: there is no such node, or it is off."""
        nodes = self.directory.root.parent
        if not self.directory.root.exists():
            names = sorted(path.name for path in nodes.iterdir()) if nodes.exists() else []
            return f"no node {self.name!r}; there are {', '.join(names) or 'none'}"
        boot = typed(nodes.parent.name, f"node reboot {self.name}")
        return f"node {self.name} does not run; start it with `{boot}`"

    def ask(self, request: Value, files: Sequence[int] = ()) -> tuple[Any, list[int]]:
        with self._connected() as sock, sock:
            return messages.ask(sock, request, files)

    @property
    def pid(self) -> int:
        """Process 1 of the node, as the caller's pid namespace numbers it."""
        with self._connected() as sock, sock:
            messages.ask(sock, {"verb": "hello"})
            peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return int(struct.unpack("3i", peer)[0])

    def namespace_fd(self, kind: str = "net") -> int:
        """An open file of the node's namespace: net, mount, pid, uts, ipc or cgroup."""
        names, files = self.ask({"verb": "namespaces"})
        if kind not in names:
            messages.close(files)
            raise LabError(f"a node has no {kind!r} namespace; it has {', '.join(names)}")
        wanted = files[names.index(kind)]
        messages.close([fd for fd in files if fd != wanted])
        return int(wanted)

    def netns_fd(self) -> int:
        return self.namespace_fd("net")

    def spawn(self, argv: Sequence[str], files: Sequence[int], **options: Any) -> NodeProcess:
        """Start ``argv`` with ``files`` as stdin, stdout and stderr.

        Options of the holder's ``exec``: ``env``, ``cwd``, ``label``, ``detached``, ``tty``, ``sandbox``,
        ``group`` and ``again``.
        """
        request = {"verb": "exec", "argv": list(argv), **options}
        request["env"] = environment(options.get("env"))
        with self._connected() as sock:
            _, (pidfd,) = messages.ask(sock, request, files)
            sock.settimeout(None)
            return NodeProcess(argv, sock, pidfd)

    def popen(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str = "/"
    ) -> NodeProcess:
        """Start ``argv`` with pipes for stdin, stdout and stderr; closing its ``NodeProcess`` ends it."""
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
        try:
            process = self.spawn(argv, theirs, env=env, cwd=cwd)
        except BaseException:
            messages.close(ours)
            raise
        finally:
            messages.close(theirs)
        process.stdin, process.stdout, process.stderr = ours
        return process

    def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` to its end, in all of the node's namespaces.

        Raises subprocess.TimeoutExpired after killing it, CalledProcessError if ``check`` and it failed.
        """
        content = stdin.encode() if isinstance(stdin, str) else stdin
        with Scratch(content) as source, Scratch() as out, Scratch() as err:
            with self.spawn(argv, (source.fd, out.fd, err.fd), env=env) as process:
                code = process.wait(timeout)
            result = subprocess.CompletedProcess(
                list(argv), code, out.read().decode(errors="replace"), err.read().decode(errors="replace")
            )
        if check and code != 0:
            raise subprocess.CalledProcessError(code, list(argv), result.stdout, result.stderr)
        return result

    def python(self, program: str, *arguments: str, timeout: float = 60.0) -> str:
        """Run a Python program in the node and return its output. Raises CalledProcessError."""
        argv = [sys.executable, "-c", program, *arguments]
        return self.exec(argv, timeout=timeout, check=True).stdout

    def add_sandbox(self, name: str) -> int:
        """A pod's network namespace at /run/netns/``name``, as a file. Raises LabError if it exists."""
        return self.ask({"verb": "add_sandbox", "name": name})[1][0]

    def sandbox_fd(self, name: str) -> int:
        return self.ask({"verb": "open_sandbox", "name": name})[1][0]

    def remove_sandbox(self, name: str) -> bool:
        return bool(self.ask({"verb": "remove_sandbox", "name": name})[0])

    def sandboxes(self) -> tuple[str, ...]:
        return tuple(self.ask({"verb": "sandboxes"})[0])

    def write(self, path: str, content: str, *, mode: int = 0o644) -> None:
        """Replace a file below one of the node's private directories; whether it runs does not matter."""
        target = self.directory.outside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.new")
        temporary.write_text(content)
        temporary.chmod(mode)
        temporary.rename(target)

    def read(self, path: str) -> str:
        return self.directory.outside(path).read_text()
