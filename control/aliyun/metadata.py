"""What the instance metadata service says of this node, as values. ``metadata_http`` does the reading.

Paths and formats: Alibaba Cloud's page on instance metadata. Lists come as JSON (``["a","b"]``), and IPv6
lists without quotes (``[a,b]``) too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from control.aliyun.metadata_http import MetadataHttp
from control.model.cloud import MetadataEni, NodeIdentity
from control.model.errors import MetadataError
from control.model.ids import EniId, InstanceId, Mac, VSwitchId

T = TypeVar("T")

_MACS = "network/interfaces/macs/"
_REMEDY = "the service's answer is not as documented; look for a proxy in between, and report this"


class AliyunMetadata:
    """A Metadata. ``close`` ends its connections."""

    def __init__(self, http: MetadataHttp) -> None:
        self._http = http

    async def identity(self) -> NodeIdentity:
        instance_id, instance_type, region, zone, vswitch_id, mac = await asyncio.gather(
            self._must("instance-id", str),
            self._must("instance/instance-type", str),
            self._must("region-id", str),
            self._must("zone-id", str),
            self._must("vswitch-id", str),
            self._must("mac", _mac),
        )
        return NodeIdentity(InstanceId(instance_id), instance_type, region, zone, VSwitchId(vswitch_id), mac)

    async def macs(self) -> frozenset[Mac]:
        return await self._must(_MACS, lambda text: frozenset(_mac(line) for line in text.split()))

    async def eni(self, mac: Mac, *, ipv6: bool) -> MetadataEni | None:
        """Reads six items of the ENI and, with ``ipv6``, three more. None if any of the six is missing."""
        base = f"{_MACS}{mac}/"
        eni_id, primary, ipv4, cidr, gateway, vswitch_id = await asyncio.gather(
            self._item(f"{base}network-interface-id", str),
            self._item(f"{base}primary-ip-address", IPv4Address),
            self._item(f"{base}private-ipv4s", parse_addresses),
            self._item(f"{base}vswitch-cidr-block", IPv4Network),
            self._item(f"{base}gateway", IPv4Address),
            self._item(f"{base}vswitch-id", str),
        )
        if not (eni_id and primary and ipv4 and cidr and gateway and vswitch_id):
            return None
        known = (EniId(eni_id), mac, primary, ipv4, cidr, gateway, VSwitchId(vswitch_id))
        if not ipv6:
            return MetadataEni(*known)
        addresses, cidr_v6, gateway_v6 = await asyncio.gather(
            self._item(f"{base}ipv6s", parse_addresses_v6),
            self._item(f"{base}vswitch-ipv6-cidr-block", IPv6Network),
            self._item(f"{base}ipv6-gateway", IPv6Address),
        )
        return MetadataEni(*known, addresses or frozenset(), cidr_v6, gateway_v6)

    async def addresses(self, mac: Mac) -> frozenset[IPv4Address]:
        return await self._item(f"{_MACS}{mac}/private-ipv4s", parse_addresses) or frozenset()

    async def addresses_v6(self, mac: Mac) -> frozenset[IPv6Address]:
        return await self._item(f"{_MACS}{mac}/ipv6s", parse_addresses_v6) or frozenset()

    async def close(self) -> None:
        await self._http.close()

    async def _must(self, path: str, parse: Callable[[str], T]) -> T:
        value = await self._item(path, parse)
        if value is None:
            raise MetadataError(f"metadata {path}: not there", remedy=_REMEDY)
        return value

    async def _item(self, path: str, parse: Callable[[str], T]) -> T | None:
        """None if the service does not have it, or has it empty."""
        text = await self._http.text(path)
        if text is None or not text.strip():
            return None
        try:
            return parse(text.strip())
        except ValueError as exc:
            raise MetadataError(
                f"metadata {path}: cannot read {text[:80]!r} ({exc})", remedy=_REMEDY
            ) from exc


def parse_addresses(text: str) -> frozenset[IPv4Address]:
    """``["10.0.0.1","10.0.0.2"]``. Raises ValueError."""
    return frozenset(IPv4Address(item) for item in _items(text))


def parse_addresses_v6(text: str) -> frozenset[IPv6Address]:
    """``[2001:db8::1,2001:db8::2]``, with or without quotes and blanks. Raises ValueError."""
    return frozenset(IPv6Address(item) for item in _items(text))


def _items(text: str) -> list[str]:
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError("not a list in brackets")
    inner = text[1:-1].strip()
    return [item.strip().strip('"') for item in inner.split(",")] if inner else []


def _mac(text: str) -> Mac:
    """A line of the list of MACs, which ends in a slash. Raises ValueError."""
    mac = text.rstrip("/").lower()
    pairs = mac.split(":")
    if len(pairs) != 6 or not all(len(pair) == 2 and int(pair, 16) >= 0 for pair in pairs):
        raise ValueError("not a MAC address")
    return Mac(mac)
