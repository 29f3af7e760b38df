"""python -m tests.vm.run [--kernel NAME]... [PATH... | -- COMMAND...]

Boots kernels of tests/kernels.toml, all of them unless --kernel says which, and runs in each the tests of
PATH, or those that the list names, every file in a machine of its own; or COMMAND. A kernel that is not there
is fetched first (60 to 110 MB). Exit status 0 only if everything ended well on every kernel. A machine that
was lost, which says nothing about a test, is tried once more.

Needs root and Debian's qemu-system-x86, qemu-system-common and busybox-static; zstd spares 6.12 two seconds.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests import pace
from tests.vm import archive, kernels, machine
from tests.vm.kernels import ROOT, Kernel

_TRIES = 2
_PYTEST = (sys.executable, "-m", "pytest", "-p", "no:benchmark", "--tb=short")
_SLOWER = "10"
_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT), pace.VARIABLE: _SLOWER}


@dataclass(frozen=True, slots=True)
class Result:
    """Of one command on one kernel. ``summary``: what a person wants to read of its output."""

    kernel: str
    command: str
    ok: bool
    summary: str


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = kernels.listed()
    parser.add_argument("--kernel", action="append", choices=known, help="may be given several times")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one machine (%(default)s)")
    parser.add_argument("-k", dest="only", metavar="NAME", help="as pytest's")
    parser.add_argument("paths", nargs="*", metavar="PATH")
    ours, command = _split(sys.argv[1:])
    options = parser.parse_args(ours)
    chosen = [known[name] for name in options.kernel or known]
    commands = [_shell(command)] if command else _tests(options.paths or kernels.paths(), options.only)
    results = [
        result for kernel in chosen for result in _run_all(kernel, commands, bool(command), options.timeout)
    ]
    for result in results:
        print(f"{result.kernel:6} {'ok' if result.ok else 'FAILED':7} {result.summary}")
    return 0 if all(result.ok for result in results) else 1


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _shell(command: list[str]) -> str:
    """One word is text for the shell."""
    return command[0] if len(command) == 1 else shlex.join(command)


def _tests(paths: list[str] | tuple[str, ...], only: str | None) -> list[str]:
    """A command for each file."""
    files: list[str] = []
    for path in paths:
        name = path.partition("::")[0]
        found = sorted((ROOT / name).rglob("test_*.py")) if (ROOT / name).is_dir() else [Path(path)]
        files += [str(one.relative_to(ROOT) if one.is_absolute() else one) for one in found]
    more = ["-k", only] if only else []
    return [shlex.join([*_PYTEST, file, *more]) for file in files]


def _run_all(kernel: Kernel, commands: list[str], plain: bool, timeout: float) -> list[Result]:
    archive.fetched(kernel)
    results = []
    for command in commands:
        print(f"[{kernel.name}] {command}", flush=True)
        results.append(_run(kernel, command, plain, timeout))
    return results


def _run(kernel: Kernel, command: str, plain: bool, timeout: float) -> Result:
    said = ""
    for _ in range(_TRIES):
        began = time.monotonic()
        try:
            ending = machine.run(kernel, command, timeout=timeout, environment=_ENVIRONMENT)
        except machine.Lost as exc:
            said = f"{command}: {exc}"
            print(f"[{kernel.name}] {said}", flush=True)
            continue
        took = time.monotonic() - began
        what = command if plain else f"{_file(command)}: {_last_line(ending.output)}"
        # pytest's 5: -k left nothing of this file.
        return Result(
            kernel.name, command, ending.status in ((0,) if plain else (0, 5)), f"{what} ({took:.0f} s)"
        )
    return Result(kernel.name, command, False, said)


def _file(command: str) -> str:
    found = re.search(r"\S*test_\S+\.py\S*", command)
    return found[0] if found else command


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


if __name__ == "__main__":
    sys.exit(main())
