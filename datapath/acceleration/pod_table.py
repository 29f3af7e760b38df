"""The rows of pods: who may send by a host link, and how an address of this node is reached.

A pod has one row in ``pods`` and one for each of its addresses in ``endpoints``. One function makes them, so
that what is written and what is compared is the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from datapath.acceleration.flows import Flows
from datapath.acceleration.layout import Names
from datapath.acceleration.rows import (
    Device,
    Pod,
    address_bytes,
    address_value,
    differing,
    index_key,
    keys_of,
    mac_of,
    mac_row,
    shown,
)
from datapath.acceleration.uplink_table import UplinkTable
from datapath.ebpf.table import Rows, Table
from datapath.errors import KernelError
from datapath.netlink.wire import Address

_BY_RIGHT = ("slot", "generation", "flags")
"""Fields that are compared by what they mean, and not by byte."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows of both maps at one moment, each an array of one row."""

    pods: Mapping[int, Rows]
    endpoints: Mapping[Address, Rows]

    def sharing(self, host_ifindex: int) -> frozenset[int]:
        """Slots that other pods have."""
        return frozenset(_number(row, "slot") for i, row in self.pods.items() if i != host_ifindex)


class PodTable:
    """``counts`` is the map of pods' counters. One writer at a time; readers do not mind."""

    def __init__(
        self, pods: Table, endpoints: Table, counts: Table, flows: Flows, names: Names, uplinks: UplinkTable
    ) -> None:
        self._pods, self._endpoints, self._counts = pods, endpoints, counts
        self._flows, self._uplinks = flows, uplinks
        self._flags, self._devices = names.flags, names.devices
        self._slots: set[int] | None = None
        """Those in use; read from the map when first asked for, as it may be filled after this is made."""

    # Written

    def put(
        self,
        pod: Pod,
        prefixed: Mapping[Address, bool],
        *,
        earlier: bool = False,
        taken: frozenset[int] = frozenset(),
    ) -> None:
        """Insert or replace. KernelError with E2BIG, and nothing changed, if there is no room.

        ``prefixed``: whether each of its addresses is in a stack prefix. ``earlier``: if the pod is new here,
        it may have sent before, and what is not known of its flows is asked. ``taken``: slots of others.
        """
        found = self.snapshot_of(pod)
        before = found.pods.get(pod.host_ifindex)
        others = self._who_have(found, pod.addresses) - {pod.host_ifindex}
        slot, kept = self._slot_for(before, taken)
        if not kept or before is None or not self._is_same(before, pod):
            self._flows.give(slot, earlier=earlier)
        else:
            earlier = self._restore_owner(slot, pod, found) or self._is_earlier(pod, found)
        down = 0 if before is None else _number(before, "flags") & self._flags["ENDPOINT_DOWN"]
        uplink = 0 if pod.uplink is None else self._uplinks.id_of(pod.uplink)
        row, to = self._rows(pod, slot, uplink, down)
        # Who may send comes before who can be reached, so that the first packet's answer finds its way.
        self._pods.put(index_key(self._pods, pod.host_ifindex), row)
        for gone in addresses_of(before) - set(pod.addresses):
            self._remove_endpoint(gone, pod.host_ifindex)
        to["flags"] |= np.uint32(self._flags["ENDPOINT_EARLIER"] if earlier else 0)
        for number, address in enumerate(pod.addresses):
            to["flags"][number] |= self._flags["ENDPOINT_PREFIX"] if prefixed[address] else 0
        self._endpoints.put(keys_of(self._endpoints, map(address_bytes, pod.addresses)), to)
        for other in others:
            self.drop(other)

    def drop(self, host_ifindex: int) -> None:
        """Succeeds for the absent. An address that another pod has by now stays that pod's."""
        key = index_key(self._pods, host_ifindex)
        row = self._pods.get(key)
        for address in addresses_of(row):
            self._remove_endpoint(address, host_ifindex)
        self._pods.remove(key)
        if row is not None and self._slots is not None:
            self._slots.discard(_number(row, "slot"))

    def flag(self, host_ifindex: int, name: str, on: bool) -> bool:
        """In the pod's row and those of its addresses. False if there is no such pod."""
        key = index_key(self._pods, host_ifindex)
        row = self._pods.get(key)
        if row is None:
            return False
        self._pods.put(key, flagged(row, self._flags[name], on))
        for address in addresses_of(row):
            found = self._endpoint(address)
            if found is not None and _number(found, "host_ifindex") == host_ifindex:
                self._put_endpoint(address, flagged(found, self._flags[name], on))
        return True

    def flag_addresses(self, name: str, wanted: Mapping[Address, bool]) -> int:
        """In the rows of addresses whose flag is otherwise. How many those were."""
        flag, changed = self._flags[name], 0
        for address, on in wanted.items():
            row = self._endpoint(address)
            if row is not None and bool(_number(row, "flags") & flag) != on:
                self._put_endpoint(address, flagged(row, flag, on))
                changed += 1
        return changed

    def remove_strays(self) -> list[str]:
        """Rows of addresses that the pod behind their host link has not got; what they were."""
        found, removed = self.snapshot(), []
        self._slots = None  # what others have written counts as well
        for address, row in found.endpoints.items():
            host = _number(row, "host_ifindex")
            if address not in addresses_of(found.pods.get(host)):
                self._endpoints.remove(_key(self._endpoints, address))
                removed.append(f"{address} behind device {host}, whose it is not")
        return removed

    # Read

    def all(self) -> dict[int, Pod]:
        """By host veth."""
        found = self.snapshot()
        return {ifindex: self._pod(ifindex, row, found) for ifindex, row in found.pods.items()}

    def get(self, host_ifindex: int) -> Rows | None:
        return self._pods.get(index_key(self._pods, host_ifindex))

    def host_of(self, address: Address) -> int | None:
        """The host veth that an address is behind."""
        row = self._endpoint(address)
        return None if row is None else _number(row, "host_ifindex")

    def slots(self) -> dict[int, int]:
        """By host veth, of those that have one of the map's."""
        found = {ifindex: _number(row, "slot") for ifindex, row in self.snapshot().pods.items()}
        return {ifindex: slot for ifindex, slot in found.items() if self._is_slot(slot)}

    def snapshot(self) -> Snapshot:
        pods = {int(key[0]): row for key, row in rows_of(self._pods)}
        endpoints = {address_value(key.tobytes()): row for key, row in rows_of(self._endpoints)}
        return Snapshot(pods, endpoints)

    def snapshot_of(self, pod: Pod) -> Snapshot:
        """Of one pod alone, and of whoever else has its addresses."""
        endpoints = {one: row for one in pod.addresses if (row := self._endpoint(one)) is not None}
        hosts = {pod.host_ifindex, *(_number(row, "host_ifindex") for row in endpoints.values())}
        pods = {one: row for one in hosts if (row := self.get(one)) is not None}
        return Snapshot(pods, endpoints)

    def differences(self, pod: Pod, prefixed: Mapping[Address, bool], found: Snapshot) -> list[str]:
        """What rows are otherwise than ``put`` would leave them, a sentence for each row; empty: none."""
        row = found.pods.get(pod.host_ifindex)
        if row is None:
            return ["map pods has no row"]
        slot = _number(row, "slot")
        if not self._is_slot(slot) or slot in found.sharing(pod.host_ifindex):
            return [f"map pods, slot: {slot}, another pod's or nobody's"]
        down = _number(row, "flags") & self._flags["ENDPOINT_DOWN"]
        uplink = 0 if pod.uplink is None else self._uplinks.known_id(pod.uplink)
        wanted, to = self._rows(pod, slot, uplink, down)
        told = _fields("pods", row, wanted)
        if _number(row, "flags") != _number(wanted, "flags"):
            told.append(f"map pods, flags: {_number(row, 'flags')}")
        generation = self._flows.generation(slot)
        for number, address in enumerate(pod.addresses):
            told += self._endpoint_differences(address, to[number : number + 1], prefixed[address], found)
            here = found.endpoints.get(address)
            if here is not None and _number(here, "generation") != generation:
                told.append(
                    f"map flow_owners, slot {slot}: generation {generation}, not that of address {address}"
                )
        return told

    def _endpoint_differences(
        self, address: Address, wanted: Rows, prefixed: bool, found: Snapshot
    ) -> list[str]:
        row = found.endpoints.get(address)
        if row is None:
            return [f"map endpoints has no row of {address}"]
        name = f"endpoints, row of {address}"
        told = _fields(name, row, wanted)
        if _number(row, "slot") != _number(wanted, "slot"):
            told.append(f"map {name}, slot: {_number(row, 'slot')}")
        flags = _number(wanted, "flags") | (self._flags["ENDPOINT_PREFIX"] if prefixed else 0)
        passing = self._flags["ENDPOINT_EARLIER"]
        if (_number(row, "flags") ^ flags) & ~passing:
            told.append(f"map {name}, flags: {_number(row, 'flags')}")
        return told

    def _rows(self, pod: Pod, slot: int, uplink: int, flags: int) -> tuple[Rows, Rows]:
        """Of ``pods`` one, of ``endpoints`` one for each address, without the flags that only those have."""
        flags |= 0 if pod.fast else self._flags["ENDPOINT_OFF"]
        row = self._pods.values(1)
        for version, field in ((4, "v4"), (6, "v6")):
            address = pod.address(version)
            if address is not None:
                row[field] = _key(self._endpoints, address)
        row["uplink"], row["flags"], row["slot"] = uplink, flags, slot
        row["mac"] = mac_row(pod.pod_mac)
        to = self._endpoints.values(len(pod.addresses))
        to["host_ifindex"], to["uplink"] = pod.host_ifindex, uplink
        to["macs"]["to"], to["macs"]["from"] = mac_row(pod.pod_mac), mac_row(pod.host_mac)
        to["mtu"], to["slot"], to["generation"] = pod.mtu, slot, self._flows.generation(slot)
        to["flags"], to["device"] = flags, self._devices[pod.device]
        return row, to

    def _pod(self, ifindex: int, row: Rows, found: Snapshot) -> Pod:
        addresses = tuple(sorted(addresses_of(row), key=lambda one: one.version))
        none = self._endpoints.values(1)
        to = next((found.endpoints[a] for a in addresses if a in found.endpoints), none)
        return Pod(
            host_ifindex=ifindex,
            uplink=self._uplinks.name(_number(row, "uplink")),
            pod_mac=mac_of(row["mac"]) or "",
            host_mac=mac_of(to["macs"]["from"]) or "",
            addresses=addresses,
            mtu=_number(to, "mtu"),
            fast=not _number(row, "flags") & self._flags["ENDPOINT_OFF"],
            device=self._device(_number(to, "device")),
        )

    def _device(self, number: int) -> Device:
        known = (name for name, kind in self._devices.items() if kind == number)
        return Device(next(known, Device.OTHER))

    # Whose a slot is

    def _slot_for(self, before: Rows | None, taken: frozenset[int]) -> tuple[int, bool]:
        """The pod's own, and True; or a free one. Raises KernelError if all are taken."""
        slot = 0 if before is None else _number(before, "slot")
        if self._is_slot(slot) and slot not in taken:
            return slot, True
        return self._free_slot(), False

    def _is_slot(self, slot: int) -> bool:
        return 0 < slot < self._counts.shape.max_entries

    def _free_slot(self) -> int:
        """The lowest one, counting from zero again. Raises KernelError if all are taken."""
        if self._slots is None:
            self._slots = {_number(row, "slot") for _, row in rows_of(self._pods)}
        room = self._counts.shape.max_entries
        free = next((slot for slot in range(1, room) if slot not in self._slots), None)
        if free is None:
            detail = f"{room - 1} slots, all taken"
            raise KernelError("count for a pod", object="endpoint_counts", detail=detail)
        self._slots.add(free)
        self._counts.put_zero(index_key(self._counts, free))
        return free

    def _restore_owner(self, slot: int, pod: Pod, found: Snapshot) -> bool:
        """Whether the slot's owner was not whom the pod's rows say: then nothing is known of its flows.

        A row of zeroes is one that a hand has cleared: the pod keeps its generation, and its records hold.
        """
        told = {_number(row, "generation") for a, row in found.endpoints.items() if a in pod.addresses}
        generation = self._flows.generation(slot)
        if told <= {generation}:
            return False
        self._flows.restore(slot, generation or max(told))
        return True

    def _is_earlier(self, pod: Pod, found: Snapshot) -> bool:
        flag = self._flags["ENDPOINT_EARLIER"]
        return any(_number(found.endpoints[a], "flags") & flag for a in pod.addresses if a in found.endpoints)

    def _is_same(self, row: Rows, pod: Pod) -> bool:
        """Whether the row is this pod's, and not of another that had the device's number before."""
        return mac_of(row["mac"]) == pod.pod_mac and bool(addresses_of(row) & set(pod.addresses))

    def _who_have(self, found: Snapshot, addresses: Iterable[Address]) -> set[int]:
        """Host veths. A pod's earlier one, if it went with its namespace, has told nobody that it left.

        A row of an address that leads to a pod which has not got it is nobody's word.
        """
        wanted = set(addresses)
        return {ifindex for ifindex, row in found.pods.items() if addresses_of(row) & wanted}

    # Rows

    def _endpoint(self, address: Address) -> Rows | None:
        return self._endpoints.get(_key(self._endpoints, address))

    def _put_endpoint(self, address: Address, row: Rows) -> None:
        self._endpoints.put(_key(self._endpoints, address), row)

    def _remove_endpoint(self, address: Address, host_ifindex: int) -> None:
        if self.host_of(address) == host_ifindex:
            self._endpoints.remove(_key(self._endpoints, address))


def addresses_of(pod_row: Rows | None) -> set[Address]:
    """Of a row of ``pods``."""
    if pod_row is None:
        return set()
    raws = (pod_row[field].tobytes() for field in ("v4", "v6"))
    return {address_value(raw) for raw in raws if any(raw)}


def flagged(row: Rows, flag: int, on: bool) -> Rows:
    changed = row.copy()
    changed["flags"] = (int(row["flags"][0]) & ~flag) | (flag if on else 0)
    return changed


def rows_of(table: Table) -> Iterator[tuple[Rows, Rows]]:
    """Every key with its value, both as arrays of one row; of a map that is no map per CPU."""
    keys, values = table.dump()
    for number in range(len(keys)):
        yield keys[number : number + 1], values[number : number + 1]


def _fields(name: str, found: Rows, wanted: Rows) -> list[str]:
    told = differing(found, wanted, _BY_RIGHT)
    return [f"map {name}, {field}: {shown(found[field])}" for field in told]


def _key(table: Table, address: Address) -> Rows:
    return keys_of(table, [address_bytes(address)])


def _number(row: Rows, name: str) -> int:
    return int(row[name][0])
