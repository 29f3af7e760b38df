"""The programs built anew with some of their text replaced: another build, or another layout."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from datapath.acceleration.layout import OBJECTS

_BPF = Path(__file__).resolve().parents[3] / "bpf"

VERSION = int(re.findall(r"DATAPATH_VERSION = (\d+),", (_BPF / "include/limits.h").read_text())[0])
"""Of this tree's layout. Its maps are pinned below v and the number."""
_VERSION = f"DATAPATH_VERSION = {VERSION},"

Find = Callable[[str], Path]


def build(scratch: Path, *changes: tuple[str, str, str]) -> Find:
    """``changes`` are (file below bpf/, old text, new text). Returns what ``Options.find`` wants."""
    copy = scratch / "bpf"
    shutil.copytree(_BPF, copy, ignore=shutil.ignore_patterns(".output"))
    for name, old, new in changes:
        text = (copy / name).read_text()
        assert old in text, f"{name} has no {old!r} any more"
        (copy / name).write_text(text.replace(old, new))
    objects = [f".output/{name}.bpf.o" for name in OBJECTS]
    subprocess.run(["make", "-s", "-C", str(copy), *objects], check=True, capture_output=True)
    return lambda name: copy / ".output" / f"{name}.bpf.o"


OTHER = (("lib/act.h", "skb->cb[WORD_TARGET] =", "skb->cb[3] = 1;\n\tskb->cb[WORD_TARGET] ="),)
"""The same behaviour, other instructions."""

LAYOUT_6 = (
    ("include/limits.h", _VERSION, "DATAPATH_VERSION = 6,"),
    ("include/pod_rows.h", "struct endpoint {\n", "struct endpoint {\n\t__u32 reserved;\n"),
    ("include/pod_rows.h", "sizeof(struct endpoint) == 40", "sizeof(struct endpoint) == 44"),
)
"""Longer rows of endpoints."""

LAYOUT_7 = (
    ("include/limits.h", _VERSION, "DATAPATH_VERSION = 7,"),
    ("include/flow_rows.h", "struct stack_flow {\n", "struct stack_flow {\n\t__u64 reserved;\n"),
    ("include/flow_rows.h", "sizeof(struct stack_flow) == 32", "sizeof(struct stack_flow) == 40"),
)
"""Longer rows of flows, so that they cannot be shared."""

LAYOUT_8 = (
    ("include/limits.h", _VERSION, "DATAPATH_VERSION = 8,"),
    ("include/limits.h", "PEERS_NOTED = 2048", "PEERS_NOTED = 1024"),
    ("lib/flow_table.h", ">> 53; /* 11 bits", ">> 54; /* 10 bits"),
    ("lib/flow_table.h", "1 << (64 - 53)", "1 << (64 - 54)"),
)
"""Notes by another hash, so that nobody knows which peers they are of."""
