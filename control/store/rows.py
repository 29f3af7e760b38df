"""How a record becomes a row and a row a record. One pair of functions per table, in column order."""

from __future__ import annotations

import json
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
from control.model.modes import shared_eni
from control.model.records import (
    AddressRecord,
    AddressState,
    AttachmentRecord,
    AttachmentState,
    EniRecord,
    EniState,
    Operation,
    OperationKind,
)

Row = tuple[Any, ...]


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)


def _v4(text: str | None) -> IPv4Address | None:
    return None if text is None else IPv4Address(text)


def _v6(text: str | None) -> IPv6Address | None:
    return None if text is None else IPv6Address(text)


def _network(text: str | None) -> Any:
    return None if text is None else ip_network(text)


def address(text: str) -> Address:
    return ip_address(text)


def eni_row(e: EniRecord) -> Row:
    return (
        e.eni_id,
        e.mac,
        e.vswitch_id,
        str(e.primary_ip),
        e.state.value,
        e.since,
        _text(e.cidr),
        _text(e.gateway),
        _text(e.cidr_v6),
        _text(e.gateway_v6),
        e.reason,
    )


def eni_record(r: Row) -> EniRecord:
    return EniRecord(
        eni_id=EniId(r[0]),
        mac=Mac(r[1]),
        vswitch_id=VSwitchId(r[2]),
        primary_ip=IPv4Address(r[3]),
        state=EniState(r[4]),
        since=r[5],
        cidr=_network(r[6]),
        gateway=_v4(r[7]),
        cidr_v6=_network(r[8]),
        gateway_v6=_v6(r[9]),
        reason=r[10],
    )


def address_row(a: AddressRecord) -> Row:
    owner = a.owner
    return (
        str(a.address),
        a.eni_id,
        a.state.value,
        a.since,
        owner.container_id if owner else None,
        owner.ifname if owner else None,
        a.last_uid,
    )


def address_record(r: Row) -> AddressRecord:
    owner = None if r[4] is None else AttachmentKey(r[4], r[5])
    return AddressRecord(address(r[0]), EniId(r[1]), AddressState(r[2]), r[3], owner, r[6])


def attachment_row(a: AttachmentRecord) -> Row:
    return (
        a.key.container_id,
        a.key.ifname,
        a.pod.namespace,
        a.pod.name,
        a.uid,
        a.netns,
        a.host_link,
        a.eni_id,
        _text(a.ipv4),
        _text(a.ipv6),
        a.state.value,
        a.since,
    )


def attachment_record(r: Row) -> AttachmentRecord:
    return AttachmentRecord(
        key=AttachmentKey(r[0], r[1]),
        pod=PodKey(r[2], r[3]),
        uid=r[4],
        netns=r[5],
        host_link=r[6],
        uplink=shared_eni(EniId(r[7])),
        ipv4=_v4(r[8]),
        ipv6=_v6(r[9]),
        state=AttachmentState(r[10]),
        since=r[11],
    )


def operation_row(o: Operation) -> Row:
    return (
        o.token,
        o.kind.value,
        o.since,
        o.eni_id,
        o.vswitch_id,
        json.dumps(o.security_groups),
        o.ipv4_count,
        o.ipv6_count,
        json.dumps([str(a) for a in o.addresses]),
    )


def operation_record(r: Row) -> Operation:
    return Operation(
        token=ClientToken(r[0]),
        kind=OperationKind(r[1]),
        since=r[2],
        eni_id=None if r[3] is None else EniId(r[3]),
        vswitch_id=None if r[4] is None else VSwitchId(r[4]),
        security_groups=tuple(SecurityGroupId(g) for g in json.loads(r[5])),
        ipv4_count=r[6],
        ipv6_count=r[7],
        addresses=tuple(address(a) for a in json.loads(r[8])),
    )
