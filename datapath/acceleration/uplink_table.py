"""The rows of uplinks, and the ids by which pods' rows name them.

An id belongs to a MAC and a VLAN: it stays through restarts, being kept in the pinned map, and when a device
is plugged anew. Ids are given in order, and one that was used is used again only when all others were, and no
row of a pod names it any more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datapath.acceleration.rows import (
    UplinkName,
    UplinkRow,
    differing,
    index_key,
    mac_of,
    mac_row,
    shown,
)
from datapath.ebpf.table import Rows, Table
from datapath.errors import KernelError

NO_ROW = "map uplinks has no such row"


class UplinkTable:
    """``naming``: the maps whose rows name uplinks. One writer at a time; readers do not mind."""

    def __init__(self, table: Table, naming: tuple[Table, ...]) -> None:
        self._table, self._naming = table, naming
        self._ids: dict[UplinkName, int] = {}
        """Also of those whose row somebody has cleared: it is written again under the same id."""

    def id_of(self, name: UplinkName) -> int:
        """Its own, or a new one, whose row says no device yet. Raises KernelError if all are taken."""
        if not self._holds(name):
            ids = self._read()
            if name not in ids:
                ids[name] = self._free(ids)
            if name_of(self._row(ids[name])) != name:
                self._write(ids[name], UplinkRow(0, name.mac, None, vlan=name.vlan))
            given = ids.values()
            self._ids = {n: i for n, i in self._ids.items() if i not in given} | ids
        return self._ids[name]

    def known_id(self, name: UplinkName) -> int:
        """As ``id_of``, but nothing is given out, and nothing written: 0 for an uplink that has none."""
        return self._ids[name] if self._holds(name) else self._read().get(name, 0)

    def put(self, uplink: UplinkRow) -> None:
        self._write(self.id_of(uplink.name), uplink)

    def drop(self, name: UplinkName) -> None:
        """Its device cannot be used from now on; the id stays its own. Succeeds for the absent."""
        number = self._read().get(name)
        if number is not None:
            row = self._row(number).copy()
            row["ifindex"] = 0
            self._table.put(index_key(self._table, number), row)

    def all(self) -> dict[int, UplinkRow]:
        """By id, those that can be used."""
        keys, values = self._table.dump()
        used = values["ifindex"] != 0
        rows = zip(keys[used], values[used], strict=True)
        return {int(key): _uplink(values[int(key) : int(key) + 1]) for key, _ in rows}

    def differences(self, uplink: UplinkRow) -> list[str]:
        """What the row is otherwise than ``put`` leaves it, a sentence for each field."""
        row = self._row(self.known_id(uplink.name))
        if not row["ifindex"][0]:
            return [NO_ROW]
        return [f"map uplinks, {field}: {shown(row[field])}" for field in differing(row, self._made(uplink))]

    def name(self, number: int) -> UplinkName | None:
        return name_of(self._row(number)) if 0 < number < self._table.shape.max_entries else None

    def remove_strays(self) -> list[str]:
        """Rows that name an uplink twice, and the one of id 0; what they were."""
        first, removed = self._read(), []
        keys, values = self._table.dump()
        for number in (int(key) for key in keys[values["ifindex"] != 0]):
            name = name_of(self._row(number))
            if number == 0 or name is None or first.get(name) != number:
                self._table.put(index_key(self._table, number), self._table.values(1))
                removed.append(f"id {number}, which is none of an uplink of ours")
        return removed

    def _holds(self, name: UplinkName) -> bool:
        """Whether the map says of an id that this process has given out that it is that uplink's."""
        return name in self._ids and name_of(self._row(self._ids[name])) == name

    def _read(self) -> dict[UplinkName, int]:
        """The lowest id of each. What this process has given out is believed, whatever its row says now."""
        _, values = self._table.dump()
        ours = {number: name for name, number in self._ids.items()}
        found: dict[UplinkName, int] = {}
        for number in (values["v4"]["from"].any(axis=1) | (values["vlan"] != 0)).nonzero()[0].tolist():
            name = ours.get(number) or name_of(values[number : number + 1])
            if number and name is not None:
                found.setdefault(name, number)
        return found | self._ids

    def _free(self, ids: dict[UplinkName, int]) -> int:
        """One that nobody has, nor had when a hand cleared its row: rows of pods may name it still."""
        room, named = range(1, self._table.shape.max_entries), self._named()
        taken = named.union(ids.values(), self._ids.values())
        free = next((one for one in room if one not in taken), None)
        if free is not None:
            return free
        used = named | self.all().keys()
        for name, number in tuple(ids.items()):
            if number not in used:
                del ids[name]
                return number
        detail = f"{len(room)} ids, all taken"
        raise KernelError("give an uplink an id", object="uplinks", detail=detail)

    def _named(self) -> set[int]:
        """Ids that rows of pods name."""
        return {int(one) for table in self._naming for one in np.unique(table.dump()[1]["uplink"])}

    def _row(self, number: int) -> Rows:
        row = self._table.get(index_key(self._table, number))
        return self._table.values(1) if row is None else row

    def _write(self, number: int, uplink: UplinkRow) -> None:
        self._table.put(index_key(self._table, number), self._made(uplink))

    def _made(self, uplink: UplinkRow) -> Rows:
        row = self._table.values(1)
        row["ifindex"], row["mtu"], row["vlan"] = uplink.ifindex, uplink.mtu, uplink.vlan
        for field, gateway in (("v4", uplink.gateway_mac), ("v6", uplink.gateway_mac_v6)):
            row[field]["to"], row[field]["from"] = mac_row(gateway), mac_row(uplink.mac)
        return row


def name_of(row: Rows) -> UplinkName | None:
    """None for a row that was never written."""
    mac = mac_of(row["v4"]["from"])
    return None if mac is None else UplinkName(mac, int(row["vlan"][0]))


def _uplink(row: Rows) -> UplinkRow:
    gateways = mac_of(row["v4"]["to"]), mac_of(row["v6"]["to"])
    made = UplinkRow(int(row["ifindex"][0]), mac_of(row["v4"]["from"]) or "", *gateways, int(row["mtu"][0]))
    return replace(made, vlan=int(row["vlan"][0]))
