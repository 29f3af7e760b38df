"""The fabric's program and its tables: loads ``bpf/fabric`` and keeps its maps as a view wants them.

Every write replaces single rows, so packets of what did not change meet the same rows as before. Rules are
written to whichever half of the rule table is not in use, and then each port is pointed at its new run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from datapath.ebpf import libbpf, objects
from datapath.ebpf.btf import Btf
from datapath.ebpf.table import Rows, Table, table
from datapath.errors import KernelError
from lab.fabric import rows
from lab.fabric.blocks import Block, BlockKind, blocks
from lab.fabric.errors import ViewError
from lab.fabric.policy import FlowRule, Policy, compile_policy, referenced_groups
from lab.fabric.reasons import Reason, reasons_of
from lab.fabric.sessions import InstanceTables
from lab.fabric.view import FabricView, Network, Port, PortKind
from lab.spec import GATEWAY_MAC, VLANS

_PROGRAM = "fabric_ingress"
_KIND_NAMES = {
    PortKind.ENI: "PORT_ENI",
    PortKind.SERVICE: "PORT_SERVICE",
    PortKind.OUTSIDE: "PORT_OUTSIDE",
}
_BLOCK_NAMES = {
    BlockKind.VPC: "PREFIX_VPC",
    BlockKind.ON_LINK: "PREFIX_ON_LINK",
    BlockKind.ROUTED: "PREFIX_ROUTED",
    BlockKind.ELSEWHERE: "PREFIX_ELSEWHERE",
    BlockKind.DEFAULT: "PREFIX_DEFAULT",
}
_NOBODY = 0
"""The counters of frames from devices that are no port stand under this number."""


@dataclass(frozen=True, slots=True)
class AttachPoint:
    """Where a port's frames come in and leave: a device on the fabric's side, and a tag (0: none).

    ``number`` is the port's id in the program's tables, never given twice.
    """

    number: int
    ifindex: int
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A view, checked and compiled: what is left is to write it."""

    view: FabricView
    policies: Mapping[frozenset[str], Policy]
    numbers: Mapping[str, int]
    """The bit of every group."""
    blocks: Mapping[Network, Block]


@dataclass(slots=True)
class _Synced:
    """A map and the rows that we wrote to it; nobody else writes there."""

    table: Table
    rows: dict[bytes, bytes] = field(default_factory=dict)

    def write(self, keys: Rows, values: Rows) -> bool:
        """Insert and replace what differs. True if something did."""
        wanted = [(k.tobytes(), v.tobytes()) for k, v in zip(keys, values, strict=True)]
        changed = [i for i, (key, value) in enumerate(wanted) if self.rows.get(key) != value]
        self.table.put(keys[changed], values[changed])
        self.rows.update(wanted[i] for i in changed)
        return bool(changed)

    def keep(self, keys: Rows) -> bool:
        """Remove every row but these. True if there was one."""
        gone = self.rows.keys() - {k.tobytes() for k in keys}
        self.table.remove(np.frombuffer(b"".join(gone), self.table.key))
        for key in gone:
            del self.rows[key]
        return bool(gone)


