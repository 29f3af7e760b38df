"""``./run soak``: see ``tests.soak`` for what it does and docs/soak.md for how to read a failure."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
FAILURES = ROOT / ".cache" / "soak"
MINUTES = 10.0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="./run soak",
        description="A random life of two nodes in a lab: pods come and go, agents are killed, the cloud "
        "errs, disks fill, clocks jump. In each quiet moment every address has one owner, packets flow, "
        "nothing is left over and nothing grows. Exit status 0 if all of it held, else 1.",
        epilog="docs/soak.md says how to read a failure and how to make it smaller.",
    )
    made.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help=f"how long; {MINUTES:g} by default, without an end if steps are named",
    )
    made.add_argument(
        "--seed",
        type=int,
        metavar="S",
        help="which steps: the same ones for the same S; a new one by default",
    )
    made.add_argument("--steps", type=int, metavar="N", help="end after N steps, with a quiet moment")
    made.add_argument(
        "--replay", type=Path, metavar="FILE", help="the steps of a file that a failure has left"
    )
    made.add_argument("--name", default="", help="of the lab; soak-PID by default")
    made.add_argument("--verbose", action="store_true", help="print every step, not quiet moments alone")
    return made


def seconds(told: argparse.Namespace) -> float:
    """Named steps are all taken, however slow the machine is on which they are taken again."""
    if told.minutes is not None:
        return float(told.minutes) * 60
    return MINUTES * 60 if told.replay is None and told.steps is None else float("inf")


def main() -> int:
    told = parser().parse_args()
    from tests.soak import plan, step
    from tests.soak.run import Run

    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)
    seed = secrets.randbelow(1_000_000) if told.seed is None else told.seed
    run = Run(
        told.name or f"soak-{os.getpid()}",
        seed,
        seconds(told),
        FAILURES,
        steps=told.steps,
        planned=told.replay is None,
        verbose=told.verbose,
    )
    try:
        return run.go(plan.steps(seed) if told.replay is None else step.read(told.replay))
    except KeyboardInterrupt:
        print(f"interrupted after {len(run.taken)} steps, seed {seed}", file=sys.stderr)
        return 130
    except (OSError, ValueError) as exc:
        print(f"./run soak: {exc}", file=sys.stderr)
        return 1


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
