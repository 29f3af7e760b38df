"""The programs built anew with some of their text replaced: another build, or another layout."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from datapath.fastpath.layout import PROGRAMS

_BPF = Path(__file__).resolve().parents[3] / "bpf"

Find = Callable[[str], Path]


def build(scratch: Path, *changes: tuple[str, str, str]) -> Find:
    """``changes`` are (file below bpf/, old text, new text). Returns what ``Options.find`` wants."""
    copy = scratch / "bpf"
    shutil.copytree(_BPF, copy, ignore=shutil.ignore_patterns(".output"))
    for name, old, new in changes:
        text = (copy / name).read_text()
        assert old in text, f"{name} has no {old!r} any more"
        (copy / name).write_text(text.replace(old, new))
    objects = [f".output/{name}.bpf.o" for name in PROGRAMS]
    subprocess.run(["make", "-s", "-C", str(copy), *objects], check=True, capture_output=True)
    return lambda name: copy / ".output" / f"{name}.bpf.o"


OTHER = (("lib/act.h", "skb->cb[WORD_TARGET] =", "skb->cb[3] = 1;\n\tskb->cb[WORD_TARGET] ="),)
"""The same behaviour, other instructions."""

LAYOUT_2 = (
    ("include/datapath.h", "DATAPATH_VERSION = 1", "DATAPATH_VERSION = 2"),
    ("include/datapath.h", "struct endpoint {\n", "struct endpoint {\n\t__u64 reserved;\n"),
    ("include/datapath.h", "sizeof(struct endpoint) == 32", "sizeof(struct endpoint) == 40"),
)
"""Longer rows of endpoints."""

LAYOUT_3 = (
    ("include/datapath.h", "DATAPATH_VERSION = 1", "DATAPATH_VERSION = 3"),
    ("include/datapath.h", "struct stack_flow {\n", "struct stack_flow {\n\t__u64 reserved;\n"),
)
"""Longer rows of flows, so that they cannot be shared."""

LAYOUT_4 = (
    ("include/datapath.h", "DATAPATH_VERSION = 1", "DATAPATH_VERSION = 4"),
    ("include/datapath.h", "struct stack_pairs {\n", "struct stack_pairs {\n\t__u64 reserved;\n"),
)
"""Other pairs, so that nobody knows of which addresses the flows are that are kept."""
