"""Flows that programs of another layout have noted, in the words of ours.

=================== =====================================================================================
the other layout's  becomes
=================== =====================================================================================
``flows`` and what  the same, field by field
belongs to them
``stack_flows``     of layout 1, keyed by one direction: a note for each pod that is an end, and a record
                    where conntrack will not be asked
=================== =====================================================================================

May be done again while our programs note more: nothing of theirs is taken back.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from datapath.acceleration.load import Loaded, copy_rows, open_table
from datapath.acceleration.tables import Tables
from datapath.ebpf.table import Rows, Table

_WORDS = np.dtype("<u4")
_TCP, _UDP, _SCTP = 6, 17, 132
_HASH = np.uint64(0x9E3779B97F4A7C15)


def inherit(loaded: Loaded, tables: Tables) -> None:
    """From each layout that was in use."""
    for old in loaded.sources():
        with ExitStack() as stack:
            _same(loaded, tables, old, stack)
            first = open_table(old / "stack_flows", stack)
            if first is not None:
                _layout_1(loaded, tables, first)


def _same(loaded: Loaded, tables: Tables, old: Path, stack: ExitStack) -> None:
    owners = open_table(old / "flow_owners", stack)
    if owners is not None:
        keys, rows = owners.dump()
        tables.flows.adopt([int(key) for key in keys], rows)
    for name in ("flow_counts", "flow_kept", "flows"):
        found = open_table(old / name, stack)
        if found is not None:
            copy_rows(found, loaded.table(name))


def _layout_1(loaded: Loaded, tables: Tables, found: Table) -> None:
    keys, _ = found.dump()
    ends = _owners(loaded)
    pairs = [(keys["source"], keys["destination"]), (keys["destination"], keys["source"])]
    for own, peer in pairs:
        for slot, chosen in _by_slot(own, ends):
            tables.flows.note(slot, np.unique(_peers(peer[chosen], ends)))
    if not loaded.unasked:
        keys = keys[(keys["protocol"] != _TCP) & (keys["protocol"] != _UDP)]
    rows = _records(loaded, tables, keys, ends)
    tables.flows.record(*rows)


def _owners(loaded: Loaded) -> dict[bytes, tuple[int, int]]:
    """Slot and generation by address."""
    keys, rows = loaded.table("endpoints").dump()
    return {
        key.tobytes(): (int(row["slot"]), int(row["generation"])) for key, row in zip(keys, rows, strict=True)
    }


def _by_slot(addresses: Rows, ends: dict[bytes, tuple[int, int]]) -> list[tuple[int, Any]]:
    raw = [one.tobytes() for one in addresses]
    slots = np.array([ends.get(one, (0, 0))[0] for one in raw], np.int64)
    return [(int(slot), slots == slot) for slot in np.unique(slots) if slot]


def _records(
    loaded: Loaded, tables: Tables, keys: Rows, ends: dict[bytes, tuple[int, int]]
) -> tuple[Rows, Rows]:
    flows, kinds = loaded.table("flows"), loaded.names.flow_kinds
    usual = {_TCP: kinds["FLOW_TCP_OPEN"], _UDP: kinds["FLOW_UDP"], _SCTP: kinds["FLOW_SCTP"]}
    made, rows = flows.keys(len(keys)), flows.values(len(keys))
    kept = np.zeros(len(keys), bool)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    for number, key in enumerate(keys):
        source, destination = key["source"].tobytes(), key["destination"].tobytes()
        owners = ends.get(source, (0, 0)), ends.get(destination, (0, 0))
        if owners == ((0, 0), (0, 0)):
            continue
        sides = [(source, key["source_port"], owners[0]), (destination, key["destination_port"], owners[1])]
        low, high = sides if _is_low(source, destination, key) else reversed(sides)
        for name, (address, port, owner) in (("low", low), ("high", high)):
            made[name][number] = np.frombuffer(address, made.dtype[name])[0]
            made[f"{name}_port"][number] = port
            rows[name][number] = owner
        made["protocol"][number] = key["protocol"]
        rows["seen"][number] = now
        rows["flow_kind"][number] = usual.get(int(key["protocol"]), kinds["FLOW_OTHER"])
        rows["charged"][number] = owners[0][0] or owners[1][0]
        kept[number] = True
    made["epoch"] = tables.epoch % loaded.names.flow_epochs
    return made[kept], rows[kept]


def _is_low(source: bytes, destination: bytes, key: Any) -> bool:
    """As source_is_low() in flow_table.h orders them: words as they lie, then ports as they lie."""
    one, other = (np.frombuffer(address, _WORDS).tolist() for address in (source, destination))
    ports = (int.from_bytes(key[name].tobytes(), "little") for name in ("source_port", "destination_port"))
    return (*one, next(ports)) <= (*other, next(ports))


def _peers(addresses: Rows, ends: dict[bytes, tuple[int, int]]) -> Rows:
    """Hashes, as peer_of() in flow_table.h makes them."""
    words = np.frombuffer(addresses.tobytes(), _WORDS).reshape(-1, 4).astype(np.uint64)
    folded = (words[:, 0] ^ words[:, 2]) << np.uint64(32) | (words[:, 1] ^ words[:, 3])
    for number, address in enumerate(addresses):
        slot, generation = ends.get(address.tobytes(), (0, 0))
        if slot:
            folded[number] = generation << 32 | slot
    hashed: Rows = (folded * _HASH) >> np.uint64(53)
    return hashed
