"""A running lab as tests, the demo and the command line use it.

::

    with Lab.start(LabSpec()) as lab:
        node = lab.node("node1")
        node.exec(["ip", "-br", "addr"])
        pod = lab.add_pod("node1", "default", "web")

``Lab.start`` holds one end of a pipe: when this process ends, however it ends, the lab is taken down. With
``keep`` the lab stays, and ``Lab.attach`` finds it again by name. Every failure is a LabError of one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab import messages
from lab.cleanup import remove, warden_runs
from lab.cloud_client import CloudClient
from lab.commands import typed
from lab.connection import Connection
from lab.messages import KEEP, LabError
from lab.nodes.node import LabNode
from lab.ownership import owner_of
from lab.sandbox import BARE, LabPod, PodOptions, SandboxRuntime
from lab.spec import LabSpec, NodeSpec
from lab.spec_json import encode
from lab.statedir import DEFAULT_NAME, LabDir

SOURCE = Path(__file__).resolve().parent.parent
_START_DEADLINE = 240.0
"""Seconds without a sign of life."""


def _quiet(_text: str) -> None:
    """Progress that nobody asked for."""


class Lab(Connection):
    def __init__(self, directory: LabDir) -> None:
        super().__init__(directory)
        self._lifeline: int | None = None
        self._warden: subprocess.Popen[bytes] | None = None
        self.cloud = CloudClient(self.call, self.call_with_files)
        self._runtime = SandboxRuntime(self)

    # --- up and down ---

    @classmethod
    def start(
        cls,
        spec: LabSpec | None = None,
        *,
        name: str = DEFAULT_NAME,
        keep: bool = False,
        progress: Callable[[str], None] = _quiet,
    ) -> Lab:
        """Bring a lab up. Raises LabError if one of that name runs; what a killed one left is removed.

        ``progress`` is told what takes seconds: a real API server does.
        """
        directory = LabDir.of(name)
        if directory.root.exists():
            if answers(directory):
                raise LabError(is_up(directory))
            if warden_runs(directory):
                raise LabError(
                    f"lab {name!r} is being brought up or taken down{_whose(directory)}; "
                    f"wait for that, or end it with `{typed(name, 'down')}`"
                )
            remove(directory)
        warden, lifeline = _launch(directory, spec or LabSpec(), progress)
        try:
            lab = cls(directory)
        except BaseException:
            os.close(lifeline)
            warden.wait()
            raise
        lab._warden = warden
        lab._lifeline = lifeline
        if keep:
            lab.keep()
        return lab

    def keep(self) -> None:
        """From now on it outlives this process, which has started it."""
        if self._lifeline is not None:
            os.write(self._lifeline, KEEP)
            os.close(self._lifeline)
            self._lifeline = None

    @classmethod
    def attach(cls, name: str = DEFAULT_NAME) -> Lab:
        """Raises LabError if no such lab runs."""
        directory = LabDir.of(name)
        if not answers(directory):
            raise LabError(f"no lab {name!r} is up; bring one up with `{typed(name, 'up')}`")
        return cls(directory)

    def down(self) -> None:
        """End the lab and everything of it. Succeeds if it has ended."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        take_down(self.name)
        if self._warden is not None:
            self._warden.wait()
        self.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # --- nodes ---

    @property
    def nodes(self) -> tuple[LabNode, ...]:
        return tuple(self.node(n["name"]) for n in self.status()["nodes"])

    def node(self, name: str) -> LabNode:
        return LabNode(self, name)

    def add_node(self, spec: NodeSpec) -> LabNode:
        self.call("add_node", spec=encode(spec))
        return self.node(spec.name)

    def remove_node(self, name: str) -> None:
        self.call("remove_node", name=name)

    # --- pods ---

    def add_pod(
        self,
        node: str,
        namespace: str,
        name: str,
        options: PodOptions = BARE,
        *,
        create_object: bool = True,
    ) -> LabPod:
        """A pod as kubelet and containerd make it. Raises CniError; the pod object stays then."""
        return self._runtime.add_pod(self.node(node), namespace, name, options, create_object=create_object)

    def delete_pod(self, pod: LabPod, *, delete_object: bool = True) -> float:
        """As containerd and kubelet end it; seconds of the first DEL. Raises CniError."""
        return self._runtime.delete_pod(pod, delete_object=delete_object)

    def pods(self) -> tuple[LabPod, ...]:
        return self._runtime.pods()

    def pod(self, key: str) -> LabPod:
        """By ``namespace/name``. Raises LabError."""
        return self._runtime.pod(key)

    # --- the fabric ---

    def counters(self) -> dict[str, int]:
        """Frames by verdict and reason, over all ports."""
        answer: dict[str, int] = self.call("counters")
        return answer

    def port_counters(self) -> dict[str, dict[str, int]]:
        answer: dict[str, dict[str, int]] = self.call("port_counters")
        return answer

    def drops(self, owner: str | None = None) -> dict[str, int]:
        """Those of ``counters`` that are drops, and not zero. ``owner``: of frames sent by that node."""
        answer: dict[str, int] = self.call("drops", owner=owner)
        return answer

    def faults(self) -> list[dict[str, Any]]:
        """``drops`` by sender: ``node`` ("" if the ENI is gone), ``eni``, ``reason`` and ``frames``."""
        answer: list[dict[str, Any]] = self.call("faults")
        return answer

    def capture(self, eni: str, file: int, *, count: int | None = None) -> Capture:
        """A pcap of both directions at ``eni`` (id, MAC, ``cloud`` or ``outside``), written into ``file``."""
        return Capture(self.directory, {"verb": "capture", "eni": eni, "count": count}, file)


