"""``terway-cli fastpath`` and ``terway-cli bpf``: what the fast path is, holds and has counted."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from control.cli.client import Daemon, Unreachable
from control.cli.table import Cell, table
from control.cli.words import Command, Words

PINS = "/sys/fs/bpf/terway"
"""Where the maps are by default, also while no daemon runs."""
_NAMED_DEVICES = 4
_LISTED = 8
"""The longest list that is drawn item by item."""

Row = Mapping[str, Any]
Draw = Callable[[list[Row]], str]


def add_words(words: Words) -> None:
    fastpath = words.add("fastpath", _fastpath, "Show the fast path, or switch it on or off.", "fastpath off")
    fastpath.add_argument("switch", nargs="?", choices=("status", "on", "off"), default="status")
    group = words.group("bpf", "What the kernel holds of the fast path.", "bpf map endpoints")
    group.add("maps", _listed("maps", draw_maps), "The maps: kind, size, rows, pin.", "maps")
    one = group.add("map", _map, "All rows of a map, as bpftool map dump has them.", "map flows")
    one.add_argument("name", help="a name that `bpf maps` lists")
    group.add("progs", _listed("progs", draw_programs), "The programs, and where they are attached.", "progs")
    text = "Packets by hook and reason, and what each reason means."
    group.add("counters", _listed("counters", draw_counters), text, "counters")
    text = "Pods of this node, and their packets on the fast path and by the stack."
    group.add("endpoints", _listed("endpoints", draw_endpoints), text, "endpoints")


def _fastpath(daemon: Daemon, args: argparse.Namespace) -> tuple[Any, str]:
    if args.switch == "status":
        answer = daemon.get("fastpath")
    else:
        answer = daemon.call("POST", "fastpath", args.switch)
    return answer, draw_fastpath(answer)


def _listed(name: str, draw: Draw) -> Command:
    def run(daemon: Daemon, _args: argparse.Namespace) -> tuple[Any, str]:
        rows = _ask(daemon, name)
        return rows, draw(rows)

    return run


def _map(daemon: Daemon, args: argparse.Namespace) -> tuple[Any, str]:
    rows = _ask(daemon, "map", args.name)
    return rows, draw_rows(rows)


def _ask(daemon: Daemon, *segments: str) -> list[Row]:
    try:
        rows: list[Row] = daemon.get("bpf", *segments)
    except Unreachable as exc:
        look = f"`ls {PINS}/v*` and `bpftool map dump pinned {PINS}/v*/endpoints`"
        raise Unreachable(f"{exc} What the kernel holds can be seen without it: {look}") from exc
    return rows


def draw_fastpath(answer: Row) -> str:
    lines = [f"fast path: {answer['state']} (asked: {answer['asked']})", *_reasons(answer)]
    if answer.get("conntrack", "asked") != "asked":
        lines.append(
            f"  flows of the stack are recorded, as conntrack cannot be asked: {answer['conntrack']}"
        )
    lines += [f"  {name} is {state}" for name, state in answer.get("sets", {}).items() if state != "on"]
    lines += [f"  somebody else's: {found}" for found in answer.get("foreign", ())]
    lines += [f"  not as it should be: {name}" for name in answer.get("not_mended", ())]
    return "\n".join(lines)


def _reasons(answer: Row) -> list[str]:
    return [f"  because {sentence}" for sentence in answer["because"]]


def draw_maps(rows: list[Row]) -> str:
    heads = ("NAME", "TYPE", "KEY", "VALUE", "ROWS", "MAX", "KIB", "PIN")
    return table(
        heads,
        [
            (
                row["name"],
                row["type"],
                row["key_bytes"],
                row["value_bytes"],
                "" if row["entries"] is None else row["entries"],
                row["max_entries"],
                row["memory_bytes"] // 1024,
                row["pin"],
            )
            for row in rows
        ],
    )


def draw_programs(rows: list[Row]) -> str:
    heads = ("NAME", "ID", "TAG", "LOADED", "VERIFIED", "BYTES", "RUNS", "NS", "ATTACHED")
    drawn: list[tuple[Cell, ...]] = []
    for row in rows:
        each = round(row["run_ns"] / row["runs"]) if row["runs"] else ""
        loaded = datetime.fromtimestamp(row["loaded"]).strftime("%Y-%m-%d %H:%M:%S")
        size = row["verified_instructions"], row["jited_bytes"]
        drawn.append(
            (row["name"], row["id"], row["tag"], loaded, *size, row["runs"], each, _places(row["attached"]))
        )
    text = table(heads, drawn)
    if any(row["runs"] is None for row in rows):
        text += (
            "\nruns are not counted: sysctl kernel.bpf_stats_enabled=1 would, for some nanoseconds a packet"
        )
    return text


def _places(attached: Iterable[Row]) -> str:
    """``ingress of eth1, eth2 (tcx); ingress of 30 devices (block): cali1, ...``."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for place in attached:
        name = place["device"] or f"device {place['ifindex']}"
        grouped.setdefault((place["side"], place["how"]), []).append(name)
    return "; ".join(f"{side} of {_some(names)} ({how})" for (side, how), names in grouped.items())


def _some(names: Sequence[str]) -> str:
    if len(names) <= _NAMED_DEVICES:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED_DEVICES])} and {len(names) - _NAMED_DEVICES} more"


def draw_counters(rows: list[Row]) -> str:
    if not rows:
        return "no packets yet"
    heads = ("HOOK", "REASON", "PACKETS", "MEANING")
    return table(heads, [(row["hook"], row["reason"], row["packets"], row["text"]) for row in rows])


def draw_endpoints(rows: list[Row]) -> str:
    if not rows:
        return "no pod has a row in the fast path's map"
    heads = (
        "POD",
        "PATH",
        "OUT PKTS",
        "BYTES",
        "IN PKTS",
        "BYTES",
        "STACK",
        "DROPPED",
        "REFUSED",
        "ADDRESSES",
    )
    return table(
        heads,
        [
            (
                row["pod"] or f"device {row['ifindex']}",
                "fast" if row["fast"] else f"stack ({row['why']})",
                *(row[f"fast_{way}_{unit}"] for way in ("out", "in") for unit in ("packets", "bytes")),
                row["stack_packets"],
                row["dropped_packets"],
                row.get("flows_refused", 0),
                " ".join(row["addresses"]),
            )
            for row in rows
        ],
    )


def draw_rows(rows: list[Row]) -> str:
    """A column for each field. Rows of nothing but zeros, as arrays have them, are counted and left out."""
    shown = [row for row in rows if not _is_zero(row["value"])]
    lines = [_fields(shown)] if shown else []
    if not rows:
        lines.append("no rows")
    elif len(shown) < len(rows):
        lines.append(f"{len(rows) - len(shown)} rows that are all zero are not shown; --json has them")
    return "\n".join(lines)


def _fields(rows: list[Row]) -> str:
    flat = [{**_named("KEY", row["key"]), **_named("VALUE", row["value"])} for row in rows]
    return table(tuple(flat[0]), [tuple(map(_cell, row.values())) for row in flat])


def _named(name: str, value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {name: value}


def _cell(value: Any) -> Cell:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items() if count)
    if isinstance(value, list) and len(value) > _LISTED:
        return f"{sum(map(bool, value))} of {len(value)} are not zero"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, str | int | float) else str(value)


def _is_zero(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_zero, value.values()))
    return not any(value) if isinstance(value, list) else not value
