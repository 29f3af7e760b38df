"""What the agent says of pods, ENIs and prefixes, as values, and their bytes as keys of maps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

import numpy as np

from datapath.ebpf.table import Rows, Table
from datapath.netlink.wire import Address, Network, mac_bytes, mac_text

_MAPPED = b"\0" * 10 + b"\xff\xff"
_MAPPED_NETWORK = IPv6Network("::ffff:0:0/96")
NO_MAC = "00:00:00:00:00:00"


class StackKind(StrEnum):
    """Why a prefix takes the stack; the names of enum stack_kind without ``KIND_``, in lower case."""

    NONE = "none"
    SERVICE = "service"
    HOST_CIDR = "host_cidr"
    NODE = "node"


class Device(StrEnum):
    """What a pod is behind; the names of enum device_kind without ``DEVICE_``, in lower case."""

    VETH = "veth"
    NETKIT = "netkit"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class UplinkName:
    """What tells uplinks apart, also when a device is plugged anew: the MAC and, of a member, the VLAN."""

    mac: str
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class Pod:
    """One interface of one pod. ``mtu`` is its host veth's, in bytes of IP. ``fast`` False: by the stack.

    ``uplink`` None, of a row that was read: it is of no uplink that there is.
    """

    host_ifindex: int
    uplink: UplinkName | None
    pod_mac: str
    host_mac: str
    addresses: tuple[Address, ...]
    mtu: int = 1500
    fast: bool = True
    device: Device = Device.VETH

    def address(self, version: int) -> Address | None:
        return next((one for one in self.addresses if one.version == version), None)


@dataclass(frozen=True, slots=True)
class UplinkRow:
    """A way out of the node. A gateway's MAC that is not known yet is None: the kernel finds it then.

    ``ifindex`` 0: its device cannot be used now, and what its pods send goes by the stack.
    """

    ifindex: int
    mac: str
    gateway_mac: str | None
    gateway_mac_v6: str | None = None
    mtu: int = 1500
    vlan: int = 0

    @property
    def name(self) -> UplinkName:
        return UplinkName(self.mac.lower(), self.vlan)


def address_bytes(address: Address) -> bytes:
    """16 bytes; IPv4 as ::ffff:a.b.c.d."""
    return _MAPPED + address.packed if isinstance(address, IPv4Address) else address.packed


def address_value(raw: bytes) -> Address:
    """The opposite of ``address_bytes``."""
    return ip_address(raw[12:] if raw.startswith(_MAPPED) else raw)


def prefix_bytes(network: Network) -> bytes:
    """struct stack_prefix: the length in the machine's order, then the address."""
    length = network.prefixlen + (96 if network.version == 4 else 0)
    return length.to_bytes(4, "little") + address_bytes(network.network_address)


def host_prefix_bytes(address: Address) -> bytes:
    """The longest prefix there is of an address; as a key of a look-up it finds the longest that holds it."""
    return (128).to_bytes(4, "little") + address_bytes(address)


def keys_of(table: Table, keys: Iterable[bytes]) -> Rows:
    return np.frombuffer(b"".join(keys), table.key)


def index_key(table: Table, index: int) -> Rows:
    key = table.keys(1)
    key[0] = index
    return key


def mac_row(mac: str | None) -> Rows:
    return np.frombuffer(mac_bytes(mac or NO_MAC), np.uint8)


def mac_of(row: Rows) -> str | None:
    text = mac_text(row.tobytes())
    return None if text == NO_MAC else text


def stack_rows(
    service: Iterable[Network], host_cidrs: Iterable[Network], node: Iterable[Address]
) -> Mapping[bytes, StackKind]:
    """Keys of ``stack_prefixes`` and what they mean; of two meanings of one prefix the later list wins.

    An IPv6 prefix as wide as ::/0 spans the mapped addresses too, so IPv4 is taken out of it again.
    """
    found: dict[Network, StackKind] = {}
    found |= dict.fromkeys(service, StackKind.SERVICE)
    found |= dict.fromkeys(host_cidrs, StackKind.HOST_CIDR)
    rows = {prefix_bytes(network): kind for network, kind in found.items()}
    for address in node:
        rows[host_prefix_bytes(address)] = StackKind.NODE
    if any(isinstance(one, IPv6Network) and one.supernet_of(_MAPPED_NETWORK) for one in found):
        rows.setdefault(prefix_bytes(_MAPPED_NETWORK), StackKind.NONE)
    return rows


def differing(found: Rows, wanted: Rows, besides: tuple[str, ...] = ()) -> list[str]:
    """Names of fields whose bytes differ."""
    names = found.dtype.names or ()
    return [n for n in names if n not in besides and found[n].tobytes() != wanted[n].tobytes()]


def shown(value: Any) -> str:
    raw = value.tobytes()
    return str(int(value[0])) if value.dtype.kind == "u" and value.size == 1 else raw.hex()