class Capture:
    """A capture that runs: what passes from now on is seen. Ends by itself after ``count`` frames."""

    def __init__(self, directory: LabDir, request: dict[str, Any], file: int) -> None:
        self._socket = messages.connect(directory.control)
        try:
            self.device: str | None = messages.ask(self._socket, request, [file])[0]
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(None)

    def stop(self) -> int:
        """No more frames; how many there were."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        return self.wait()

    def wait(self) -> int:
        """Until ``count`` frames are there; how many there were. Raises LabError if the lab ends first.

        A KeyboardInterrupt leaves it running, for ``stop``.
        """
        select.select([self._socket], [], [])
        with self._socket:
            received = messages.receive(self._socket)
        if received is None:
            raise LabError("the lab ended during the capture")
        if "error" in received[0]:
            raise LabError(str(received[0]["error"]))
        return int(received[0]["ok"])


def is_up(directory: LabDir) -> str:
    """The refusal to bring up another lab of that name: whose it is, and how it ends."""
    return (
        f"lab {directory.name!r} is up already{_whose(directory)}; end it with "
        f"`{typed(directory.name, 'down')}`, or choose another --name"
    )


def _whose(directory: LabDir) -> str:
    owner = owner_of(directory)
    return "" if owner is None else f" ({owner})"


def take_down(name: str) -> bool:
    """End lab ``name`` if it runs and remove what it left. False if there was nothing."""
    directory = LabDir.of(name)
    if not directory.root.exists():
        return False
    with contextlib.suppress(OSError, LabError):
        messages.call(directory.control, {"verb": "shutdown"})
    remove(directory)
    return True


def answers(directory: LabDir) -> bool:
    """Whether a lab of that name is up."""
    try:
        messages.connect(directory.control).close()
    except OSError:
        return False
    return True


def _launch(
    directory: LabDir, spec: LabSpec, progress: Callable[[str], None]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the warden and wait until it says that the lab is up."""
    theirs, lifeline = os.pipe2(os.O_CLOEXEC)
    ready, told = os.pipe2(os.O_CLOEXEC)
    order = json.dumps({"name": directory.name, "spec": encode(spec)}).encode()
    argv = [sys.executable, "-m", "lab.engine.supervisor", "--lifeline", str(theirs), "--ready", str(told)]
    try:
        warden = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(theirs, told),
            cwd=SOURCE,
            start_new_session=True,
        )
    finally:
        messages.close([theirs, told])
    assert warden.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            warden.stdin.write(order)
            warden.stdin.close()
        _await(ready, warden, progress)
    except BaseException:
        os.close(lifeline)
        warden.wait()
        raise
    finally:
        os.close(ready)
    return warden, lifeline


def _await(ready: int, warden: subprocess.Popen[bytes], progress: Callable[[str], None]) -> None:
    for value in _lines(ready):
        if "error" in value:
            raise LabError(f"the lab does not start: {value['error']}")
        if "ok" in value:
            return
        progress(str(value["progress"]))
    warden.wait()
    assert warden.stderr is not None
    said = warden.stderr.read().decode(errors="replace").strip().splitlines()
    raise LabError(f"the lab ended while it started: {said[-1] if said else 'it said nothing'}")


def _lines(ready: int) -> Iterator[dict[str, Any]]:
    """What the lab tells, until it closes its end. Raises LabError if it is silent for too long."""
    rest = b""
    while select.select([ready], [], [], _START_DEADLINE)[0]:
        chunk = os.read(ready, 65536)
        if not chunk:
            return
        *whole, rest = (rest + chunk).split(b"\n")
        yield from map(json.loads, whole)
    raise LabError(f"the lab that was to start has said nothing for {_START_DEADLINE:.0f} s")
