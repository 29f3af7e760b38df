"""``./run lab``: a VPC with nodes on one machine, without an account.

Exit status 0; 1 and one line for what failed; 2 for an error of usage; that of the command for ``exec``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence

from datapath.errors import KernelError
from lab.cli import ecs, events, labs, nodes, pods
from lab.cli.failures import sentence
from lab.cli.placement import behind
from lab.cli.values import WrongWordError
from lab.cli.words import PROGRAM, Output, Words
from lab.messages import LabError
from lab.ownership import CLONE

_TEXT = (
    "A VPC of Alibaba Cloud on this machine: ECS instances are namespaces, ENIs are devices, and a fabric "
    "in eBPF delivers and drops packets by the cloud's rules. Nothing of the machine itself is changed. "
    "--name and --json may stand anywhere in the line; what follows -- is a command's own."
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog=PROGRAM, description=_TEXT, epilog=f"example: {PROGRAM} up --agents && {PROGRAM} status"
    )
    top.add_argument("--version", action="version", version=version())
    words = Words(top, PROGRAM)
    for part in (labs, nodes, pods, events, ecs):
        part.declare(words)
    return top


def version() -> str:
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    return f"{project['name']} {project['version']}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is without the program's name."""
    words, command = _split(sys.argv[1:] if argv is None else list(argv))
    args = parser().parse_args(behind(words))
    args.command = [*getattr(args, "command", ()), *command]
    if os.geteuid() != 0:
        return _fail("the lab makes namespaces and loads BPF: run it as root")
    try:
        output: Output = args.run(args)
    except WrongWordError as exc:
        return _fail(sentence(exc), 2)
    except (LabError, KernelError, ValueError, OSError, subprocess.SubprocessError) as exc:
        return _fail(sentence(exc))
    except KeyboardInterrupt:
        _fail("interrupted")
        return 128 + signal.SIGINT
    text = json.dumps(output.value) if args.json else output.text
    if text:
        print(text)
    return output.status


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Our own words, and those after the first "--", which are a command's."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _fail(text: str, status: int = 1) -> int:
    print(f"lab: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
