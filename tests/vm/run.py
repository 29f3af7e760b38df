"""python -m tests.vm.run [--kernel NAME]... [--append WORDS] [PATH... | -- COMMAND...]

Boots kernels of tests/kernels.toml, all of them unless --kernel says which, and runs in each the tests of
PATH, or those that the list names, every file in a machine of its own; or COMMAND, where one word is text
for the shell. Before the tests a probe compares what the fast path makes of the kernel with what the list
expects. WORDS go to the kernel's command line (``ipv6.disable=1``), and then nothing is probed. A kernel that
is not there is fetched first (60 to 110 MB). Exit status 0 only if everything ended well on every kernel. A
machine that was lost, which says nothing about a test, is tried once more.

Needs root and Debian's qemu-system-x86, qemu-system-common and busybox-static; zstd spares 6.12 two seconds.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests import pace
from tests.vm import archive, kernels, machine
from tests.vm.kernels import ROOT, Kernel
from tests.vm.machine import Ending

_TRIES = 2
_SLOWER = "10"
_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT), pace.VARIABLE: _SLOWER}
_NOTHING_CHOSEN = 5
"""Status of pytest if -k left nothing of a file."""


@dataclass(frozen=True, slots=True)
class Job:
    """``command`` is for sh; ``fine`` are the exit statuses that are a success."""

    title: str
    command: str
    fine: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True)
class Result:
    """``summary``: the last line that the job wrote."""

    kernel: str
    job: Job
    ok: bool
    summary: str

    def __str__(self) -> str:
        return f"{self.kernel:6} {'ok' if self.ok else 'FAILED':7} {self.job.title}: {self.summary}"


def main() -> int:
    known = kernels.listed()
    ours, command = _split(sys.argv[1:])
    options = _parser(known).parse_args(ours)
    results = []
    for kernel in (known[name] for name in options.kernel or known):
        archive.fetched(kernel)
        jobs = (
            [_plain(command)]
            if command
            else [
                *([] if options.append else [_probe(kernel)]),
                *_tests(options.paths or kernels.paths(), options.only),
            ]
        )
        results += [run(kernel, job, options.timeout, options.append) for job in jobs]
    print(*results, sep="\n")
    return 0 if all(result.ok for result in results) else 1


def run(kernel: Kernel, job: Job, timeout: float, append: str = "") -> Result:
    """In a machine of its own, in another one if the first was lost."""
    print(f"[{kernel.name}] {job.title}", flush=True)
    for _ in range(_TRIES):
        began = time.monotonic()
        try:
            ending = machine.run(
                kernel, job.command, timeout=timeout, environment=_ENVIRONMENT, append=append
            )
        except machine.Lost as exc:
            said = str(exc)
            print(f"[{kernel.name}] {said}", flush=True)
        else:
            took = time.monotonic() - began
            return Result(kernel.name, job, ending.status in job.fine, f"{_last_line(ending)} ({took:.0f} s)")
    return Result(kernel.name, job, False, said)


def _parser(known: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kernel", action="append", choices=known, help="may be given several times")
    parser.add_argument(
        "--timeout", type=float, default=1800.0, help="seconds for one machine (%(default).0f)"
    )
    parser.add_argument("--append", default="", metavar="WORDS", help="for the kernel's command line")
    parser.add_argument("-k", dest="only", metavar="NAME", help="as pytest's")
    parser.add_argument("paths", nargs="*", metavar="PATH")
    return parser


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _plain(command: list[str]) -> Job:
    text = command[0] if len(command) == 1 else shlex.join(command)
    return Job(text, text)


def _probe(kernel: Kernel) -> Job:
    return Job("probe", shlex.join([sys.executable, "-m", "tests.vm.probe", kernel.name]))


def _tests(paths: Iterable[str], only: str | None) -> list[Job]:
    """One for each file."""
    fine = frozenset({0, _NOTHING_CHOSEN} if only else {0})
    pytest = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:benchmark",
        "-vv",
        "--tb=short",
        *(["-k", only] if only else []),
    ]
    return [Job(file, shlex.join([*pytest, file]), fine) for path in paths for file in _files(path)]


def _files(path: str) -> list[str]:
    """Below a directory, or what pytest takes as it is."""
    if not (ROOT / path).is_dir():
        return [path]
    return [str(one.relative_to(ROOT)) for one in sorted((ROOT / path).rglob("test_*.py"))]


def _last_line(ending: Ending) -> str:
    lines = [line for line in ending.output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


if __name__ == "__main__":
    sys.exit(main())
