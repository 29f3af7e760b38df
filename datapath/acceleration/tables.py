"""The rows of the node's maps, as values in and out. One writer at a time; readers do not mind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass

from datapath.acceleration.flows import Flows, Refusals
from datapath.acceleration.layout import Names
from datapath.acceleration.load import Loaded
from datapath.acceleration.rows import (
    Eni,
    Pod,
    StackKind,
    address_bytes,
    address_value,
    host_prefix_bytes,
    index_key,
    keys_of,
    mac_of,
    mac_row,
    stack_rows,
)
from datapath.acceleration.stack_prefixes import Compared, StackPrefixes, Wanted
from datapath.ebpf import libbpf
from datapath.ebpf.table import Rows, Table
from datapath.errors import KernelError
from datapath.netlink.wire import Address, Network


@dataclass(frozen=True, slots=True)
class EndpointCounts:
    """Of one pod. ``fast_out`` is what it sent on the fast path, ``stack`` what the stack carried on."""

    fast_out_packets: int
    fast_out_bytes: int
    fast_in_packets: int
    fast_in_bytes: int
    stack_packets: int
    dropped_packets: int


class Tables:
    """What the programs look up. Every verb leaves the maps as if it had been called once."""

    def __init__(self, loaded: Loaded, writing: AbstractContextManager[object]) -> None:
        """``writing`` is held by whoever calls a verb that writes; ``stack_prefixes`` takes it by itself."""
        self.names: Names = loaded.names
        self.flows = Flows(loaded)
        self._endpoints = loaded.table("endpoints")
        self._pods = loaded.table("pods")
        self._enis = loaded.table("enis")
        self._prefixes = loaded.table("stack_prefixes")
        self._settings = loaded.table("settings")
        self._reasons = loaded.table("reason_counts")
        self._counts = loaded.table("endpoint_counts")
        self._writing = writing
        self.stack_prefixes = StackPrefixes(self._prefixes, loaded.names.kinds, writing)
        self._slots: set[int] | None = None
        """Those in use; read from the map when first asked for, as it may be filled after this is made."""

    # Pods

    def put_pod(self, pod: Pod, *, earlier: bool = False) -> None:
        """Insert or replace. KernelError with E2BIG, and nothing changed, if there is no room.

        ``earlier``: if it is new here, it may have sent before, and what is not known of its flows is asked.
        """
        before = self._pods.get(index_key(self._pods, pod.host_ifindex))
        others = self._who_have(pod.addresses) - {pod.host_ifindex}
        slot = int(before["slot"][0]) if before is not None else self._free_slot()
        if before is None or not self._is_same(before, pod):
            self.flows.give(slot, earlier=earlier)
        else:
            earlier = self._is_earlier(pod)
        down = 0 if before is None else int(before["flags"][0]) & self.names.flags["ENDPOINT_DOWN"]
        flags = down | (0 if pod.fast else self.names.flags["ENDPOINT_OFF"])
        row = self._pods.values(1)
        for version, field in ((4, "v4"), (6, "v6")):
            address = pod.address(version)
            if address is not None:
                row[field] = keys_of(self._endpoints, [address_bytes(address)])
        row["eni_ifindex"], row["flags"], row["slot"] = pod.eni_ifindex, flags, slot
        row["mac"] = mac_row(pod.pod_mac)
        # Who may send comes before who can be reached, so that the first packet's answer finds its way.
        self._pods.put(index_key(self._pods, pod.host_ifindex), row)
        for gone in self._addresses(before) - set(pod.addresses):
            self._remove_endpoint(gone, pod.host_ifindex)
        to = self._endpoints.values(len(pod.addresses))
        to["host_ifindex"], to["eni_ifindex"] = pod.host_ifindex, pod.eni_ifindex
        to["macs"]["to"], to["macs"]["from"] = mac_row(pod.pod_mac), mac_row(pod.host_mac)
        prefixed = self.names.flags["ENDPOINT_PREFIX"]
        to["mtu"], to["slot"], to["generation"] = pod.mtu, slot, self.flows.generation(slot)
        flags |= self.names.flags["ENDPOINT_EARLIER"] if earlier else 0
        to["flags"] = [flags | (prefixed if self._in_prefix(one) else 0) for one in pod.addresses]
        self._endpoints.put(keys_of(self._endpoints, map(address_bytes, pod.addresses)), to)
        for other in others:
            self.drop_pod(other)

    def _who_have(self, addresses: Iterable[Address]) -> set[int]:
        """Host veths. A pod's earlier one, if it went with its namespace, has told nobody that it left."""
        keys = (keys_of(self._endpoints, [address_bytes(one)]) for one in addresses)
        rows = (self._endpoints.get(key) for key in keys)
        return {int(row["host_ifindex"][0]) for row in rows if row is not None}

    def drop_pod(self, host_ifindex: int) -> None:
        """Succeeds for the absent. An address that another pod has by now stays that pod's."""
        key = index_key(self._pods, host_ifindex)
        row = self._pods.get(key)
        for address in self._addresses(row):
            self._remove_endpoint(address, host_ifindex)
        self._pods.remove(key)
        if row is not None and self._slots is not None:
            self._slots.discard(int(row["slot"][0]))

    def pods(self) -> dict[int, Pod]:
        """All of them, by host veth."""
        endpoints = {address_value(k.tobytes()): v for k, v in _rows(self._endpoints)}
        found = {}
        for key, row in _rows(self._pods):
            ifindex = int(key[0])
            addresses = tuple(sorted(self._addresses(row), key=lambda one: one.version))
            to = next((endpoints[a] for a in addresses if a in endpoints), self._endpoints.values(1))
            found[ifindex] = Pod(
                host_ifindex=ifindex,
                eni_ifindex=int(row["eni_ifindex"][0]),
                pod_mac=mac_of(row["mac"]) or "",
                host_mac=mac_of(to["macs"]["from"]) or "",
                addresses=addresses,
                mtu=int(to["mtu"][0]),
                fast=not int(row["flags"][0]) & self.names.flags["ENDPOINT_OFF"],
            )
        return found

    def switch_pod(self, address: Address, on: bool) -> bool:
        """False if no pod of this node has the address."""
        to = self._endpoints.get(keys_of(self._endpoints, [address_bytes(address)]))
        if to is None:
            return False
        return self._flag_pod(int(to["host_ifindex"][0]), "ENDPOINT_OFF", not on)

    def set_pod_down(self, host_ifindex: int, down: bool) -> bool:
        """Whether what is for the pod is dropped with a reason. True if that is news."""
        row = self._pods.get(index_key(self._pods, host_ifindex))
        if row is None or bool(int(row["flags"][0]) & self.names.flags["ENDPOINT_DOWN"]) is down:
            return False
        return self._flag_pod(host_ifindex, "ENDPOINT_DOWN", down)

    def _flag_pod(self, host_ifindex: int, name: str, on: bool) -> bool:
        """In the pod's row and those of its addresses. False if there is no such pod."""
        key = index_key(self._pods, host_ifindex)
        row = self._pods.get(key)
        if row is None:
            return False
        flag = self.names.flags[name]
        self._pods.put(key, _flagged(row, flag, on))
        for each in self._addresses(row):
            one = keys_of(self._endpoints, [address_bytes(each)])
            found = self._endpoints.get(one)
            if found is not None and int(found["host_ifindex"][0]) == host_ifindex:
                self._endpoints.put(one, _flagged(found, flag, on))
        return True

    # ENIs, prefixes, settings

    def put_eni(self, eni: Eni) -> None:
        row = self._enis.values(1)
        row["mtu"] = eni.mtu
        for field, gateway in (("v4", eni.gateway_mac), ("v6", eni.gateway_mac_v6)):
            row[field]["to"], row[field]["from"] = mac_row(gateway), mac_row(eni.mac)
        self._enis.put(index_key(self._enis, eni.ifindex), row)

    def drop_eni(self, ifindex: int) -> None:
        self._enis.remove(index_key(self._enis, ifindex))

    def enis(self) -> dict[int, Eni]:
        found = {}
        for key, row in _rows(self._enis):
            ifindex = int(key[0])
            gateways = mac_of(row["v4"]["to"]), mac_of(row["v6"]["to"])
            found[ifindex] = Eni(ifindex, mac_of(row["v4"]["from"]) or "", *gateways, int(row["mtu"][0]))
        return found

    def set_prefixes(
        self,
        service: Iterable[Network],
        host_cidrs: Iterable[Network],
        node: Iterable[Address],
        hosts: AbstractSet[Address],
    ) -> None:
        """Exactly these. Not with ``writing`` held: others need not wait for many rows."""
        before = self.stack_prefixes.written
        self.stack_prefixes.set(Wanted(stack_rows(service, host_cidrs, node), hosts))
        if self.stack_prefixes.written != before:
            with self._writing:
                self._mark_prefixed()

    def compare_prefixes(self) -> Compared:
        """What was not as ``set_prefixes`` said, and is now."""
        found = self.stack_prefixes.compare()
        with self._writing:
            self._mark_prefixed()
        return found

    def prefixes(self) -> Mapping[bytes, StackKind]:
        """As ``rows.stack_rows`` makes them."""
        names = {number: StackKind(name) for name, number in self.names.kinds.items()}
        return {key.tobytes(): names[int(row["kind"][0])] for key, row in _rows(self._prefixes)}

    def set_flag(self, name: str, on: bool) -> None:
        row = self._setting()
        self._write_setting(_flagged(row, self.names.flags[name], on))

    def flag(self, name: str) -> bool:
        return bool(int(self._setting()["flags"][0]) & self.names.flags[name])

    def set_timeouts(self, seconds: tuple[int, ...]) -> None:
        """How long flows are remembered, by enum flow_kind."""
        row = self._setting()
        row["flow_timeouts"] = seconds
        self._write_setting(row)

    @property
    def epoch(self) -> int:
        return int(self._setting()["flow_epoch"][0])

    def set_epoch(self, epoch: int) -> None:
        row = self._setting()
        row["flow_epoch"] = epoch % (1 << 32)
        self._write_setting(row)

    def set_home(self, ifindex: int) -> None:
        row = self._setting()
        row["home_ifindex"] = ifindex
        self._write_setting(row)

    def trace_only(self, address: Address | None) -> None:
        row = self._setting()
        raw = bytes(16) if address is None else address_bytes(address)
        row["trace_address"] = keys_of(self._endpoints, [raw])
        self._write_setting(row)

    # Counts

    def reasons(self) -> dict[str, dict[str, int]]:
        """By hook and reason; reasons that never came are left out."""
        found = {}
        for number, hook in enumerate(self.names.hooks):
            per_cpu = self._reasons.get(index_key(self._reasons, number))
            total = [] if per_cpu is None else per_cpu["count"].sum(axis=0)
            found[hook] = {n: int(c) for n, c in zip(self.names.reasons, total, strict=False) if c}
        return found

    def endpoint_counts(self) -> dict[int, EndpointCounts]:
        """By host veth."""
        found = {}
        for key, row in _rows(self._pods):
            per_cpu = self._counts.get(index_key(self._counts, int(row["slot"][0])))
            if per_cpu is not None:
                names = EndpointCounts.__dataclass_fields__
                found[int(key[0])] = EndpointCounts(*(int(per_cpu[name].sum()) for name in names))
        return found

    def refusals(self) -> dict[int, Refusals]:
        """By host veth: of pods that had any."""
        found = {int(k[0]): self.flows.refusals(int(row["slot"][0])) for k, row in _rows(self._pods)}
        return {ifindex: one for ifindex, one in found.items() if one.share or one.full}

    def forget_flows(self) -> None:
        """Nothing is known any more of the flows that the pods have."""
        self.flows.blind(int(row["slot"][0]) for _, row in _rows(self._pods))
        for key, row in _rows(self._endpoints):
            self._endpoints.put(key, _flagged(row, self.names.flags["ENDPOINT_EARLIER"], True))

    def _is_earlier(self, pod: Pod) -> bool:
        rows = (self._endpoints.get(keys_of(self._endpoints, [address_bytes(a)])) for a in pod.addresses)
        flag = self.names.flags["ENDPOINT_EARLIER"]
        return any(row is not None and int(row["flags"][0]) & flag for row in rows)

    def _is_same(self, row: Rows, pod: Pod) -> bool:
        """Whether the row is this pod's, and not of another that had the device's number before."""
        return mac_of(row["mac"]) == pod.pod_mac and bool(self._addresses(row) & set(pod.addresses))

    def _setting(self) -> Rows:
        row = self._settings.get(index_key(self._settings, 0))
        return self._settings.values(1) if row is None else row.copy()

    def _write_setting(self, row: Rows) -> None:
        self._settings.put(index_key(self._settings, 0), row)

    def _addresses(self, pod_row: Rows | None) -> set[Address]:
        if pod_row is None:
            return set()
        raws = (pod_row[field].tobytes() for field in ("v4", "v6"))
        return {address_value(raw) for raw in raws if any(raw)}

    def _in_prefix(self, address: Address) -> bool:
        key = keys_of(self._prefixes, [host_prefix_bytes(address)])
        found = self._prefixes.get(key)
        return found is not None and bool(found["kind"][0] != self.names.kinds[StackKind.NONE])

    def _mark_prefixed(self) -> None:
        """Endpoints whose flag is not what the prefixes say by now."""
        flag = self.names.flags["ENDPOINT_PREFIX"]
        for key, row in _rows(self._endpoints):
            wanted = self._in_prefix(address_value(key.tobytes()))
            if bool(int(row["flags"][0]) & flag) != wanted:
                self._endpoints.put(key, _flagged(row, flag, wanted))

    def _remove_endpoint(self, address: Address, host_ifindex: int) -> None:
        key = keys_of(self._endpoints, [address_bytes(address)])
        row = self._endpoints.get(key)
        if row is not None and int(row["host_ifindex"][0]) == host_ifindex:
            self._endpoints.remove(key)

    def _free_slot(self) -> int:
        """The lowest one, counting from zero again. Raises KernelError if all are taken."""
        if self._slots is None:
            self._slots = {int(row["slot"][0]) for _, row in _rows(self._pods)}
        room = self._counts.shape.max_entries
        free = next((slot for slot in range(1, room) if slot not in self._slots), None)
        if free is None:
            detail = f"{room - 1} slots, all taken"
            raise KernelError("count for a pod", object="endpoint_counts", detail=detail)
        self._slots.add(free)
        self._counts.put_zero(index_key(self._counts, free))
        return free


def _flagged(row: Rows, flag: int, on: bool) -> Rows:
    changed = row.copy()
    changed["flags"] = (int(row["flags"][0]) & ~flag) | (flag if on else 0)
    return changed


def _rows(table: Table) -> list[tuple[Rows, Rows]]:
    """Every key with its value, both as arrays of one row."""
    found = []
    for raw in libbpf.map_keys(table.fd, table.shape.key_size):
        key = keys_of(table, [raw])
        value = table.get(key)
        if value is not None:
            found.append((key, value))
    return found
