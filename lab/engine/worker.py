"""The worker's first steps: nodes are forked while the large imports are read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import traceback

from lab.engine.nursery import Nursery
from lab.messages import LabError
from lab.spec_json import decode_spec
from lab.statedir import LabDir


def work(directory: LabDir, spec_value: object, channel: socket.socket, ready: int) -> None:
    """Be the worker until the lab is shut down.

    ``ready`` gets lines of JSON: {"progress": text} now and then, at last {"ok": true} or {"error": text}.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    client = _Client(ready)
    try:
        spec = decode_spec(spec_value)
        nursery = Nursery(channel)
        for node in spec.nodes:
            nursery.start(node.name)
        from lab.engine.control import ControlServer
        from lab.engine.running import RunningLab
        from lab.engine.verbs import registry

        lab = RunningLab(spec, directory, nursery, client.say)
        lab.start()
        ControlServer(directory.control, registry(lab), directory.log).start()
    except Exception as exc:  # noqa: BLE001  # whatever it is, the client has to hear of it
        traceback.print_exc()
        client.end({"error": _one_line(exc)})
        sys.stderr.flush()
        os._exit(1)
    client.end({"ok": True})
    lab.wait()
    sys.stderr.flush()
    os._exit(0)


def _one_line(exc: Exception) -> str:
    text = str(exc).strip().splitlines()[0] if str(exc).strip() else repr(exc)
    return text if isinstance(exc, LabError) else f"{type(exc).__name__}: {text}"


class _Client:
    """Who waits for the lab to be up; after that what is said is for the log."""

    def __init__(self, ready: int) -> None:
        self._ready: int | None = ready

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        self._write({"progress": text})

    def end(self, value: object) -> None:
        self._write(value)
        ready, self._ready = self._ready, None
        if ready is not None:
            os.close(ready)

    def _write(self, value: object) -> None:
        if self._ready is not None:
            # A client that has gone takes the lab down by its lifeline.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._ready, json.dumps(value).encode() + b"\n")
