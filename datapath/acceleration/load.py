"""The programs over their pinned maps: loaded once, whoever attaches them.

    PIN_DIR/vN/MAP              the maps of layout N
    PIN_DIR/vN/prog_NAME        the programs, for whoever looks; the last one says that the layout is whole
    PIN_DIR/links/HOOK_IFINDEX  the links of ENIs, which outlive layouts

Programs of the layout that is there already share its maps. For another layout the maps are made anew and
filled from the old ones, field by field of the same name; the flows of the stack and the counts, which the
programs write themselves, are the same maps under both names if their rows did not change, so that nothing is
missed between filling and swapping. Flows of other rows are translated by ``inherit``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datapath.acceleration import conntrack, pins, rekey
from datapath.acceleration.errors import Unavailable
from datapath.acceleration.feature_sets import FeatureSet, SetState
from datapath.acceleration.layout import CONNTRACK, FAST_PATH, MAPS, PROGRAMS, SETS, Names, names_of
from datapath.acceleration.needs import lacking
from datapath.ebpf import libbpf, objects
from datapath.ebpf.btf import Btf
from datapath.ebpf.libbpf import MapShape, Object
from datapath.ebpf.objects import ObjectMissing
from datapath.ebpf.table import Rows, Table
from datapath.errors import KernelError

FILLED = ("uplinks", "endpoints", "pods", "stack_prefixes", "settings")
WHOLE = "prog_stack_egress"
"""The pin that is made last, by which each release finds another's layout whole: the last program of layouts
1 and 2. It holds ``eni_egress`` now."""
FLOWS = ("flows", "flow_owners", "flow_counts", "flow_kept")
"""What belongs together: kept all or none."""
KEPT = (*FLOWS, "hook_counts", "endpoint_counts")


@dataclass(frozen=True, slots=True)
class Options:
    """How the fast path is laid over a node; what is given here may differ from one process to the next."""

    find: Callable[[str], Path] = objects.path
    """Path of a compiled object, by its name."""
    tcx: bool = True
    """tcx links for ENIs, if the kernel has them."""
    flows: int | None = None
    """Room for stack-sent flows, for a map that is new; None: as the program says."""
    conntrack: bool = True
    """Programs that ask conntrack, if the kernel takes them."""
    sets: tuple[FeatureSet, ...] = SETS
    """What is loaded; ``fast_path`` is among them."""


class Loaded:
    """Programs and maps of one layout. Closing leaves pins and attachments."""

    def __init__(self, pin_dir: Path, options: Options) -> None:
        """Load everything; nothing is attached, nothing that was there is changed.

        Raises Unavailable if the kernel lacks what programs need, KernelError if it refuses for another
        reason, OSError if there is no bpf file system.
        """
        self.names: Names = names_of(options.find(PROGRAMS[0]))
        self.pin_dir, self.options = pin_dir, options
        self.directory = pin_dir / f"v{self.names.version}"
        self.older = tuple(one for one in layouts(pin_dir) if one != self.directory)
        self.fresh = not is_complete(self.directory) or self.directory != _in_use(pin_dir)
        with ExitStack() as stack:
            if self.fresh:
                shutil.rmtree(self.directory, ignore_errors=True)
                stack.callback(self._forget_unless_complete)
            self.directory.mkdir(parents=True, exist_ok=True)
            self.kept = carry_kept(self.sources(), self.directory, options.find(PROGRAMS[0]))
            self._states: dict[str, SetState] = {}
            self._objects = self._load_fast_path(stack)
            self._added = self._load_added(stack)
            self._btf = Btf(self._objects[PROGRAMS[0]].btf())
            self._stack = stack.pop_all()

    def close(self) -> None:
        """A layout that was not committed goes with it."""
        self._stack.close()

    @property
    def states(self) -> tuple[SetState, ...]:
        """Of each set, in the order of ``Options.sets``."""
        return tuple(self._states[one.name] for one in self.options.sets)

    @property
    def unasked(self) -> str:
        """Why no program asks conntrack, "" if they do."""
        return self._states[CONNTRACK.name].because

    def program_fd(self, name: str) -> int:
        return (self._objects | self._added)[name].program_fd(name)

    def map_fd(self, name: str) -> int:
        return self._objects[PROGRAMS[0]].map_fd(name)

    def map_pins(self) -> dict[Path, int]:
        """Descriptors by path, of every set that is on."""
        found = {self.directory / name: self.map_fd(name) for name in MAPS}
        for one in self._extra():
            holder = next(iter(one.programs))
            if self._states[one.name].on:
                found |= {self.directory / name: self._added[holder].map_fd(name) for name in one.maps}
        return found

    def map_shape(self, name: str) -> MapShape:
        entries = self._objects[PROGRAMS[0]].map_shape(name).max_entries
        return replace(self._shapes[name], max_entries=entries)

    def table(self, name: str) -> Table:
        return Table(self.map_fd(name), self.map_shape(name), self._btf)

    def fill(self) -> None:
        """Rows of an older layout into ours, if ours is new."""
        for old in self.sources():
            with ExitStack() as stack:
                devices = rekey.uplinks(open_table(old / "enis", stack), self.table("uplinks"))
                for name in FILLED:
                    found = open_table(old / name, stack)
                    if found is not None:
                        copy_rows(found, self.table(name), partial(rekey.name_uplink, devices))

    @property
    def forgetful(self) -> bool:
        """The flows of an older layout cannot be shared: see ``quiet`` and ``inherit``."""
        return bool(self.sources()) and "flows" not in self.kept

    def quiet(self) -> None:
        """Leave everything to the stack until programs of our layout are in place."""
        for old in self.sources():
            with ExitStack() as stack:
                settings = open_table(old / "settings", stack)
                if settings is not None:
                    key = settings.keys(1)
                    settings.put(key, settings.values(1))

    def commit(self) -> None:
        """Our programs are in place: from now on this layout is the one that the next process finds.

        A name that was there is never absent: without the last one a layout in use passes for half-made.
        """
        for path, fd in self.program_pins().items():
            pins.put(fd, path)
        for old in self.older:
            shutil.rmtree(old, ignore_errors=True)
        self.older = ()

    def program_pins(self) -> dict[Path, int]:
        """Descriptors by path, the one that says that the layout is whole at the end."""
        names = {f"prog_{name}": name for name in (*self._added, *PROGRAMS)} | {WHOLE: PROGRAMS[-1]}
        return {self.directory / pin: self.program_fd(name) for pin, name in names.items()}

    def remove(self) -> None:
        """Unpin everything."""
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.pin_dir / "links", ignore_errors=True)

    def _forget_unless_complete(self) -> None:
        if not is_complete(self.directory):
            shutil.rmtree(self.directory, ignore_errors=True)

    def sources(self) -> tuple[Path, ...]:
        """The layout that was in use, if ours is new: at most one. Others are what a crash left."""
        found = _in_use(self.pin_dir) if self.fresh else None
        return () if found is None else (found,)

    def _load_fast_path(self, stack: ExitStack) -> dict[str, Object]:
        """With as many of the sets that stand in for its programs as the kernel takes, by trying."""
        variants = [one for one in self.options.sets if one.instead_of == FAST_PATH.name]
        if not self.options.conntrack:
            variants.remove(CONNTRACK)
            self._states[CONNTRACK.name] = SetState(CONNTRACK.name, "it is switched off")
        else:
            conntrack.load()
        self._states[FAST_PATH.name] = SetState(FAST_PATH.name)
        while variants:
            instead = {name: held for one in variants for name, held in one.programs.items()}
            try:
                found = self._load_all(stack, instead)
            except (KernelError, ObjectMissing) as exc:
                refused = variants.pop()
                self._states[refused.name] = SetState(refused.name, _told(exc))
            else:
                self._states |= {one.name: SetState(one.name) for one in variants}
                return found
        return self._load_all(stack, {})

    def _load_added(self, stack: ExitStack) -> dict[str, Object]:
        """Each of the other sets by itself: one that is refused keeps nothing from serving."""
        added: dict[str, Object] = {}
        for one in self._extra():
            try:
                with ExitStack() as undo:
                    found = {
                        n: undo.enter_context(Object(self.options.find(held)))
                        for n, held in one.programs.items()
                    }
                    for opened in found.values():
                        self._load(opened, (*MAPS, *one.maps))
                    stack.push(undo.pop_all())
            except (KernelError, ObjectMissing) as exc:
                self._states[one.name] = SetState(one.name, _told(exc))
            else:
                self._states[one.name] = SetState(one.name)
                added |= found
        return added

    def _extra(self) -> list[FeatureSet]:
        return [one for one in self.options.sets if one != FAST_PATH and not one.instead_of]

    def _load_all(self, stack: ExitStack, instead: Mapping[str, str]) -> dict[str, Object]:
        with ExitStack() as undo:
            found = {
                name: undo.enter_context(Object(self.options.find(instead.get(name, name))))
                for name in PROGRAMS
            }
            # Before the load: of a map that was there libbpf tells the type ids of another build's BTF.
            first = found[PROGRAMS[0]]
            self._shapes = {name: first.map_shape(name) for name in MAPS}
            for opened in found.values():
                self._load(opened)
            stack.push(undo.pop_all())
        return found

    def _load(self, opened: Object, shared: tuple[str, ...] = MAPS) -> None:
        held = opened.map_names()
        for name in held:
            if name in shared:
                opened.pin_at(name, str(self.directory / name))
        pinned = self.directory / "flows"
        room = _entries(pinned) if pinned.exists() else self.options.flows
        if room is not None and "flows" in held:
            opened.resize("flows", room)
        try:
            opened.load()
        except KernelError as exc:
            if reason := lacking():
                raise Unavailable(reason) from exc
            raise


def carry_kept(older: tuple[Path, ...], directory: Path, program: Path) -> frozenset[str]:
    """Give the old maps of what the programs remember a name in the new layout, where rows are the same.

    Returns the names of those that could be.
    """
    kept: set[str] = set()
    with Object(program) as opened:
        btf = Btf(opened.btf())
        wanted = {}
        for name in KEPT:
            shape = opened.map_shape(name)
            wanted[name] = (btf.dtype(shape.key_type), btf.dtype(shape.value_type))
    for old in older:
        for names in (FLOWS, *((name,) for name in KEPT if name not in FLOWS)):
            if not kept.intersection(names) and all(_is_same(old / n, wanted[n]) for n in names):
                for name in names:
                    _carry_one(old / name, directory / name)
                kept.update(names)
    return frozenset(kept)


def _is_same(old: Path, wanted: tuple[np.dtype[Any], np.dtype[Any]]) -> bool:
    with ExitStack() as stack:
        found = open_table(old, stack)
        return found is not None and (found.key, found.value) == wanted


def _carry_one(old: Path, new: Path) -> None:
    with ExitStack() as stack:
        found = open_table(old, stack)
        if found is not None:
            libbpf.pin(found.fd, str(new))


def _told(exc: Exception) -> str:
    """The line of a refusal that says why; libbpf's report has many."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    telling = [line for line in lines if "ksym" in line or "kfunc" in line or "BTF" in line]
    return (telling or lines or [type(exc).__name__])[0]


