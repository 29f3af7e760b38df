"""The images that every cluster of the lab starts from: a sandbox's process, a shell, a DNS server.

Made here from programs that are here; no registry is asked. Pods name them with imagePullPolicy Never.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.kubernetes import archive
from lab.kubernetes.archive import Link
from lab.messages import LabError

PAUSE = "localhost/pause:1"
BUSYBOX = "localhost/busybox:1"
COREDNS = "localhost/coredns:1"
ACCOUNTS: Mapping[str, bytes] = {
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
}
_PAUSE_SOURCE = Path(__file__).resolve().parent / "pause.c"
_BUSYBOX = Path("/usr/bin/busybox")
_COMPILER = ("musl-gcc", "-static", "-Os", "-s", "-Wall", "-Werror")


def base(bin_dir: Path, cache: Path) -> tuple[Path, ...]:
    """Archives of PAUSE, BUSYBOX and COREDNS below ``cache``, made if missing or older than what is in them.

    ``bin_dir`` has CoreDNS. Raises LabError if there is no static busybox or no compiler.
    """
    cache.mkdir(parents=True, exist_ok=True)
    pause = pause_program(cache)
    shell = busybox()
    dns = bin_dir / "coredns"
    if stale(cache / "pause.tar", [pause]):
        archive.write(cache / "pause.tar", PAUSE, files={"pause": pause}, entrypoint=["/pause"])
    if stale(cache / "busybox.tar", [shell]):
        archive.write(
            cache / "busybox.tar",
            BUSYBOX,
            files={**ACCOUNTS, "bin/busybox": shell},
            links=applets(shell),
            command=["sh"],
        )
    if stale(cache / "coredns.tar", [dns]):
        archive.write(cache / "coredns.tar", COREDNS, files={"coredns": dns}, entrypoint=["/coredns"])
    return (cache / "pause.tar", cache / "busybox.tar", cache / "coredns.tar")


def stale(product: Path, sources: Sequence[Path]) -> bool:
    """Whether ``product`` is missing or older than one of ``sources`` or than the code that makes it."""
    if not product.exists():
        return True
    made = product.stat().st_mtime
    code = (Path(__file__), Path(archive.__file__))
    return any(source.stat().st_mtime > made for source in (*sources, *code))


def pause_program(cache: Path) -> Path:
    """The static program, compiled if it is missing or older than its source. Raises LabError."""
    program = cache / "pause"
    if program.exists() and program.stat().st_mtime >= _PAUSE_SOURCE.stat().st_mtime:
        return program
    # Its own place: two first clusters may compile at once.
    with tempfile.TemporaryDirectory(dir=cache, prefix="pause-") as scratch:
        _compile(Path(scratch, "pause"))
        Path(scratch, "pause").rename(program)
    return program


def _compile(output: Path) -> None:
    argv = [*_COMPILER, "-o", str(output), str(_PAUSE_SOURCE)]
    try:
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError as exc:
        raise LabError(f"{_COMPILER[0]} does not start ({exc.strerror}); install musl-tools") from exc
    if result.returncode != 0:
        raise LabError(f"{_PAUSE_SOURCE} does not compile: {result.stderr.strip()}")


def busybox() -> Path:
    """The machine's static one. Raises LabError if it is missing, or needs libraries."""
    if not _BUSYBOX.exists():
        raise LabError(f"{_BUSYBOX} is not there; install the Debian package busybox-static")
    if b"/ld-" in _BUSYBOX.read_bytes()[:4096]:
        raise LabError(f"{_BUSYBOX} needs libraries; install busybox-static in place of busybox")
    return _BUSYBOX


def applets(program: Path, *, without: Sequence[str] = ()) -> tuple[Link, ...]:
    """Links in bin/ for everything that ``program`` can be called."""
    listed = subprocess.run([str(program), "--list"], capture_output=True, text=True, check=True).stdout
    return tuple((f"bin/{name}", "busybox") for name in listed.split() if name not in ("busybox", *without))
