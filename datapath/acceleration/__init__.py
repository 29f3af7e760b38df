"""The eBPF datapath of a node: what loads, feeds and attaches the programs of ``bpf/``.

``open_fast_path`` gives a ``FastPath`` or says by ``Unavailable`` why this node has none; without one the
node routes. It reads from the top down:

    companion   beside a mode: rows and attachments for whatever pods and ENIs it makes
    eni_rows    what it knows of ENIs: gateways' MACs, carriers
    path        FastPath: the verbs for all of it
    take_over   programs of ours in place of whatever was there
    load        the programs, verified once, over pinned maps; older layouts carried over
    salvage     maps whose pins are gone, found by the programs that are attached
    needs       what a kernel that refuses them has not got
    attach      programs to devices: a shared block for pods, links for ENIs      tc, eni_links, bpf_call
    tables      the maps as rows of values                                        rows
    trace       what becomes of live packets; trace_readers shares it out
    inspection  maps, programs and attachments as they are in the kernel          human
    reasons     what each reason means, in the header's words

Packets do not need this process: maps, programs and attachments live in the kernel.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from datapath.acceleration.errors import Unavailable
from datapath.errors import KernelError

if TYPE_CHECKING:
    from datapath.acceleration.path import FastPath

__all__ = ["Unavailable", "open_fast_path", "remove_fast_path"]


def open_fast_path(
    pin_dir: Path,
    *,
    netns: int | None = None,
    objects: Path | None = None,
    prepare: Callable[[FastPath], object] | None = None,
) -> FastPath:
    """``FastPath.open``, also where libbpf's binding is missing. Raises Unavailable, and nothing else.

    ``objects``: directory with compiled programs, None for the product's own.
    """
    try:
        from datapath.acceleration.load import Options
        from datapath.acceleration.path import FastPath
        from datapath.ebpf.objects import path_in
    except ImportError as exc:
        raise Unavailable(str(exc)) from exc
    options = Options() if objects is None else Options(find=partial(path_in, objects))
    return FastPath.open(pin_dir, netns=netns, options=options, prepare=prepare)


def remove_fast_path(pin_dir: Path, *, netns: int | None = None) -> bool:
    """Take away what an earlier process left: packets go by the routes at once. False if nothing was.

    Its pins may be gone, and its programs there. Loads nothing. Raises Unavailable.
    """
    try:
        from datapath.acceleration.attach import BLOCKS, detach_all
        from datapath.acceleration.tc import list_clsact
        from datapath.netlink.socket import Socket

        with Socket(netns) as netlink:
            if not any(pin_dir.glob("v*")) and BLOCKS not in list_clsact(netlink).values():
                return False
            detach_all(netlink, pin_dir / "links")
        for left in (*pin_dir.glob("v*"), pin_dir / "links"):
            shutil.rmtree(left, ignore_errors=True)
    except (ImportError, KernelError, OSError) as exc:
        raise Unavailable(f"what an earlier process left could not be taken away: {exc}") from exc
    return True