def open_table(path: Path, stack: ExitStack) -> Table | None:
    """A pinned map, closed with ``stack``; None if nothing is pinned there."""
    if not path.exists():
        return None
    fd = libbpf.open_pinned(str(path))
    stack.callback(os.close, fd)
    return Table(fd, libbpf.map_shape_of(fd), Btf(libbpf.map_btf_of(fd)))


def copy_rows(old: Table, new: Table, change: Callable[[Rows, Rows], None] = lambda _old, _new: None) -> int:
    """What ``new`` has not got, field by field of the same name; fields that ``old`` lacks are zero.

    ``change`` has the old value and the new one, to fill in what is called otherwise. Returns how many rows
    were copied.
    """
    copied = 0
    for raw in libbpf.map_keys(old.fd, old.shape.key_size):
        source = np.frombuffer(raw, old.key)
        key = _converted(source, new.keys(1))
        value = old.get(source)
        if value is None or _has_row(new, key):
            continue
        made = _converted(value, new.values(1))
        change(value, made)
        new.put(key, made)
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


def layouts(pin_dir: Path) -> tuple[Path, ...]:
    """In the order of their numbers."""
    if not pin_dir.is_dir():
        return ()
    found = (one for one in pin_dir.glob("v*") if one.name[1:].isdigit())
    return tuple(sorted(found, key=lambda one: int(one.name[1:])))


def _in_use(pin_dir: Path) -> Path | None:
    """Of layouts that are whole, the one that became so last.

    A crash amid a commit leaves two, and whoever goes on or back from there must not take the rows of the
    other: they are of pods that may be gone. Each start pins its last program anew.
    """
    whole = [one for one in layouts(pin_dir) if is_complete(one)]
    return max(whole, key=lambda one: (one / WHOLE).stat().st_mtime_ns, default=None)


def is_complete(layout: Path) -> bool:
    """Programs are pinned last, when they are in place."""
    return (layout / WHOLE).exists()


def _entries(path: Path) -> int:
    fd = libbpf.open_pinned(str(path))
    try:
        return libbpf.map_shape_of(fd).max_entries
    finally:
        os.close(fd)
