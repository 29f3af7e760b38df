"""``terway-lab``: a VPC with nodes on one machine, without an account. Exit status 0, or 1 and one line."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence

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
    args = parser().parse_args(argv)
    if os.geteuid() != 0:
        return _fail("the lab makes namespaces and loads BPF: run it as root")
    try:
        output: Output = args.run(args)
    except (LabError, ValueError, OSError, subprocess.SubprocessError) as exc:
        return _fail(" ".join(str(exc).split()))
    except KeyboardInterrupt:
        return _fail("interrupted")
    text = json.dumps(output.value) if args.json else output.text
    if text:
        print(text)
    return output.status


def _fail(text: str) -> int:
    print(f"terway-lab: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
