"""./run verify: whole suites in pieces of under an hour; with --short what continuous integration runs.

Every suite runs, also when one before it failed. The table at the end says what each took beside its minutes
of tests/budget.toml; exit status 0 only if all went well.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from tests.suites import budget
from tests.suites.budget import Budget, Form, Suite

_ENDS = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGINT})
_GRACE = 60.0
"""Seconds for a suite that is told to end to take its labs down."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status`` is the suite's exit status, None if it was ended or never began."""

    suite: Suite
    form: Form
    minutes: float
    status: int | None
    parts: Mapping[str, float] = field(default_factory=dict)


def main() -> int:
    plan = budget.read()
    options = _parser(plan).parse_args()
    if options.list:
        print(_listed(plan))
        return 0
    unknown = sorted(set(options.piece) - set(plan.pieces()))
    if unknown:
        print(f"verify: no piece {', '.join(unknown)}; there are {', '.join(plan.pieces())}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)
    outcomes = run(_chosen(plan, options), last=plan.last if options.short else None)
    print(table(plan, outcomes), flush=True)
    return 0 if all(outcome.status == 0 for outcome in outcomes) else 1


def run(chosen: Sequence[tuple[Suite, Form]], *, last: float | None) -> list[Outcome]:
    """``chosen`` one after another. What runs ``last`` minutes from now is ended, None: nothing is."""
    began = time.monotonic()
    outcomes = []
    for suite, form in chosen:
        print(f"[verify] {suite.name}: ./run {' '.join(form.words)}", flush=True)
        left = None if last is None else last * 60 - (time.monotonic() - began)
        outcomes.append(_outcome(suite, form, left))
    return outcomes


def table(plan: Budget, outcomes: Sequence[Outcome]) -> str:
    """One line per suite, below ``test`` one per part, and the sum."""
    lines = [f"{'suite':24} {'minutes':>7} {'of':>5}  result"]
    for outcome in outcomes:
        lines.append(_line(outcome.suite.name, outcome.minutes, outcome.form.minutes, _result(outcome)))
        lines += [
            _line(f"  {part.name}", outcome.parts[part.name], part.minutes, "")
            for part in plan.parts
            if part.name in outcome.parts
        ]
    total = sum(outcome.minutes for outcome in outcomes)
    return "\n".join([*lines, _line("all", total, sum(outcome.form.minutes for outcome in outcomes), "")])


def _line(name: str, minutes: float, of: float, result: str) -> str:
    over = "over its budget" if minutes > of else ""
    return f"{name:24} {minutes:7.1f} {of:5g}  {', '.join(filter(None, (result, over)))}".rstrip()


def _result(outcome: Outcome) -> str:
    if outcome.status is None:
        return "ENDED: no time left"
    return "ok" if outcome.status == 0 else f"FAILED ({outcome.status})"


def _outcome(suite: Suite, form: Form, left: float | None) -> Outcome:
    if left is not None and left <= 0:
        return Outcome(suite, form, 0, None)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="terway-verify-") as directory:
        times = Path(directory, "parts.json")
        status = _status(form, {**os.environ, budget.PART_TIMES: str(times)}, left)
        parts = json.loads(times.read_text()) if times.exists() else {}
    return Outcome(suite, form, (time.monotonic() - began) / 60, status, parts)


def _status(form: Form, environment: Mapping[str, str], left: float | None) -> int | None:
    """Of ``./run``, in a process group of its own, which does not outlive this one."""
    # A signal in the moment of the start would leave a suite that nobody knows: it is taken once it is known.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        with subprocess.Popen(
            [budget.ROOT / "run", *form.words],
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(signal.pthread_sigmask, signal.SIG_SETMASK, before),  # noqa: PLW1509  # this program has one thread
        ) as process:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                return process.wait(left)
            except subprocess.TimeoutExpired:
                return None
            finally:
                _end(process)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The suite may take its labs down; what is left of its process group then is killed."""
    with suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _chosen(plan: Budget, options: argparse.Namespace) -> list[tuple[Suite, Form]]:
    suites = [suite for suite in plan.suites if not options.piece or suite.piece in options.piece]
    if options.short:
        return [(suite, suite.short) for suite in suites if suite.short is not None]
    return [(suite, suite.long) for suite in suites]


def _listed(plan: Budget) -> str:
    lines = []
    for piece, suites in plan.pieces().items():
        lines.append(f"{piece}: {sum(suite.long.minutes for suite in suites):g} minutes")
        lines += [f"  {suite.name:20} ./run {' '.join(suite.long.words)}: {suite.about}" for suite in suites]
    return "\n".join(lines)


def _parser(plan: Budget) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "piece", nargs="*", metavar="PIECE", help=f"of {', '.join(plan.pieces())}; default: all"
    )
    parser.add_argument(
        "--short", action="store_true", help="the short forms, which together stay within minutes"
    )
    parser.add_argument(
        "--list", action="store_true", help="what there is, with its minutes, and nothing else"
    )
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("verify: interrupted", file=sys.stderr)
        sys.exit(130)
