"""Links: make a veth pair across namespaces, change, look up, remove.

Source: linux/if_link.h; struct ifinfomsg is family, pad, type (u16), index (i32), flags, change mask.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from socket import AF_INET, AF_INET6

from datapath.errors import KernelError
from datapath.netlink import wire
from datapath.netlink.memory import Listing, Span
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Kind, Message, Request

_IFINFOMSG = struct.Struct("=BxHiII")

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINK = 5
IFLA_STATS = 7
IFLA_OPERSTATE = 16
IFLA_LINKINFO = 18
IFLA_IFALIAS = 20
IFLA_STATS64 = 23
IFLA_AF_SPEC = 26
IFLA_GROUP = 27
IFLA_NET_NS_FD = 28
IFLA_EXT_MASK = 29
IFLA_NUM_TX_QUEUES = 31
IFLA_NUM_RX_QUEUES = 32
IFLA_LINK_NETNSID = 37
IFLA_TARGET_NETNSID = 46
IFLA_PERM_ADDRESS = 54
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
VETH_INFO_PEER = 1
IFLA_INET_CONF = 1
IFLA_INET6_CONF = 2
IFLA_MACVLAN_MODE = 1

LOOPBACK = 1
"""The index of the loopback, which is the first link of every namespace."""

RTEXT_FILTER_SKIP_STATS = 8
IFF_UP = 1
IFF_LOWER_UP = 0x10000
IF_OPER_UP = 6

_NO_STATISTICS = wire.attribute_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
_ONE_QUEUE = wire.attribute_u32(IFLA_NUM_TX_QUEUES, 1) + wire.attribute_u32(IFLA_NUM_RX_QUEUES, 1)
"""Since Linux 5.15 a veth gets a pair of queues per possible CPU, each with its objects in sysfs; without
XDP or GRO on it they carry nothing."""
_GONE = frozenset({errno.ENODEV})
_COUNTERS = frozenset({IFLA_STATS, IFLA_STATS64})
_STACKED = frozenset({"ipvlan", "macvlan", "macvtap", "ipvtap", "vlan", "bridge", "bond", "team"})


class Devconf(IntEnum):
    """A link's settings of IPv4 (``net/ipv4/conf/LINK``) by their numbers in linux/ip.h."""

    FORWARDING = 1
    PROXY_ARP = 3
    ACCEPT_REDIRECTS = 4
    RP_FILTER = 8
    ACCEPT_SOURCE_ROUTE = 9
    ARP_ACCEPT = 21
    ACCEPT_LOCAL = 23
    DROP_GRATUITOUS_ARP = 31


class Devconf6(IntEnum):
    """A link's settings of IPv6 (``net/ipv6/conf/LINK``) by their numbers in linux/ipv6.h."""

    FORWARDING = 0
    ACCEPT_RA = 3
    DISABLE_IPV6 = 26
    ACCEPT_DAD = 27


Settings = Mapping[Devconf, int]
Settings6 = Mapping[Devconf6, int]


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel shows it.

    ``lower`` is the index of the peer of a veth or of the link below, 0 for none. ``lower_elsewhere``: that
    index is of another namespace, which this one numbers ``lower_netns``. ``running`` means up with carrier,
    and the stack acts on it. ``families``: its settings of IPv4 and IPv6 as the kernel told them, read by
    ``otherwise`` alone. ``permanent_mac``: what the card itself says, "" if it does not. ``carrier``: up and
    with one, which the kernel says before the stack acts on it.
    """

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    running: bool
    kind: str = ""
    alias: str = ""
    group: int = 0
    lower: int = 0
    lower_elsewhere: bool = False
    lower_netns: int = field(default=-1, compare=False)
    families: bytes = field(default=b"", compare=False, repr=False)
    permanent_mac: str = field(default="", compare=False)
    carrier: bool = field(default=False, compare=False)

    def has(self, wanted: Settings) -> bool:
        """Its settings of IPv4 are these, as far as the kernel knows of them."""
        return not self.otherwise(wanted)

    def otherwise(self, wanted: Settings, wanted_6: Settings6 | None = None) -> dict[str, int]:
        """Settings of it that are not as wanted, and what they are: by names below ``net`` with {} for it.

        What the kernel does not tell (an older one, a link without IPv6) is as wanted.
        """
        families = wire.attributes(self.families)
        rows = (
            ("ipv4", AF_INET, IFLA_INET_CONF, {one - 1: (one, value) for one, value in wanted.items()}),
            ("ipv6", AF_INET6, IFLA_INET6_CONF, {int(k): (k, v) for k, v in (wanted_6 or {}).items()}),
        )
        found: dict[str, int] = {}
        for word, family, attribute, places in rows:
            if not places:
                continue
            conf = wire.attributes(families.get(family, b"")).get(attribute, b"")
            values = struct.unpack(f"={len(conf) // 4}i", conf)
            for place, (name, value) in places.items():
                if place < len(values) and values[place] != value:
                    found[f"net/{word}/conf/{{}}/{name.name.lower()}"] = values[place]
        return found

    @property
    def stacked(self) -> bool:
        """It borrows another link's MAC or gathers others', so a MAC does not identify it."""
        upon = self.kind != "veth" and self.lower not in (0, self.index) and not self.lower_elsewhere
        return upon or self.kind in _STACKED


class MacvlanMode(IntEnum):
    PRIVATE = 1
    """A MAC of its own, and no way to its siblings."""
    PASSTHRU = 8
    """The MAC of the link below, all of whose packets are the slave's. There is one such slave per link."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair. MACs are always explicit: udev rewrites those that the kernel made up."""

    name: str
    mac: str


