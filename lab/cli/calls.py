"""``./run lab ecs calls``: how many there were, the last ones, and a record of requests and answers."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lab.cli.table import counted, table, utc
from lab.cli.words import Output, Words
from lab.client import Lab
from lab.commands import typed

_NOTES = """\
--record FILE keeps requests and answers of the OpenAPI and the metadata service from now on, one JSON object
a line, until --stop-record, the lab's end, or 64 MiB. Access keys, signatures, tokens and a role's
credentials are left out. FILE must not exist; it is made for its owner alone (mode 0600)."""


def declare(ecs: Words) -> None:
    calls = ecs.on_lab("calls", _calls, "Count API calls since the last reset.", "--recent", _NOTES)
    what = calls.add_mutually_exclusive_group()
    what.add_argument("--reset", action="store_true", help="start counting anew")
    what.add_argument("--recent", action="store_true", help="the last calls one by one")
    what.add_argument("--record", type=Path, metavar="FILE", help="keep requests and answers; see below")
    what.add_argument("--stop-record", action="store_true", help="end the record")


def _calls(lab: Lab, args: argparse.Namespace) -> Output:
    if args.record is not None:
        return _record(lab, args.record)
    if args.stop_record:
        calls, ended = lab.cloud.stop_record()
        text = (
            f"the record has {counted(calls, 'call')}"
            if not ended
            else f"the record ended by itself: {ended}"
        )
        return Output({"calls": calls, "ended": ended}, text)
    if args.recent:
        recent = lab.cloud.recent_calls()
        rows = ((utc(c["at"]), c["action"], c["code"] or "ok", c["caller"], c["request_id"]) for c in recent)
        return Output(recent, table(("TIME", "ACTION", "CODE", "CALLER", "REQUEST"), rows))
    calls_made = lab.cloud.calls()
    if args.reset:
        lab.cloud.reset_calls()
    return Output(calls_made, table(("ACTION", "CALLS"), sorted(calls_made.items())))


def _record(lab: Lab, path: Path) -> Output:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, 0o600)
    try:
        lab.cloud.start_record(file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    end = typed(lab.name, "ecs calls --stop-record")
    return Output({"file": str(path)}, f"calls are recorded into {path} until `{end}`")
