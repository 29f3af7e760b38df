"""Every alteration there is, by name. Kinds of objects are asked for by a test: none may be without one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from perf.drift import files, guard, hooks, links, pod, replug, routing, rows, settings
from perf.drift.item import Item

_ALL = (
    item
    for part in (links, replug, routing, settings, guard, hooks, rows, files, pod)
    for item in part.items()
)
CATALOGUE: Mapping[str, Item] = {item.name: item for item in _ALL}


def chosen(patterns: Sequence[str], *, stack: str, bpf: str) -> list[Item]:
    """Those that a node of this stack, with eBPF or without, can have, and whose name fits a pattern.

    Without a pattern all of them. Raises ValueError for a pattern that no name fits.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in CATALOGUE):
            raise ValueError(f"no alteration is called {pattern!r}; --list names them")
    return [
        item
        for name, item in CATALOGUE.items()
        if (stack == "dual" or not item.dual)
        and (bpf != "off" or not item.bpf)
        and (not patterns or any(fnmatchcase(name, one) for one in patterns))
    ]


def sampled(items: Sequence[Item], seed: str, count: int) -> list[Item]:
    """``count`` of them that ``seed`` chooses, in the catalogue's order."""
    taken = set(random.Random(seed).sample([one.name for one in items], min(count, len(items))))
    return [one for one in items if one.name in taken]