def create_veth(here: End, there: End, *, netns: int, mtu: int) -> Request:
    """A pair with ``there`` born in the namespace of ``netns``. EEXIST if either name is in use.

    Both ends are down: IFF_UP in the peer's part fails with ENOTCONN, as its other end is not there yet.
    """
    peer = (
        _IFINFOMSG.pack(0, 0, 0, 0, 0)
        + wire.attribute_text(IFLA_IFNAME, there.name)
        + wire.attribute(IFLA_ADDRESS, wire.mac_bytes(there.mac))
        + wire.attribute_u32(IFLA_MTU, mtu)
        + wire.attribute_u32(IFLA_NET_NS_FD, netns)
        + _ONE_QUEUE
    )
    body = (
        _IFINFOMSG.pack(0, 0, 0, 0, 0)
        + wire.attribute_text(IFLA_IFNAME, here.name)
        + wire.attribute(IFLA_ADDRESS, wire.mac_bytes(here.mac))
        + wire.attribute_u32(IFLA_MTU, mtu)
        + _ONE_QUEUE
        + wire.nested(
            IFLA_LINKINFO,
            wire.attribute_text(IFLA_INFO_KIND, "veth"),
            wire.nested(IFLA_INFO_DATA, wire.attribute(VETH_INFO_PEER | wire.NLA_F_NESTED, peer)),
        )
    )
    subject = f"veth {here.name} with peer {there.name}"
    return Request(Kind.NEWLINK, wire.CREATE | wire.EXCL, body, "create link", subject)


def create_macvlan(
    name: str, lower: int, mode: MacvlanMode, *, netns: int | None = None, mtu: int = 0, group: int = 0
) -> Request:
    """A slave of link ``lower``, down, born in ``netns``, None for the socket's. ``mtu`` 0: as ``lower`` has.

    EEXIST if the name is in use. EINVAL if ``lower`` has a slave of PASSTHRU, which suffers no other beside
    it (``macvlan_common_newlink``), EBUSY if it is a port of something else.
    """
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + wire.attribute_text(IFLA_IFNAME, name)
    body += wire.attribute_u32(IFLA_LINK, lower)
    if mtu:
        body += wire.attribute_u32(IFLA_MTU, mtu)
    if group:
        body += wire.attribute_u32(IFLA_GROUP, group)
    if netns is not None:
        body += wire.attribute_u32(IFLA_NET_NS_FD, netns)
    body += wire.nested(
        IFLA_LINKINFO,
        wire.attribute_text(IFLA_INFO_KIND, "macvlan"),
        wire.nested(IFLA_INFO_DATA, wire.attribute_u32(IFLA_MACVLAN_MODE, mode)),
    )
    subject = f"macvlan {name} of link {lower}"
    return Request(Kind.NEWLINK, wire.CREATE | wire.EXCL, body, "create link", subject)


def change(
    index: int,
    *,
    up: bool | None = None,
    mtu: int | None = None,
    mac: str | None = None,
    alias: str | None = None,
    group: int | None = None,
    ipv4: Settings | None = None,
) -> Request:
    """Only what is given is changed. An empty ``alias`` removes it.

    Settings of IPv4 come with the link's other changes, where /proc/sys would cost a file for each.
    """
    body = _IFINFOMSG.pack(0, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)
    if mtu is not None:
        body += wire.attribute_u32(IFLA_MTU, mtu)
    if mac is not None:
        body += wire.attribute(IFLA_ADDRESS, wire.mac_bytes(mac))
    if alias is not None:
        body += wire.attribute(IFLA_IFALIAS, alias.encode() or b"\0")
    if group is not None:
        body += wire.attribute_u32(IFLA_GROUP, group)
    if ipv4:
        settings = (wire.attribute_u32(number, value) for number, value in ipv4.items())
        body += wire.nested(IFLA_AF_SPEC, wire.nested(AF_INET, wire.nested(IFLA_INET_CONF, *settings)))
    return Request(Kind.SETLINK, 0, body, "change link", f"number {index}")


def rename(index: int, name: str) -> Request:
    """The link must be down before Linux 6.2 (commit bd039b5ea2a9 lifted that)."""
    body = _IFINFOMSG.pack(0, 0, index, 0, 0) + wire.attribute_text(IFLA_IFNAME, name)
    return Request(Kind.SETLINK, 0, body, "rename link", f"number {index} to {name}")


