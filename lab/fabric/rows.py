"""From values to rows of the fabric's maps: pure, with the layouts that BTF gave.

Addresses are 16 bytes, IPv4 mapped into IPv6; a prefix of IPv4 is 96 bits longer there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import numpy as np

from datapath.ebpf.table import Rows, Table
from lab.fabric.policy import FlowRule
from lab.fabric.view import Address, Subnet

_MAPPED = bytes(10) + b"\xff\xff"
_ALL_ONES = (1 << 128) - 1


def packed(address: Address) -> bytes:
    """The 16 bytes of an address."""
    return _MAPPED + address.packed if isinstance(address, IPv4Address) else address.packed


def prefix_length(network: IPv4Network | IPv6Network) -> int:
    """In bits of the 16-byte address."""
    return network.prefixlen + (96 if isinstance(network, IPv4Network) else 0)


def mac_bytes(mac: str) -> bytes:
    """Raises ValueError for what is no Ethernet address."""
    raw = bytes.fromhex(mac.replace(":", ""))
    if len(raw) != 6:
        raise ValueError(f"{mac!r} is no MAC address")
    return raw


def words(addresses: Iterable[bytes]) -> Rows:
    """16-byte addresses as the four big-endian words of ``struct address``."""
    return np.frombuffer(b"".join(addresses), ">u4").reshape(-1, 4)


def address_keys(table: Table, addresses: Sequence[Address]) -> Rows:
    keys = table.keys(len(addresses))
    keys["word"] = words(packed(a) for a in addresses)
    return keys


def prefix_keys(table: Table, networks: Sequence[IPv4Network | IPv6Network]) -> Rows:
    keys = table.keys(len(networks))
    keys["length"] = [prefix_length(n) for n in networks]
    keys["network"]["word"] = words(packed(n.network_address) for n in networks)
    return keys


def lease(primary: IPv4Address, subnets: Sequence[Subnet]) -> tuple[int, int, int] | None:
    """Address, mask and gateway of what DHCP answers; None for an address that is in no vSwitch."""
    for subnet in subnets:
        if isinstance(subnet.cidr, IPv4Network) and primary in subnet.cidr:
            return int(primary), int(subnet.cidr.netmask), int(subnet.gateway)
    return None


def group_words(members: Iterable[int], count: int) -> list[int]:
    """A bit mask over group numbers as ``count`` words of 64 bits."""
    mask = sum(1 << number for number in set(members))
    return [mask >> 64 * i & (1 << 64) - 1 for i in range(count)]


@dataclass(frozen=True, slots=True)
class PeerCodes:
    """The program's ``enum rule_peer``, and the bit of every group."""

    network: int
    group: int
    numbers: Mapping[str, int]


def rule_values(table: Table, rules: Sequence[FlowRule], codes: PeerCodes) -> Rows:
    """Rows of the rule table, in the given order."""
    values = table.values(len(rules))
    for row, rule in zip(values, rules, strict=True):
        row["accept"] = rule.accept
        row["port_first"] = rule.ports[0]
        row["port_span"] = rule.ports[1] - rule.ports[0]
        if rule.protocol is not None:
            row["protocol"], row["protocol_mask"] = rule.protocol, 0xFF
        _write_peer(row, rule, codes)
    return values


def _write_peer(row: Any, rule: FlowRule, codes: PeerCodes) -> None:
    """A peer of None is the network whose mask is nothing, which every address is in."""
    row["peer"] = codes.network
    if isinstance(rule.peer, str):
        row["peer"], row["group"] = codes.group, codes.numbers[rule.peer]
    elif rule.peer is not None:
        row["network"]["word"] = words([packed(rule.peer.network_address)])[0]
        row["mask"]["word"] = words([mask_bytes(prefix_length(rule.peer))])[0]
        row["only_v6"] = isinstance(rule.peer, IPv6Network)


def mask_bytes(length: int) -> bytes:
    """A netmask of ``length`` leading ones in 128 bits."""
    return (_ALL_ONES ^ (_ALL_ONES >> length)).to_bytes(16, "big")
