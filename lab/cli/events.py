"""``events``: what the agents told Kubernetes, of the lab's API server, small or real."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from lab.cli.table import table, utc
from lab.cli.words import Output, Words
from lab.client import Lab
from lab.kube_client import KubeError

Event = dict[str, Any]
_HEADER = ("TIME", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE")
_SILENCE = 3600.0
_GONE = 410


def declare(words: Words) -> None:
    events = words.on_lab(
        "events", _events, "Show the events of pods and nodes, the oldest first.", "-n default --follow"
    )
    events.add_argument("-n", "--namespace", metavar="NAMESPACE", help="of this one only (default: all)")
    events.add_argument("--object", metavar="NAME", help="about this pod or node only")
    events.add_argument(
        "-f", "--follow", action="store_true", help="go on until Ctrl-C; with --json one event a line"
    )


def _events(lab: Lab, args: argparse.Namespace) -> Output:
    answer = lab.kubernetes.request("GET", _path(args))
    events = sorted(filter(_is_about(args), answer["items"]), key=_time)
    if not args.follow:
        rows = [_row(event) for event in events]
        return Output(events, table(_HEADER, rows) if rows else "no events")
    # SIGINT too: shells start their background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        for event in events:
            _show(event, args)
        for event in filter(_is_about(args), _later(lab, args, answer["metadata"]["resourceVersion"])):
            _show(event, args)
    except KeyboardInterrupt:
        pass
    return Output()


def _later(lab: Lab, args: argparse.Namespace, revision: str) -> Iterator[Event]:
    """Events that come or are counted again after ``revision``; a watch that ends is begun anew."""
    while True:
        query = f"?watch=1&allowWatchBookmarks=true&resourceVersion={revision}"
        for change in lab.kubernetes.watch(_path(args) + query, silence=_SILENCE):
            event = change["object"]
            if change["type"] == "ERROR":
                raise KubeError(f"the watch of events ended: {event.get('message')}", _GONE)
            revision = event["metadata"]["resourceVersion"]
            if change["type"] in ("ADDED", "MODIFIED"):
                yield event


def _path(args: argparse.Namespace) -> str:
    within = f"/namespaces/{quote(args.namespace, safe='')}" if args.namespace else ""
    return f"/api/v1{within}/events"


def _is_about(args: argparse.Namespace) -> Any:
    wanted = (args.object or "").rpartition("/")[2]
    return lambda event: not wanted or event["involvedObject"].get("name") == wanted


def _show(event: Event, args: argparse.Namespace) -> None:
    text = json.dumps(event) if args.json else "  ".join(map(str, _row(event)))
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _row(event: Event) -> tuple[object, ...]:
    about = event["involvedObject"]
    where = f"{about['namespace']}/" if about.get("namespace") and about.get("kind") != "Node" else ""
    return (
        utc(_time(event)),
        event.get("type", ""),
        event.get("reason", ""),
        f"{about.get('kind', '').lower()} {where}{about.get('name', '')}",
        (event.get("series") or {}).get("count") or event.get("count") or 1,
        " ".join(str(event.get("message") or event.get("note") or "").split()),
    )


def _time(event: Event) -> float:
    """When it was seen last, in seconds since the epoch; events have had three fields for that."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    text = next(filter(None, times), None) or event["metadata"].get("creationTimestamp")
    return datetime.fromisoformat(text).astimezone(UTC).timestamp() if text else 0.0