class Tables:
    """The loaded program. Not thread-safe: ``lab.fabric.fabric`` holds the lock."""

    def __init__(self) -> None:
        """Load the program. Raises KernelError if the kernel refuses it, ObjectMissing if it is not built."""
        self._object = libbpf.Object(objects.path("fabric"))
        try:
            self._object.load()
        except KernelError:
            self._object.close()
            raise
        self._btf = Btf(self._object.btf())
        self.reasons: tuple[Reason, ...] = reasons_of(self._btf)
        self._kinds = self._btf.enum("port_kind")
        self._peers = self._btf.enum("rule_peer")
        self._prefix_kinds = self._btf.enum("prefix_kind")
        self._ports = _Synced(self._table("ports"))
        self._port_ids = _Synced(self._table("port_ids"))
        self._assigned = _Synced(self._table("assigned"))
        self._prefixes = _Synced(self._table("prefixes"))
        self._rules = self._table("rules")
        self._leases = _Synced(self._table("leases"))
        self._instances = InstanceTables(self._object, self._btf)
        self._settings = self._table("settings")
        self._counters = self._table("counters")
        self._numbers: dict[str, int] = {}
        self._written_rules: dict[frozenset[str], Policy] = {}
        self._ranges: dict[frozenset[str], tuple[int, int, int]] = {}
        self._upper_half = False
        self._epoch = 0
        self.watch(_NOBODY)

    def close(self) -> None:
        self._instances.close()
        self._object.close()

    def program_fd(self) -> int:
        return self._object.program_fd(_PROGRAM)

    def plan(self, view: FabricView) -> Plan:
        """Check and compile a view; changes nothing. Raises ViewError."""
        groups = {group.group_id: group for group in view.groups}
        policies = {port.groups: compile_policy(port.groups, groups) for port in view.ports}
        numbers = self._number(referenced_groups(view.groups))
        self._require_room(policies)
        _require_unique(view)
        return Plan(view, policies, numbers, blocks(view))

    def watch(self, number: int) -> None:
        """Begin to count for a port, from zero."""
        self._counters.put_zero(_index_keys(self._counters, [number]))

    def unwatch(self, number: int) -> None:
        self._counters.remove(_index_keys(self._counters, [number]))

    def counts(self, number: int = _NOBODY) -> list[int]:
        """What a port's frames came to, by the number of the reason; zeroes if it is not watched."""
        per_cpu = self._counters.get(_index_keys(self._counters, [number]))
        if per_cpu is None:
            return [0] * len(self.reasons)
        return [int(n) for n in per_cpu["count"].sum(axis=0)]

    def write(self, plan: Plan, points: Mapping[str, AttachPoint]) -> None:
        """Make the maps what ``plan`` says, for the ports that have a device."""
        ports = [port for port in plan.view.ports if port.port_id in points]
        self._numbers = dict(plan.numbers)
        self._instances.write({points[port.port_id].number: port for port in ports})
        changed = self._write_rules(plan, ports)
        changed |= self._write_ports(plan, ports, points)
        self._write_port_ids(ports, points)
        changed |= self._write_prefixes(plan, points)
        changed |= self._write_addresses(ports, points)
        self._write_leases(plan.view, ports, points)
        if changed:
            self._epoch += 1
        self._write_settings(plan.view, _outside(ports, points))

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove the rows of ports, and of the addresses that live there, before their devices go."""
        gone = set(numbers)
        for homes in (self._assigned, self._port_ids):
            stay = [key for key, value in homes.rows.items() if _home(homes.table, value) not in gone]
            homes.keep(np.frombuffer(b"".join(stay), homes.table.key))
        for synced in (self._ports, self._leases):
            left = [int.from_bytes(key, "little") for key in synced.rows]
            synced.keep(_index_keys(synced.table, [number for number in left if number not in gone]))

    def _table(self, name: str) -> Table:
        return table(self._object, name, self._btf)

    def _number(self, names: set[str]) -> dict[str, int]:
        """A bit for every group; a group that stays keeps its bit, so that no packet meets a mixture."""
        room = int(self._ports.table.value["groups"].shape[0]) * 64
        if len(names) > room:
            raise ViewError(f"{len(names)} security groups, and the fabric has room for {room}")
        kept = {name: bit for name, bit in self._numbers.items() if name in names}
        free = (bit for bit in range(room) if bit not in set(kept.values()))
        return kept | {name: next(free) for name in sorted(names - kept.keys())}

    def _require_room(self, policies: Mapping[frozenset[str], Policy]) -> None:
        limit = self._btf.enum("fabric_limit")["RULES_PER_RANGE"]
        for names, policy in policies.items():
            longest = max(len(policy.ingress), len(policy.egress))
            if longest > limit:
                raise ViewError(f"groups {sorted(names)}: {longest} rules in one direction, at most {limit}")
        rows_wanted = sum(len(p.ingress) + len(p.egress) for p in policies.values())
        if rows_wanted > self._half():
            raise ViewError(
                f"{rows_wanted} rules of security groups, and the fabric has room for {self._half()}"
            )

    def _half(self) -> int:
        return self._rules.shape.max_entries // 2

    def _write_rules(self, plan: Plan, ports: Sequence[Port]) -> bool:
        """True if the rules in force change. ``_ranges`` is (first row, ingress rows, egress rows)."""
        wanted = {port.groups: plan.policies[port.groups] for port in ports}
        if wanted == self._written_rules:
            return False
        self._upper_half = not self._upper_half
        first = self._half() if self._upper_half else 0
        flat: list[FlowRule] = []
        self._ranges = {}
        for names, policy in wanted.items():
            self._ranges[names] = (first + len(flat), len(policy.ingress), len(policy.egress))
            flat += policy.ingress + policy.egress
        codes = rows.PeerCodes(self._peers["PEER_NETWORK"], self._peers["PEER_GROUP"], plan.numbers)
        keys = _index_keys(self._rules, range(first, first + len(flat)))
        self._rules.put(keys, rows.rule_values(self._rules, flat, codes))
        self._written_rules = wanted
        return True

    def _write_ports(self, plan: Plan, ports: Sequence[Port], points: Mapping[str, AttachPoint]) -> bool:
        target = self._ports.table
        keys = _index_keys(target, [points[port.port_id].number for port in ports])
        values = target.values(len(ports))
        for row, port in zip(values, ports, strict=True):
            first, ingress, egress = self._ranges[port.groups]
            point = points[port.port_id]
            row["id"], row["ifindex"], row["vlan"] = point.number, point.ifindex, point.vlan
            row["mac"] = np.frombuffer(rows.mac_bytes(port.mac), np.uint8)
            row["forwards"] = port.forwards
            row["kind"] = self._kinds[_KIND_NAMES[port.kind]]
            row["instance"] = self._instances.number(port)
            row["ingress"] = (first, ingress)
            row["egress"] = (first + ingress, egress)
            numbers = (plan.numbers[name] for name in port.groups)
            row["groups"] = rows.group_words(numbers, len(row["groups"]))
        changed = self._ports.write(keys, values)
        return self._ports.keep(keys) or changed

    def _write_port_ids(self, ports: Sequence[Port], points: Mapping[str, AttachPoint]) -> None:
        target, found = self._port_ids.table, [points[port.port_id] for port in ports]
        keys, values = target.keys(len(found)), target.values(len(found))
        keys["ifindex"], keys["vlan"] = [p.ifindex for p in found], [p.vlan for p in found]
        values["port_id"] = [p.number for p in found]
        self._port_ids.write(keys, values)
        self._port_ids.keep(keys)

    def _write_prefixes(self, plan: Plan, points: Mapping[str, AttachPoint]) -> bool:
        """True if anything leads elsewhere than before. Number 0 is nobody's."""
        target, wanted = self._prefixes.table, plan.blocks
        keys, values = rows.prefix_keys(target, list(wanted)), target.values(len(wanted))
        values["kind"] = [self._prefix_kinds[_BLOCK_NAMES[block.kind]] for block in wanted.values()]
        gateways = {subnet.cidr: rows.packed(subnet.gateway) for subnet in plan.view.subnets}
        values["gateway"]["word"] = rows.words(gateways.get(cidr, bytes(16)) for cidr in wanted)
        homes = (points.get(block.port_id) for block in wanted.values())
        values["home"]["port_id"] = [0 if point is None else point.number for point in homes]
        changed = self._prefixes.write(keys, values)
        return self._prefixes.keep(keys) or changed

    def _write_addresses(self, ports: Sequence[Port], points: Mapping[str, AttachPoint]) -> bool:
        target = self._assigned.table
        homes = [(address, points[port.port_id].number) for port in ports for address in port.addresses]
        keys, values = rows.address_keys(target, [a for a, _ in homes]), target.values(len(homes))
        values["port_id"] = [number for _, number in homes]
        changed = self._assigned.write(keys, values)
        return self._assigned.keep(keys) or changed

    def _write_leases(
        self, view: FabricView, ports: Sequence[Port], points: Mapping[str, AttachPoint]
    ) -> None:
        target = self._leases.table
        leases = {
            points[port.port_id].number: row
            for port in ports
            if port.primary is not None and (row := rows.lease(port.primary, view.subnets)) is not None
        }
        keys, values = _index_keys(target, list(leases)), target.values(len(leases))
        for value, lease in zip(values, leases.values(), strict=True):
            value["address"], value["mask"], value["gateway"] = lease
        self._leases.write(keys, values)
        self._leases.keep(keys)

    def _write_settings(self, view: FabricView, outside: int) -> None:
        row = self._settings.values(1)
        row["mtu"], row["outside_port"], row["epoch"] = view.mtu, outside, self._epoch
        row["gateway_mac"] = np.frombuffer(rows.mac_bytes(GATEWAY_MAC), np.uint8)
        self._settings.put(_index_keys(self._settings, [0]), row)