def delete(index: int) -> Request:
    """Done if it is gone. Takes 10 to 50 ms: the kernel waits until nobody looks at the link any more."""
    return Request(
        Kind.DELLINK, 0, _IFINFOMSG.pack(0, 0, index, 0, 0), "delete link", f"number {index}", _GONE
    )


def delete_group(group: int) -> Request:
    """Every link of the group, for the price of one. Done if there is none."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + wire.attribute_u32(IFLA_GROUP, group)
    return Request(Kind.DELLINK, 0, body, "delete links", f"of group {group}", _GONE)


def get(name_or_index: str | int) -> Request:
    """No answer if there is no such link. Since 6.8 the kernel settles the carrier before it answers."""
    if isinstance(name_or_index, str):
        body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + wire.attribute_text(IFLA_IFNAME, name_or_index)
        subject = name_or_index
    else:
        body = _IFINFOMSG.pack(0, 0, name_or_index, 0, 0)
        subject = f"number {name_or_index}"
    return Request(Kind.GETLINK, 0, body + _NO_STATISTICS, "look up link", subject, _GONE)


def decode(message: Message) -> Link:
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(message.body)
    found = wire.attributes(message.body, _IFINFOMSG.size)
    state = found.get(IFLA_OPERSTATE, b"\0")[0]
    info = wire.attributes(found.get(IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=wire.text(found.get(IFLA_IFNAME, b"")),
        mac=wire.mac_text(found.get(IFLA_ADDRESS, b"")),
        mtu=wire.u32(found.get(IFLA_MTU, b"")),
        up=bool(flags & IFF_UP),
        running=bool(flags & IFF_UP) and state == IF_OPER_UP,
        kind=wire.text(info.get(IFLA_INFO_KIND, b"")),
        alias=wire.text(found.get(IFLA_IFALIAS, b"")),
        group=wire.u32(found.get(IFLA_GROUP, b"")),
        lower=wire.u32(found.get(IFLA_LINK, b"")),
        lower_elsewhere=IFLA_LINK_NETNSID in found,
        lower_netns=wire.u32(found[IFLA_LINK_NETNSID]) if IFLA_LINK_NETNSID in found else -1,
        families=found.get(IFLA_AF_SPEC, b""),
        permanent_mac=wire.mac_text(found.get(IFLA_PERM_ADDRESS, b"")),
        carrier=bool(flags & IFF_LOWER_UP),
    )


def _counters(body: bytes) -> tuple[Span, ...]:
    """They change with each packet. Of a kernel that leaves them out, as it is asked to, there are none."""
    places = wire.places(body, _IFINFOMSG.size)
    return tuple((begins, ends) for kind, begins, ends in places if kind in _COUNTERS)


def carrier_of(message: Message) -> tuple[int, bool]:
    """A link's index, and whether it is up and has a carrier: of a veth, whether the other end is up as well.

    Nothing else of the message is read, as there may be many. The kernel says it at once, where ``running``
    waits until the stack acts on it.
    """
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(message.body)
    return index, bool(flags & IFF_LOWER_UP)


def index_of(message: Message) -> int:
    index: int = _IFINFOMSG.unpack_from(message.body)[2]
    return index


def mac_of(message: Message) -> str:
    return wire.mac_text(wire.attributes(message.body, _IFINFOMSG.size).get(IFLA_ADDRESS, b""))


def find(socket: Socket, name_or_index: str | int) -> Link | None:
    answer = socket.one(get(name_or_index))
    return None if answer is None else decode(answer)


def peer_mac(socket: Socket, one: Link) -> str:
    """Of a veth's other end in another namespace, without entering it; "" if the kernel does not say."""
    if not one.lower_elsewhere:
        return ""
    body = _IFINFOMSG.pack(0, 0, one.lower, 0, 0) + wire.attribute_u32(IFLA_TARGET_NETNSID, one.lower_netns)
    request = Request(Kind.GETLINK, 0, body + _NO_STATISTICS, "look up peer of link", one.name, _GONE)
    try:
        answer = socket.one(request)
    except KernelError:
        return ""
    return "" if answer is None else decode(answer).mac


def list_all(socket: Socket) -> list[Link]:
    return LISTING.ask(socket)


def dump(socket: Socket) -> list[Message]:
    """Every link, as the kernel says it."""
    return socket.dump(LISTING.request)


def find_by_mac(socket: Socket, mac: str) -> Link | None:
    """The link that owns ``mac``: not one stacked upon it, whose MAC is borrowed (ipvlan, VLAN).

    Lists all links, as the kernel has no look-up by MAC: about 10 µs per link.
    """
    wanted = mac.lower()
    return next((found for found in list_all(socket) if found.mac == wanted and not found.stacked), None)


LISTING = Listing(
    Request(Kind.GETLINK, wire.DUMP, _IFINFOMSG.pack(0, 0, 0, 0, 0) + _NO_STATISTICS, "list links", "all"),
    decode,
    changing=_counters,
)
"""Every link."""
