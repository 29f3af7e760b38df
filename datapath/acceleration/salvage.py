"""Maps that packets still go by, though their pins are gone: found by the programs of pods, and pinned again.

Nothing is lost while pins go and no agent is there, as the programs hold their maps. But the next process
finds maps by their pins: it would make them anew, empty, and put its programs over them, which let nothing
through of a pod that has no row, until the first repair.
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from pathlib import Path

from datapath.acceleration import bpf_call, pins, tc
from datapath.acceleration.attach import BLOCKS
from datapath.acceleration.load import WHOLE, is_complete, layouts
from datapath.acceleration.tc import Place
from datapath.ebpf import libbpf
from datapath.ebpf.btf import Btf, BtfError
from datapath.errors import KernelError
from datapath.netlink.socket import Socket

log = logging.getLogger(__name__)


def salvage(pin_dir: Path, netns: int | None) -> Path | None:
    """The layout's directory, if no layout was pinned whole and this one is now.

    Nothing happens where no program of a pod is attached, or another layout is pinned whole. Best effort:
    what cannot be found is made anew, as on a new node.
    """
    try:
        with ExitStack() as stack:
            return _pin_again(pin_dir, _attached(netns, stack), stack)
    except (KernelError, BtfError, OSError, ValueError, KeyError) as exc:
        log.warning("whether pins of the fast path are missing is not known: %s", exc)
        return None


def _attached(netns: int | None, stack: ExitStack) -> list[int]:
    """The programs that all pods share: first the one that asks for rows, then the one that notes."""
    with Socket(netns) as netlink:
        if BLOCKS not in tc.list_clsact(netlink).values():
            return []
        numbers = [tc.program_at(netlink, Place.block(one)) for one in (BLOCKS.ingress, BLOCKS.egress)]
    found = [bpf_call.program_by_id(one) for one in numbers if one is not None]
    for fd in found:
        stack.callback(os.close, fd)
    return found


def _pin_again(pin_dir: Path, programs: list[int], stack: ExitStack) -> Path | None:
    """Of layouts that meet while one takes over from the other, the first program's."""
    wanted: dict[Path, int] = {}
    directory: Path | None = None
    for program in programs:
        maps = bpf_call.maps_of(program)
        for fd in maps:
            stack.callback(os.close, fd)
        named = {name: fd for fd in maps if "." not in (name := libbpf.map_shape_of(fd).name)}
        if not named:
            continue
        made_by = pin_dir / f"v{_layout_of(next(iter(named.values())))}"
        directory = directory or made_by
        if made_by == directory:
            wanted = {directory / name: fd for name, fd in named.items()} | wanted
    whole = [one for one in layouts(pin_dir) if is_complete(one)]
    if directory is None or (whole and directory not in whole):
        return None
    done = pins.mend(wanted)
    if not whole:
        pins.put(programs[0], directory / WHOLE)
    if done:
        log.warning("the fast path was found by its programs, as %d of its pins were gone", len(done))
    return None if whole else directory


def _layout_of(map_fd: int) -> int:
    return Btf(libbpf.map_btf_of(map_fd)).enum("datapath_limit")["DATAPATH_VERSION"]