def _index_keys(target: Table, indices: Sequence[int] | range) -> Rows:
    keys = target.keys(len(indices))
    keys[:] = list(indices)
    return keys


def _home(target: Table, value: bytes) -> int:
    return int(np.frombuffer(value, target.value)["port_id"][0])


def _outside(ports: Sequence[Port], points: Mapping[str, AttachPoint]) -> int:
    found = [points[port.port_id].number for port in ports if port.kind is PortKind.OUTSIDE]
    return found[0] if found else 0


def _require_unique(view: FabricView) -> None:
    """One port per id and per address, at most one outside, MACs that are some. Raises ViewError."""
    if len({port.port_id for port in view.ports}) != len(view.ports):
        raise ViewError(f"two ports have one id: {sorted(port.port_id for port in view.ports)}")
    if sum(port.kind is PortKind.OUTSIDE for port in view.ports) > 1:
        raise ViewError("a view has at most one outside port")
    _require_trunks(view)
    owner: dict[object, str] = {}
    for port in view.ports:
        try:
            rows.mac_bytes(port.mac)
        except ValueError as exc:
            raise ViewError(f"port {port.port_id}: {exc}") from None
        for address in port.addresses:
            if owner.setdefault(address, port.port_id) != port.port_id:
                raise ViewError(f"{address} is assigned to ports {owner[address]} and {port.port_id}")
        for prefix in port.prefixes:
            if owner.setdefault(prefix, port.port_id) != port.port_id:
                raise ViewError(f"{prefix} is given to ports {owner[prefix]} and {port.port_id}")


def _require_trunks(view: FabricView) -> None:
    """A member's trunk is a port with a device in the same place, and a tag there is one member's."""
    devices = {port.port_id: port for port in view.ports if not port.trunk}
    tags: set[tuple[str, int]] = set()
    for port in view.ports:
        trunk = devices.get(port.trunk)
        if port.trunk and (trunk is None or trunk.owner != port.owner):
            raise ViewError(f"port {port.port_id}: its trunk {port.trunk} is no device of {port.owner}")
        if (port.vlan in VLANS) != bool(port.trunk) or (port.trunk, port.vlan) in tags:
            raise ViewError(f"port {port.port_id}: VLAN {port.vlan} of {port.trunk or 'no trunk'}")
        if port.trunk:
            tags.add((port.trunk, port.vlan))
