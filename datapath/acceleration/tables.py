"""The rows of the node's maps, as values in and out. One writer at a time; readers do not mind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from datapath.acceleration.flows import Flows, Refusals
from datapath.acceleration.layout import Names
from datapath.acceleration.load import Loaded
from datapath.acceleration.pod_table import PodTable, Snapshot, flagged
from datapath.acceleration.rows import (
    Pod,
    StackKind,
    UplinkName,
    UplinkRow,
    address_bytes,
    differing,
    host_prefix_bytes,
    index_key,
    keys_of,
    stack_rows,
)
from datapath.acceleration.stack_prefixes import Compared, StackPrefixes, Wanted
from datapath.acceleration.uplink_table import UplinkTable
from datapath.ebpf import libbpf
from datapath.ebpf.table import Rows
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
        self._counts = loaded.table("endpoint_counts")
        pods, endpoints = loaded.table("pods"), loaded.table("endpoints")
        uplinks = loaded.table("uplinks")
        self._uplinks = UplinkTable(uplinks, (pods, endpoints))
        self._compared = (pods, endpoints, uplinks)
        self._read: tuple[tuple[bytes, ...], Mapping[int, Pod]] | None = None
        self._pods = PodTable(pods, endpoints, self._counts, self.flows, self.names, self._uplinks)
        self._prefixes = loaded.table("stack_prefixes")
        self._settings = loaded.table("settings")
        self._reasons = loaded.table("hook_counts")
        self._writing = writing
        self._timeouts: tuple[int, ...] | None = None
        self._epoch: int | None = None
        self.stack_prefixes = StackPrefixes(self._prefixes, loaded.names.kinds, writing)
        self._flagged = 0
        """``stack_prefixes.written`` as of when the flags of pods' rows were brought in line."""

    # Pods

    def put_pod(self, pod: Pod, *, earlier: bool = False, taken: frozenset[int] = frozenset()) -> None:
        """As ``PodTable.put``."""
        self._pods.put(pod, self._prefixed(pod.addresses), earlier=earlier, taken=taken)

    def drop_pod(self, host_ifindex: int) -> None:
        """Succeeds for the absent. An address that another pod has by now stays that pod's."""
        self._pods.drop(host_ifindex)

    def pods(self) -> Mapping[int, Pod]:
        """All of them, by host veth; the very same while the rows read as they did."""
        raw = self._rows()
        known = self._read
        if known is None or known[0] != raw:
            self._read = known = raw, self._pods.all()
        return known[1]

    def snapshot(self, pod: Pod | None = None) -> Snapshot:
        """Rows of ``pod``, None for all of them."""
        return self._pods.snapshot() if pod is None else self._pods.snapshot_of(pod)

    def pod_differences(self, pod: Pod, found: Snapshot) -> list[str]:
        """As ``PodTable.differences``."""
        return self._pods.differences(pod, self._prefixed(pod.addresses), found)

    def fingerprint(self) -> tuple[bytes, ...]:
        """All that ``pod_differences`` and ``remove_strays`` look at, and prefixes say by flags of rows."""
        return (*self._rows(), self.flows.generations())

    def _rows(self) -> tuple[bytes, ...]:
        return tuple(part for one in self._compared for part in libbpf.map_dump(one.fd, one.shape))

    def remove_strays(self) -> list[str]:
        """Rows of addresses and uplinks that belong to none; what they were."""
        return [*self._pods.remove_strays(), *self._uplinks.remove_strays()]

    def switch_pod(self, address: Address, on: bool) -> bool:
        """False if no pod of this node has the address."""
        host = self._pods.host_of(address)
        return host is not None and self._pods.flag(host, "ENDPOINT_OFF", not on)

    def set_pod_down(self, host_ifindex: int, down: bool) -> bool:
        """Whether what is for the pod is dropped with a reason. True if that is news."""
        row = self._pods.get(host_ifindex)
        if row is None or bool(int(row["flags"][0]) & self.names.flags["ENDPOINT_DOWN"]) is down:
            return False
        return self._pods.flag(host_ifindex, "ENDPOINT_DOWN", down)

    # Uplinks, prefixes, settings

    def put_uplink(self, uplink: UplinkRow) -> None:
        self._uplinks.put(uplink)

    def uplink_differences(self, uplink: UplinkRow) -> list[str]:
        return self._uplinks.differences(uplink)

    def drop_uplink(self, name: UplinkName) -> None:
        """As ``UplinkTable.drop``."""
        self._uplinks.drop(name)

    def uplinks(self) -> dict[int, UplinkRow]:
        """By id, those that can be used."""
        return self._uplinks.all()

    def set_prefixes(
        self,
        service: Iterable[Network],
        host_cidrs: Iterable[Network],
        node: Iterable[Address],
        hosts: AbstractSet[Address],
    ) -> None:
        """Exactly these. Not with ``writing`` held: others need not wait for many rows."""
        self.stack_prefixes.set(Wanted(stack_rows(service, host_cidrs, node), hosts))
        self._flags_follow()

    def compare_prefixes(self) -> Compared:
        """What was not as ``set_prefixes`` said, and is now. A pod's flag of it is part of its own rows."""
        found = self.stack_prefixes.compare()
        self._flags_follow()
        return found

    def _flags_follow(self) -> None:
        """Whoever wrote the prefixes, and whatever became of the flags then.

        A round does not look at rows of pods that read as before, so nobody else would.
        """
        written = self.stack_prefixes.written
        if written != self._flagged:
            with self._writing:
                self._flag_prefixed()
            self._flagged = written

    def set_flag(self, name: str, on: bool) -> None:
        row = self._setting()
        self._write_setting(flagged(row, self.names.flags[name], on))

    def flag(self, name: str) -> bool:
        return bool(int(self._setting()["flags"][0]) & self.names.flags[name])

    def set_timeouts(self, seconds: tuple[int, ...]) -> None:
        """How long flows are remembered, by enum flow_kind."""
        row = self._setting()
        self._timeouts = seconds
        if self._epoch is None:
            self._epoch = int(row["flow_epoch"][0])
        row["flow_timeouts"] = seconds
        self._write_setting(row)

    def mend_settings(self, flags: Mapping[str, bool], home: int) -> list[str]:
        """What was otherwise, and is put right: timeouts and epoch as they were set last.

        ``home`` 0: as it is.
        """
        found = self._setting()
        wanted = found.copy()
        for name, on in flags.items():
            wanted = flagged(wanted, self.names.flags[name], on)
        wanted["home_ifindex"] = home or found["home_ifindex"]
        if self._timeouts is not None:
            wanted["flow_timeouts"] = self._timeouts
        wanted["flow_epoch"] = self.epoch
        told = differing(found, wanted)
        if told:
            self._write_setting(wanted)
        return told

    @property
    def epoch(self) -> int:
        """As it was set last, by this process or, before that, by the one before."""
        if self._epoch is None:
            self._epoch = int(self._setting()["flow_epoch"][0])
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch % (1 << 32)
        row = self._setting()
        row["flow_epoch"] = self._epoch
        self._write_setting(row)

    def set_home(self, ifindex: int) -> None:
        row = self._setting()
        row["home_ifindex"] = ifindex
        self._write_setting(row)

    def trace_only(self, address: Address | None) -> None:
        row = self._setting()
        raw = bytes(16) if address is None else address_bytes(address)
        row["trace_address"] = np.frombuffer(raw, row.dtype["trace_address"])
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
        for ifindex, slot in self._pods.slots().items():
            per_cpu = self._counts.get(index_key(self._counts, slot))
            if per_cpu is not None:
                names = EndpointCounts.__dataclass_fields__
                found[ifindex] = EndpointCounts(*(int(per_cpu[name].sum()) for name in names))
        return found

    def refusals(self) -> dict[int, Refusals]:
        """By host veth: of pods that had any."""
        found = {ifindex: self.flows.refusals(slot) for ifindex, slot in self._pods.slots().items()}
        return {ifindex: one for ifindex, one in found.items() if one.share or one.full}

    def forget_flows(self) -> None:
        """Nothing is known any more of the flows that the pods have."""
        self.flows.blind(self._pods.slots().values())
        self._pods.flag_addresses("ENDPOINT_EARLIER", dict.fromkeys(self._pods.snapshot().endpoints, True))

    def _setting(self) -> Rows:
        row = self._settings.get(index_key(self._settings, 0))
        return self._settings.values(1) if row is None else row.copy()

    def _write_setting(self, row: Rows) -> None:
        self._settings.put(index_key(self._settings, 0), row)

    def _flag_prefixed(self) -> None:
        """Pods' rows whose flag is not what the prefixes say by now."""
        self._pods.flag_addresses("ENDPOINT_PREFIX", self._prefixed(self._pods.snapshot().endpoints))

    def _prefixed(self, addresses: Iterable[Address]) -> dict[Address, bool]:
        """Whether each is in a stack prefix."""
        return {one: self._in_prefix(one) for one in addresses}

    def _in_prefix(self, address: Address) -> bool:
        key = keys_of(self._prefixes, [host_prefix_bytes(address)])
        found = self._prefixes.get(key)
        return found is not None and bool(found["kind"][0] != self.names.kinds[StackKind.NONE])
