"""``terway-lab``: a VPC with nodes on one machine, without an account. Exit status 0, or 1 and one line."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from datapath.errors import KernelError
from lab.cli import ecs, labs, nodes, pods
from lab.cli.words import Output, Words
from lab.messages import LabError

_TEXT = (
    "A VPC of Alibaba Cloud on this machine: ECS instances are namespaces, ENIs are devices, and a fabric "
    "in eBPF delivers and drops packets by the cloud's rules. Nothing of the machine itself is changed."
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="terway-lab", description=_TEXT, epilog="example: terway-lab up && terway-lab status"
    )
    words = Words(top, "terway-lab")
    for part in (labs, nodes, pods, ecs):
        part.declare(words)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is without the program's name."""
    words, command = _split(sys.argv[1:] if argv is None else list(argv))
    args = parser().parse_args(words)
    args.command = [*getattr(args, "command", ()), *command]
    if os.geteuid() != 0:
        return _fail("the lab makes namespaces and loads BPF: run it as root")
    try:
        output: Output = args.run(args)
    except (LabError, KernelError, ValueError, OSError, subprocess.SubprocessError) as exc:
        return _fail(" ".join(str(exc).split()))
    except KeyboardInterrupt:
        return _fail("interrupted")
    text = json.dumps(output.value) if args.json else output.text
    if text:
        print(text)
    return output.status


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Our own words, and those after the first "--", which are a command's."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _fail(text: str) -> int:
    print(f"terway-lab: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
