"""Which alterations a run tries."""

from __future__ import annotations

import os

from perf.drift.catalogue import chosen, sampled
from perf.drift.item import Item
from tests.drift.not_mended import NOT_MENDED
from tests.linux import ENI_HOOK

LONG = "TERWAY_SUITE_LONG"
SEED = "TERWAY_DRIFT_SEED"
PER_MINUTE = 24
"""Alterations, on two quiet cores, with the scenes that are made for them."""
SHORT = 3.0
"""Minutes of the short form."""
MODES = 2
"""With eBPF and without."""


def names(bpf: str) -> list[str]:
    """Those that spoil their scene come last, as each of them costs a new one."""
    items = [one for one in chosen((), stack="dual", bpf=bpf) if ENI_HOOK == "tcx" or not _by_tcx(one)]
    if os.environ.get(LONG) != "1":
        items = sampled(items, f"{os.environ[SEED]}-{bpf}", int(SHORT * PER_MINUTE / MODES))
    return sorted((one.name for one in items), key=lambda name: name in NOT_MENDED)


def _by_tcx(item: Item) -> bool:
    return item.name.startswith(("eni-ingress-link", "eni-egress-link"))
