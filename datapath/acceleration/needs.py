"""What the programs need of a kernel, and which of it this one lacks: asked when it has refused them.

Asked by trying: libbpf loads one call of each helper function. Maps need no asking, as each type is older
than the newest helper, and so is what the verifier has learned meanwhile (loops, globals). A kernel that has
all of them and refuses nevertheless has its reason at the end of the verifier's log.
Numbers are of enum bpf_func_id in linux/bpf.h, versions of the releases that brought them. bpf_redirect_peer
decides: who has it has the ring buffer too, so that a trace needs no other way (a perf buffer) on any kernel.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from datapath.ebpf import libbpf


@dataclass(frozen=True, slots=True)
class Need:
    """``since`` is the first version of Linux that has it."""

    name: str
    number: int
    since: str


HELPERS = (
    Need("bpf_map_lookup_elem", 1, "3.19"),
    Need("bpf_map_update_elem", 2, "3.19"),
    Need("bpf_ktime_get_ns", 5, "4.1"),
    Need("bpf_skb_store_bytes", 9, "4.1"),
    Need("bpf_redirect", 23, "4.4"),
    Need("bpf_skb_load_bytes", 26, "4.5"),
    Need("bpf_csum_diff", 28, "4.6"),
    Need("bpf_skb_change_tail", 38, "4.9"),
    Need("bpf_skb_pull_data", 39, "4.9"),
    Need("bpf_csum_update", 40, "4.9"),
    Need("bpf_ringbuf_reserve", 131, "5.8"),
    Need("bpf_ringbuf_submit", 132, "5.8"),
    Need("bpf_redirect_neigh", 152, "5.10"),
    Need("bpf_redirect_peer", 155, "5.10"),
)

OPTIONAL = (Need("bpf_check_mtu", 163, "5.12"),)
"""Called only where the kernel's version says that it is there; the programs do without."""


def lacking(helpers: tuple[Need, ...] = HELPERS) -> str:
    """What this kernel has not got, as a sentence for the operator; empty if it has everything."""
    absent = [one for one in helpers if not libbpf.has_helper(one.number)]
    if not absent:
        return ""
    newest = max((one.since for one in absent), key=_as_numbers)
    names = " and no ".join(one.name for one in absent)
    return f"this kernel, {platform.release()}, has no {names}: the programs need Linux {newest} or later"


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
