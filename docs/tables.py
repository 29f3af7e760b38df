"""The fast path's hooks, maps and reasons as Markdown tables, from what the programs are compiled of.

Names, sizes and numbers come from the objects and their BTF, sentences from comments of the headers:

    bpf/include/reasons.h      hooks and reasons
    bpf/include/*_row.h, *_rows.h  what a row of each map is
    bpf/lib/tables.h           kinds of maps, and the C types of their rows
    datapath/acceleration          which programs there are, and which maps the agent fills

All of it needs built objects; without them the errors are ObjectMissing and KernelError. A header that says
less than a table shows raises ``Unsaid``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datapath.acceleration.attach import BLOCKS
from datapath.acceleration.layout import MAPS, PROGRAMS
from datapath.acceleration.load import FILLED
from datapath.acceleration.reasons import header, meanings, reasons
from datapath.ebpf import objects
from datapath.ebpf.libbpf import MapShape, Object

_DEVICES = {
    "host veth": f"filter in a tc block that all veths share ({BLOCKS.ingress} in, {BLOCKS.egress} out)",
    "ENI": "tcx link, pinned; before Linux 6.6 a clsact filter",
}
"""How programs get onto the devices that the comments of ``enum hook`` name."""

_KINDS = {"lru": "LRU", "lpm": "LPM", "percpu": "per-CPU", "ringbuf": "ring buffer"}

_MAP = re.compile(r"struct \{(?P<body>[^}]*)\} (?P<name>\w+) SEC\(\"\.maps\"\);")
_KIND = re.compile(r"__uint\(type, BPF_MAP_TYPE_(\w+)\)")
_TYPE = re.compile(r"__type\((key|value), ([\w ]+)\)")
_COMMENT = r"/\*(?P<text>(?:(?!\*/).)*`{name}`(?:(?!\*/).)*)\*/\s*struct\b"
_OPENING = re.compile(r"^(?:Key and value|Value) of `\w+`[,:] ")


class Unsaid(Exception):
    """A header lacks what a table is made of; the message says where it is to be written."""


@dataclass(frozen=True, slots=True)
class MapText:
    """One map. ``kind`` is the kernel's word, such as ``LRU_HASH``; types are "" where the map has none."""

    name: str
    kind: str
    key: str
    value: str
    row: str
    shape: MapShape


def hooks() -> str:
    """A row per program: its hook is the one of the same name."""
    where = {one.name: _phrase(one.text) for one in meanings(header().read_text(), "hook", "hook_")}
    rows = [(f"`{name}`", where[name], _how(where[name])) for name in PROGRAMS]
    return _table(("program", "where", "how it is attached"), rows)


def maps() -> str:
    rows = []
    for one in _map_texts():
        writer = "agent" if one.name in FILLED else "programs"
        shape = one.shape
        key, value = _typed(one.key, shape.key_size), _typed(one.value, shape.value_size)
        rows.append((f"`{one.name}`", _kind(one), key, value, _room(one), writer, one.row))
    return _table(("map", "type", "key", "value", "room", "written by", "what a row is"), rows)


def reason_rows() -> str:
    rows = [(str(one.number), f"`{one.name}`", one.kind.value, one.text) for one in reasons()]
    return _table(("number", "reason", "class", "meaning"), rows)


def map_texts(tables_source: str, rows_source: str, shapes: Iterable[MapShape]) -> tuple[MapText, ...]:
    """Maps in the order of ``shapes``, from the texts of tables.h and the headers of rows. Raises Unsaid."""
    found = {item["name"]: item["body"] for item in _MAP.finditer(tables_source)}
    return tuple(_map_text(shape, found.get(shape.name, ""), rows_source) for shape in shapes)


def _map_texts() -> tuple[MapText, ...]:
    include = header()
    with Object(objects.path(PROGRAMS[0])) as opened:
        shapes = [opened.map_shape(name) for name in MAPS]
    tables: Path = include.parents[1] / "lib" / "tables.h"
    rows = "".join(one.read_text() for one in sorted(include.parent.glob("*_row*.h")))
    return map_texts(tables.read_text(), rows, shapes)


def _map_text(shape: MapShape, body: str, rows_source: str) -> MapText:
    kind = _KIND.search(body)
    if kind is None:
        raise Unsaid(f"bpf/lib/tables.h defines no map {shape.name} with a type")
    comment = re.search(_COMMENT.format(name=re.escape(shape.name)), rows_source, re.DOTALL)
    if comment is None:
        wanted = f"a comment with `{shape.name}` right above its struct"
        raise Unsaid(
            f"no header of rows in bpf/include says what a row of {shape.name} is: that takes {wanted}"
        )
    types = dict(_TYPE.findall(body))
    row = _sentence(comment["text"])
    return MapText(shape.name, kind[1], types.get("key", ""), types.get("value", ""), row, shape)


def _how(where: str) -> str:
    found = [f"{device}: {how}" for device, how in _DEVICES.items() if device in where]
    if not found:
        raise Unsaid(f"enum hook of bpf/include/reasons.h names none of {', '.join(_DEVICES)} in {where!r}")
    return "; ".join(found)


def _kind(one: MapText) -> str:
    return " ".join(_KINDS.get(word, word) for word in one.kind.lower().split("_"))


def _typed(name: str, size: int) -> str:
    return f"`{name}`, {size} bytes" if name else "none"


def _room(one: MapText) -> str:
    entries = one.shape.max_entries
    if one.kind == "RINGBUF":
        return f"{entries // 1024} KiB"
    return f"{entries} {'row' if entries == 1 else 'rows'}"


def _phrase(sentence: str) -> str:
    return f"{sentence[:1].lower()}{sentence[1:].rstrip('.')}"


def _sentence(comment: str) -> str:
    words = _OPENING.sub("", re.sub(r"\s*\n\s*\*?\s*", " ", comment).strip())
    return f"{words[0].upper()}{words[1:]}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
