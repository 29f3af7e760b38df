"""Rows of layouts 1 and 2, which name an ENI by its device, in the words of layout 3: an uplink by its id.

The way back needs no words: the release before finds no ``enis`` and no devices in the rows of pods, so that
what goes beyond the node takes the stack until its first repair has written both, right after its start.
"""

from __future__ import annotations

from collections.abc import Mapping

from datapath.acceleration.rows import index_key
from datapath.ebpf.table import Rows, Table


def uplinks(enis: Table | None, ours: Table) -> Mapping[int, int]:
    """Give each ENI of an older layout a row of ``ours``; ids by device. None has none."""
    if enis is None:
        return {}
    keys, values = enis.dump()
    devices = {}
    for number, (key, value) in enumerate(sorted(zip(keys.tolist(), values, strict=True)), start=1):
        row = ours.values(1)
        for name in ("v4", "v6"):
            for end in ("to", "from"):
                row[name][end] = value[name][end]
        row["ifindex"], row["mtu"] = key, value["mtu"]
        ours.put(index_key(ours, number), row)
        devices[int(key)] = number
    return devices


def name_uplink(devices: Mapping[int, int], old: Rows, made: Rows) -> None:
    """In a row that was copied by the names of its fields."""
    if "eni_ifindex" in (old.dtype.names or ()) and "uplink" in (made.dtype.names or ()):
        made["uplink"] = devices.get(int(old["eni_ifindex"][0]), 0)
