"""Builds of the fast path's programs as a node finds them, and which programs its devices run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from datapath.acceleration.layout import OBJECTS, PROGRAMS
from lab.nodes.node import LabNode
from tests.e2e.fastpath_rows import pins
from tests.netns.fastpath import builds

BUILDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "same": (),
    "other": builds.OTHER,
    "layout 6": builds.LAYOUT_6,
    "layout 7": builds.LAYOUT_7,
}
PINS = "/sys/fs/bpf/terway"


def built(scratch: Path) -> dict[str, Path]:
    """Each of BUILDS: a directory that holds the compiled objects, which nobody compiles anew."""
    return {
        name: builds.build(scratch / name.replace(" ", "-"), *changes)(PROGRAMS[0]).parent
        for name, changes in BUILDS.items()
    }


def given_to(node: LabNode, objects: Path) -> str:
    """The objects below the node's /var/lib: the path for ``-bpf-objects``."""
    inside = f"/var/lib/{objects.parents[1].name}"
    outside = node.directory.outside(inside)
    outside.mkdir(exist_ok=True)
    for name in OBJECTS:
        shutil.copy(objects / f"{name}.bpf.o", outside)
    return inside


def running(node: LabNode) -> set[tuple[str, str]]:
    """Name and tag of each program at a device of the node, as bpftool finds them."""
    ids = {one["id"] for one in _ask(node, "net")[0]["tc"]}
    ids |= {
        _ask(node, "link", "show", "pinned", f"{PINS}/{link}")["prog_id"]
        for link in pins(node)
        if "links/" in link
    }
    return {(one["name"], one["tag"]) for one in _ask(node, "prog") if one["id"] in ids}


def _ask(node: LabNode, *words: str) -> Any:
    return json.loads(node.exec(["bpftool", "-j", *words], check=True).stdout)


_SWAPS = """
import sys
from pathlib import Path
from typing import Any
from datapath.acceleration import open_fast_path
tags = set()
for turn in range(int(sys.argv[1])):
    with open_fast_path(Path(sys.argv[2]), objects=Path(sys.argv[3 + turn % 2])) as fast:
        tags.add(tuple(one.tag for one in fast.programs()))
print(len(tags))
"""


def swapped(node: LabNode, times: int, *objects: str) -> int:
    """Programs of two directories in turns; how many different sets of them there were."""
    return int(node.python(_SWAPS, str(times), PINS, *objects, timeout=300.0))
