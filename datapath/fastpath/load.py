"""The programs over their pinned maps: loaded once, whoever attaches them.

    PIN_DIR/vN/MAP              the maps of layout N
    PIN_DIR/vN/prog_NAME        the programs, for whoever looks
    PIN_DIR/links/HOOK_IFINDEX  the links of ENIs, which outlive layouts

Programs of the layout that is there already share its maps. For another layout the maps are made anew and
filled from the old ones, field by field of the same name; ``stack_flows`` and the counts, which the programs
write themselves, are the same maps under both names if their rows did not change, so that nothing is missed
between filling and swapping.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from datapath.ebpf import libbpf
from datapath.ebpf.btf import Btf
from datapath.ebpf.libbpf import MapShape, Object
from datapath.ebpf.table import Rows, Table
from datapath.fastpath.layout import MAPS, PROGRAMS, Names, names_of

FILLED = ("endpoints", "pods", "enis", "stack_prefixes", "settings")
KEPT = ("stack_flows", "reason_counts", "endpoint_counts")


class Loaded:
    """Programs and maps of one layout. Closing leaves pins and attachments."""

    def __init__(self, pin_dir: Path, find: Callable[[str], Path], *, flows: int | None = None) -> None:
        """Load everything; nothing is attached. ``flows``: room for stack-sent flows, if the map is new.

        Raises KernelError if the kernel refuses, OSError if there is no bpf file system.
        """
        self.names: Names = names_of(find(PROGRAMS[0]))
        self.pin_dir = pin_dir
        self.directory = pin_dir / f"v{self.names.version}"
        self.older = tuple(one for one in _layouts(pin_dir) if one != self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            carry_kept(self.older, self.directory, find(PROGRAMS[0]))
            self._objects = {name: stack.enter_context(Object(find(name))) for name in PROGRAMS}
            for opened in self._objects.values():
                self._load(opened, flows)
            self._btf = Btf(self._objects[PROGRAMS[0]].btf())
            self._pin_programs()
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def program_fd(self, name: str) -> int:
        return self._objects[name].program_fd(name)

    def map_fd(self, name: str) -> int:
        return self._objects[PROGRAMS[0]].map_fd(name)

    def map_shape(self, name: str) -> MapShape:
        return self._objects[PROGRAMS[0]].map_shape(name)

    def table(self, name: str) -> Table:
        return Table(self.map_fd(name), self.map_shape(name), self._btf)

    def fill(self) -> None:
        """Rows of the older layouts into ours, if ours is new."""
        for old in self.older:
            for name in FILLED:
                with ExitStack() as stack:
                    found = open_table(old / name, stack)
                    if found is not None:
                        copy_rows(found, self.table(name))

    def prune(self) -> None:
        """Let go of the older layouts. Programs of theirs that are still attached keep their maps."""
        for old in self.older:
            shutil.rmtree(old, ignore_errors=True)
        self.older = ()

    def _load(self, opened: Object, flows: int | None) -> None:
        for name in opened.map_names():
            if name in MAPS:
                opened.pin_at(name, str(self.directory / name))
        if flows is not None and not (self.directory / "stack_flows").exists():
            opened.resize("stack_flows", flows)
        elif (self.directory / "stack_flows").exists():
            opened.resize("stack_flows", _entries(self.directory / "stack_flows"))
        opened.load()

    def _pin_programs(self) -> None:
        for name in PROGRAMS:
            path = self.directory / f"prog_{name}"
            path.unlink(missing_ok=True)
            libbpf.pin(self.program_fd(name), str(path))


def carry_kept(older: tuple[Path, ...], directory: Path, program: Path) -> None:
    """Give the old maps of what the programs remember a name in the new layout, where rows are the same."""
    with Object(program) as opened:
        btf = Btf(opened.btf())
        for old in older:
            for name in KEPT:
                target = directory / name
                with ExitStack() as stack:
                    found = open_table(old / name, stack)
                    shape = opened.map_shape(name)
                    alike = found is not None and (found.key, found.value) == (
                        btf.dtype(shape.key_type),
                        btf.dtype(shape.value_type),
                    )
                    if found is not None and alike and not target.exists():
                        libbpf.pin(found.fd, str(target))


def open_table(path: Path, stack: ExitStack) -> Table | None:
    """A pinned map, closed with ``stack``; None if nothing is pinned there."""
    if not path.exists():
        return None
    fd = libbpf.open_pinned(str(path))
    stack.callback(os.close, fd)
    return Table(fd, libbpf.map_shape_of(fd), Btf(libbpf.map_btf_of(fd)))


def copy_rows(old: Table, new: Table) -> int:
    """What ``new`` has not got, field by field of the same name; fields that ``old`` lacks are zero.

    Returns how many rows were copied.
    """
    copied = 0
    for raw in libbpf.map_keys(old.fd, old.shape.key_size):
        source = np.frombuffer(raw, old.key)
        key = _converted(source, new.keys(1))
        value = old.get(source)
        if value is None or _has_row(new, key):
            continue
        new.put(key, _converted(value, new.values(1)))
        copied += 1
    return copied


def _has_row(table: Table, key: Rows) -> bool:
    """A row of an array is always there; one that is all zero was never written."""
    found = table.get(key)
    return found is not None and any(found.tobytes())


def _converted(source: Rows, target: Rows) -> Rows:
    if target.dtype.names is None or source.dtype.names is None:
        target[:] = source
        return target
    for name in set(source.dtype.names) & set(target.dtype.names):
        target[name] = _converted(source[name], target[name])
    return target


def _layouts(pin_dir: Path) -> tuple[Path, ...]:
    if not pin_dir.is_dir():
        return ()
    return tuple(sorted(one for one in pin_dir.glob("v*") if one.name[1:].isdigit()))


def _entries(path: Path) -> int:
    fd = libbpf.open_pinned(str(path))
    try:
        return libbpf.map_shape_of(fd).max_entries
    finally:
        os.close(fd)
