"""How a record becomes a row and a row a record: by the columns' names, one pair of functions per table.

A column that a row does not have is as its record's default has it: an earlier schema did not know it. One
that a record does not name is a later release's, and left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from control.model.ids import (
    Address,
    AttachmentKey,
    ClientToken,
    EniId,
    Mac,
    PodKey,
    SecurityGroupId,
    VSwitchId,
)
from control.model.modes import EniKind, NetworkMode, Uplink, UplinkKind
from control.model.records import (
    AddressRecord,
    AddressState,
    AttachmentRecord,
    AttachmentState,
    Ended,
    EniRecord,
    EniState,
    HistoryRecord,
    Operation,
    OperationKind,
)

Row = Mapping[str, Any]

_NUMBERS = frozenset({"since", "until", "made", "vlan", "uplink_vlan", "ipv4_count", "ipv6_count"})


def sound(row: Row, names: Iterable[str]) -> Row:
    """``row``, if each of ``names`` that it has holds what such a column may: SQLite takes any value.

    Raises ValueError: what is no ledger's would end whoever meets it later on.
    """
    for name in names:
        kinds = int | float if name in _NUMBERS else str | None
        if name in row and not isinstance(row[name], kinds):
            raise ValueError(f"{name} is {row[name]!r}")
    return row


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)


def _v4(text: str | None) -> IPv4Address | None:
    return None if text is None else IPv4Address(text)


def _v6(text: str | None) -> IPv6Address | None:
    return None if text is None else IPv6Address(text)


def _network(text: str | None) -> Any:
    return None if text is None else ip_network(text)


def _groups(text: str) -> tuple[SecurityGroupId, ...]:
    return tuple(SecurityGroupId(g) for g in json.loads(text))


def address(text: str) -> Address:
    return ip_address(text)


def eni_row(e: EniRecord) -> Row:
    return {
        "eni_id": e.eni_id,
        "mac": e.mac,
        "vswitch_id": e.vswitch_id,
        "primary_ip": str(e.primary_ip),
        "state": e.state.value,
        "since": e.since,
        "cidr": _text(e.cidr),
        "gateway": _text(e.gateway),
        "cidr_v6": _text(e.cidr_v6),
        "gateway_v6": _text(e.gateway_v6),
        "reason": e.reason,
        "kind": e.kind.value,
        "parent": e.parent,
        "vlan": e.vlan,
        "security_groups": json.dumps(e.security_groups),
    }


def eni_record(r: Row) -> EniRecord:
    parent = r.get("parent")
    return EniRecord(
        eni_id=EniId(r["eni_id"]),
        mac=Mac(r["mac"]),
        vswitch_id=VSwitchId(r["vswitch_id"]),
        primary_ip=IPv4Address(r["primary_ip"]),
        state=EniState(r["state"]),
        since=r["since"],
        cidr=_network(r["cidr"]),
        gateway=_v4(r["gateway"]),
        cidr_v6=_network(r["cidr_v6"]),
        gateway_v6=_v6(r["gateway_v6"]),
        reason=r["reason"],
        kind=EniKind(r.get("kind", EniKind.SECONDARY)),
        parent=None if parent is None else EniId(parent),
        vlan=r.get("vlan", 0),
        security_groups=_groups(r.get("security_groups", "[]")),
    )


def address_row(a: AddressRecord) -> Row:
    owner = a.owner
    return {
        "address": str(a.address),
        "eni_id": a.eni_id,
        "state": a.state.value,
        "since": a.since,
        "container_id": owner.container_id if owner else None,
        "ifname": owner.ifname if owner else None,
        "last_uid": a.last_uid,
        "prefix": _text(a.prefix),
    }


def address_record(r: Row) -> AddressRecord:
    container_id, ifname = r["container_id"], r["ifname"]
    if (container_id is None) != (ifname is None):
        raise ValueError(f"the owner of {r['address']} is {container_id!r}, {ifname!r}")
    return AddressRecord(
        address=address(r["address"]),
        eni_id=EniId(r["eni_id"]),
        state=AddressState(r["state"]),
        since=r["since"],
        owner=None if container_id is None else AttachmentKey(container_id, ifname),
        last_uid=r["last_uid"],
        prefix=_network(r.get("prefix")),
    )


def attachment_row(a: AttachmentRecord) -> Row:
    return {
        "container_id": a.key.container_id,
        "ifname": a.key.ifname,
        "namespace": a.pod.namespace,
        "pod": a.pod.name,
        "uid": a.uid,
        "netns": a.netns,
        "host_link": a.host_link,
        "eni_id": a.uplink.id,
        "ipv4": _text(a.ipv4),
        "ipv6": _text(a.ipv6),
        "state": a.state.value,
        "since": a.since,
        "mode": a.mode.value,
        "uplink_kind": a.uplink.kind.value,
        "uplink_vlan": a.uplink.vlan,
        "made": a.made,
    }


def attachment_record(r: Row) -> AttachmentRecord:
    kind = UplinkKind(r.get("uplink_kind", UplinkKind.SHARED_ENI))
    return AttachmentRecord(
        key=AttachmentKey(r["container_id"], r["ifname"]),
        pod=PodKey(r["namespace"], r["pod"]),
        uid=r["uid"],
        netns=r["netns"],
        host_link=r["host_link"],
        uplink=Uplink(kind, EniId(r["eni_id"]), r.get("uplink_vlan", 0)),
        ipv4=_v4(r["ipv4"]),
        ipv6=_v6(r["ipv6"]),
        state=AttachmentState(r["state"]),
        since=r["since"],
        mode=NetworkMode(r.get("mode", NetworkMode.POLICY_ROUTE)),
        made=r.get("made", 0.0),
    )


def operation_row(o: Operation) -> Row:
    return {
        "token": o.token,
        "kind": o.kind.value,
        "since": o.since,
        "eni_id": o.eni_id,
        "vswitch_id": o.vswitch_id,
        "security_groups": json.dumps(o.security_groups),
        "ipv4_count": o.ipv4_count,
        "ipv6_count": o.ipv6_count,
        "addresses": json.dumps([str(a) for a in o.addresses]),
        "eni_kind": o.eni_kind.value,
    }


def operation_record(r: Row) -> Operation:
    kind = OperationKind(r["kind"])
    if r["eni_id"] is None and kind is not OperationKind.CREATE_ENI:
        raise ValueError(f"operation {r['token']} ({kind}) is about no ENI")
    return Operation(
        token=ClientToken(r["token"]),
        kind=kind,
        since=r["since"],
        eni_id=None if r["eni_id"] is None else EniId(r["eni_id"]),
        vswitch_id=None if r["vswitch_id"] is None else VSwitchId(r["vswitch_id"]),
        security_groups=_groups(r["security_groups"]),
        ipv4_count=r["ipv4_count"],
        ipv6_count=r["ipv6_count"],
        addresses=tuple(address(a) for a in json.loads(r["addresses"])),
        eni_kind=EniKind(r.get("eni_kind", EniKind.SECONDARY)),
    )


def history_row(h: HistoryRecord) -> Row:
    return {
        "address": str(h.address),
        "namespace": h.pod.namespace,
        "pod": h.pod.name,
        "uid": h.uid,
        "container_id": h.key.container_id,
        "ifname": h.key.ifname,
        "mode": h.mode.value,
        "eni_id": h.eni_id,
        "since": h.since,
        "until": h.until,
        "ended": h.ended.value,
    }


def history_record(r: Row) -> HistoryRecord:
    return HistoryRecord(
        address=address(r["address"]),
        pod=PodKey(r["namespace"], r["pod"]),
        uid=r["uid"],
        key=AttachmentKey(r["container_id"], r["ifname"]),
        mode=NetworkMode(r["mode"]),
        eni_id=EniId(r["eni_id"]),
        since=r["since"],
        until=r["until"],
        ended=Ended(r["ended"]),
    )
