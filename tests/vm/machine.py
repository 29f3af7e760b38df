"""The emulator: a kernel, this machine's files, one command; its output and its exit status.

QEMU without KVM, at the lowest priority. The files come by virtiofsd, whose own view of them is a read-only
mount in a namespace of its own: the server has no switch for that.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vm import image
from tests.vm.kernels import ROOT, Kernel

_FILE_SERVER = "/usr/lib/qemu/virtiofsd"
_MEMORY = 2048
_PATIENCE = 10.0
_MARK = "@@vm"
_READ_ONLY = 'mount --bind / "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
_APPEND = (
    "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t mitigations=off nokaslr apparmor=0 audit=0"
    " random.trust_cpu=on rcupdate.rcu_expedited=1"
)


class Lost(Exception):
    """The machine ended, or ran out of time, without telling how the command ended: no fault of a test's."""


@dataclass(frozen=True, slots=True)
class Ending:
    """``output`` is what the command wrote, which has been shown as it came."""

    status: int
    output: str


def run(
    kernel: Kernel, command: str, *, timeout: float, environment: dict[str, str], append: str = ""
) -> Ending:
    """``command`` is for sh, in the repository's directory. ``timeout`` in seconds. Raises Lost.

    ``append`` is for the kernel's command line.
    """
    exported = "".join(f"export {name}='{value}'\n" for name, value in environment.items())
    with tempfile.TemporaryDirectory(prefix="vm") as name:
        scratch = Path(name)
        settings = {"directory": str(ROOT), "mark": _MARK}
        root = image.first_root(kernel.directory, exported + command, settings)
        (scratch / "initrd").write_bytes(root)
        with _files_served(scratch) as files:
            return _boot(_emulator(kernel, scratch / "initrd", files, append), timeout)


def _emulator(kernel: Kernel, root: Path, files: Path, append: str) -> list[str]:
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-serial", "stdio", "-machine", "q35", "-cpu", "max,la57=off"),
        *("-accel", f"tcg,thread={kernel.threads},tb-size=256", "-smp", "2", "-m", str(_MEMORY)),
        *("-object", f"memory-backend-memfd,id=memory,size={_MEMORY}M,share=on"),
        *("-numa", "node,memdev=memory", "-chardev", f"socket,id=files,path={files}"),
        *("-device", "vhost-user-fs-pci,chardev=files,tag=files"),
        *("-kernel", str(image.unpacked_kernel(kernel.directory)), "-initrd", str(root)),
        *("-append", f"{_APPEND} {append}".rstrip()),
    ]


@contextmanager
def _files_served(scratch: Path) -> Iterator[Path]:
    """This machine's root file system, read-only, over a socket."""
    below, where, log = scratch / "files", scratch / "files.socket", scratch / "files.log"
    below.mkdir()
    serve = [_FILE_SERVER, f"--socket-path={where}", "-f"]
    serve += ["-o", f"source={below},cache=always,no_posix_lock,sandbox=chroot"]
    command = ["unshare", "--mount", "sh", "-c", _READ_ONLY, "sh", str(below), *serve]
    with log.open("wb") as errors, _process(command, stdout=errors, stderr=errors) as server:
        deadline = time.monotonic() + _PATIENCE
        while not where.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise Lost(f"the files are not served: {log.read_text()}")
            time.sleep(0.02)
        yield where


def _boot(command: list[str], timeout: float) -> Ending:
    told, lines = [], []
    with _process(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as emulator:
        watch = threading.Timer(timeout, emulator.kill)
        watch.start()
        assert emulator.stdout is not None
        for raw in emulator.stdout:
            line, marked, word = raw.decode(errors="replace").rstrip("\r\n").partition(_MARK)
            if line or not marked:
                print(line, flush=True)
                lines.append(line)
            if marked:
                told.append(word.split())
            if told and told[-1][0] == "ends":
                break
        watch.cancel()
    if not told or told[-1][0] != "ends":
        when = "while the command ran" if told else "before the command began"
        raise Lost(f"the machine ended {when}, or was ended after {timeout:.0f} s")
    return Ending(int(told[-1][1]), "\n".join(lines))


@contextmanager
def _process(command: list[str], **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Ended at the end of the block, or with us."""
    started = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "nice", "-n", "19", *command], **streams)
    with started:
        try:
            yield started
        finally:
            started.kill()
