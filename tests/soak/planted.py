"""Faults that somebody could make, as patches, and whether a run of the soak finds each in ten minutes.

``python -m tests.soak.planted [NAME...]`` applies each to a copy of this tree, runs the soak there, and
prints after how many seconds, at which step and by which invariant it was found. Exit status 1 if one was
not. A patch begins with what is wrong and with a line ``Found by:`` and words of an invariant; a run that
fails for another reason has not found it. Beside each stand the few steps that lead to it (``--shortest``):
they say whether an invariant holds the fault, and a seed says whether a life comes by it.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).resolve().parent / "planted"
KEPT = ROOT / ".cache" / "soak" / "planted"
"""What the last run of each said, its steps and the agents' logs."""
MINUTES = 10.0

_FAILED = re.compile(r"FAILED at step (\d+), (\d+) s")


@dataclass(frozen=True, slots=True)
class Planted:
    """``found_by``: words of which one must be in what the run says does not hold."""

    name: str
    why: str
    found_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``told`` is the first thing that did not hold, "" if everything held."""

    found: bool
    seed: int
    step: int = 0
    seconds: int = 0
    told: str = ""


def names() -> list[str]:
    return sorted(path.stem for path in PATCHES.glob("*.patch"))


def read(name: str) -> Planted:
    head = (PATCHES / f"{name}.patch").read_text().partition("\n--- ")[0]
    why, _, found_by = head.partition("Found by:")
    return Planted(name, " ".join(why.split()), tuple(word.strip() for word in found_by.split(";")))


@contextmanager
def planted(name: str) -> Iterator[Path]:
    """A copy of the tree with what is built in it, the patch applied. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix=f"soak-{name}-") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(
            ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(".git", ".cache", "__pycache__")
        )
        apply(name, tree)
        yield tree


def apply(name: str, tree: Path, *options: str) -> None:
    """git applies it as well where there is no repository. Raises CalledProcessError."""
    subprocess.run(
        ["git", "apply", *options, str(PATCHES / f"{name}.patch")],
        cwd=tree,
        env={"GIT_CEILING_DIRECTORIES": str(tree.parent), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )


def run(name: str, *, seed: int, minutes: float = MINUTES, shortest: bool = False) -> Outcome:
    """One run of the soak in a tree with the fault."""
    with planted(name) as tree:
        steps = ["--replay", str(PATCHES / f"{name}.jsonl")] if shortest else ["--minutes", str(minutes)]
        command = [sys.executable, "-m", "tests.soak", "--seed", str(seed), *steps]
        done = subprocess.run(
            command, cwd=tree, env=_environment(tree), capture_output=True, text=True, check=False
        )
        left, kept = tree / ".cache" / "soak", KEPT / name
        left.mkdir(parents=True, exist_ok=True)
        (left / "output").write_text(done.stdout + done.stderr)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(left, kept)
    return outcome(read(name), seed, done.stdout)


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def outcome(fault: Planted, seed: int, said: str) -> Outcome:
    """What a run's output says of the fault."""
    failed = _FAILED.search(said)
    told = said.partition("What does not hold:\n")[2].partition("Steps and the agents'")[0].strip()
    if failed is None:
        return Outcome(False, seed, told=said.strip().splitlines()[-1] if said.strip() else "")
    found = any(words in told for words in fault.found_by)
    return Outcome(found, seed, int(failed[1]), int(failed[2]), told)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.planted", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; all by default")
    parser.add_argument("--seed", type=int, metavar="S", help="of every run; new ones by default")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N")
    parser.add_argument("--shortest", action="store_true", help="the few steps that lead to it, not a seed's")
    told, missed = parser.parse_args(), 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in told.names or names():
        seed = secrets.randbelow(1_000_000) if told.seed is None else told.seed
        came = run(name, seed=seed, minutes=told.minutes, shortest=told.shortest)
        missed += not came.found
        verdict = f"found after {came.seconds} s, at step {came.step}" if came.found else "NOT FOUND"
        first = came.told if not came.found else came.told.splitlines()[0].strip()
        print(f"{name}: {verdict}, seed {seed}\n  {first}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("planted: interrupted", file=sys.stderr)
        sys.exit(130)
