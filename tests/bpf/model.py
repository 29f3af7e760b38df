"""The datapath in plain Python, written from its description and not from its C.

A packet comes in as bytes and leaves as an ``Expected``: verdict, reason, target, bytes, mark. Flows that the
stack sent are a table that ``pod_ingress`` and ``eni_egress`` add to, so a sequence of packets can be played;
conntrack is not asked, no flow gets old, and no pod has so many that it would be refused one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from datapath.acceleration.rows import Pod, UplinkRow
from datapath.netlink.wire import Address, Network, mac_bytes

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS = 0, 43, 44, 60
CHAIN_MAX = 6
FAST_MARK = 0x20
ECHO = {8: (ICMP, 0), 13: (ICMP, 14), 128: (ICMPV6, 129)}
"""Queries: type, then the protocol and the type of the reply."""
ERRORS = {ICMP: {3, 4, 11, 12}, ICMPV6: {1, 2, 3, 4}}
LINK_TALK = {130, 131, 132, 133, 134, 135, 136, 137, 143}
ROUTER_TALK = {ICMP: {5, 9}, ICMPV6: {130, 134, 137}}
MLD_REPORTS = {131, 132, 143}
RS, NS, NA = 133, 135, 136
TUNNELS = {4, 41, 47, 97, 137}
GATEWAY, GATEWAY_V6 = IPv4Address("169.254.1.1"), IPv6Address("fe80::1")
OPTIONS_MAX = 6

Flow = tuple[Address, Address, int, int, int]


class Malformed(Exception):
    """The IP header is cut or contradicts itself."""


@dataclass(slots=True)
class Seen:
    """An IP packet as far as it could be read.

    ``cut``: what follows the IP header is not all there, or not as long as it says. ``chained``: too many
    extension headers. ``transport`` and ``end`` count from the frame's start.
    """

    source: Address
    destination: Address
    hop_limit: int = 0
    protocol: int = 0
    transport: int = 0
    transport_length: int = 0
    source_port: int = 0
    destination_port: int = 0
    icmp_type: int = 0
    end: int = 0
    options: bool = False
    chained: bool = False
    part: str = "whole"
    cut: bool = False

    def flow(self) -> Flow:
        return (self.source, self.destination, self.source_port, self.destination_port, self.protocol)

    def reverse(self) -> Flow:
        return (self.destination, self.source, self.destination_port, self.source_port, self.protocol)

    def carrier(self) -> Flow:
        """The same for both directions."""
        return min(self.flow(), self.reverse(), key=str)

    def is_link_talk(self) -> bool:
        return self.source.version == 6 and self.protocol == ICMPV6 and self.icmp_type in LINK_TALK

    def is_error(self) -> bool:
        known = ERRORS.get(self.protocol, set())
        return self.icmp_type in known and (self.protocol == ICMP) == (self.source.version == 4)


@dataclass(frozen=True, slots=True)
class Expected:
    verdict: str
    reason: str
    target: int
    packet: bytes
    mark: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame at a hook. ``gso_size`` 0: not made of segments."""

    program: str
    ifindex: int
    frame: bytes
    mark: int = 0
    gso_size: int = 0


@dataclass(slots=True)
class Model:
    """A node. ``macs`` are those of its devices."""

    pods: dict[int, Pod]
    enis: dict[int, UplinkRow]
    macs: dict[int, str]
    service: tuple[Network, ...]
    host_cidrs: tuple[Network, ...]
    node: tuple[Address, ...]
    home: int
    owners: dict[Address, tuple[int, int]]
    """Slot and generation of each pod's addresses."""
    on: bool = True
    down: set[int] = field(default_factory=set)
    """Pods whose link is down."""
    flows: dict[Flow, None] = field(default_factory=dict)
    """What the stack sent, as it was first seen, in that order."""
    carried: set[Flow] = field(default_factory=set)
    """The same, by carrier."""
    noted: set[tuple[int, int]] = field(default_factory=set)
    """Pods, by host veth, and hashes of peers that the stack sent something between."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def judge(self, arrival: Arrival) -> Expected:
        decide = {"pod_egress": self._pod, "eni_ingress": self._eni}
        found = decide.get(arrival.program, self._stack)(arrival)
        self.counts[(arrival.program, found.reason)] += 1
        return found

    # pod_egress

    def _pod(self, arrival: Arrival) -> Expected:
        pod = self.pods.get(arrival.ifindex)
        if pod is None:
            return _drop(arrival, "drop_unknown_pod")
        self.down.discard(arrival.ifindex)
        if arrival.frame[6:12] != mac_bytes(pod.pod_mac):
            return _drop(arrival, "drop_src_mac")
        kind = int.from_bytes(arrival.frame[12:14], "big")
        if kind in (0x8100, 0x88A8):
            return _drop(arrival, "drop_vlan")
        if kind == 0x0806:
            return self._pod_arp(arrival, pod)
        if kind not in (0x0800, 0x86DD):
            return _drop(arrival, "drop_not_ip")
        try:
            seen = read(arrival.frame[14:], arrival)
        except Malformed:
            return _drop(arrival, "drop_malformed")
        if seen.chained or (seen.cut and seen.part == "whole"):
            return _drop(arrival, "drop_malformed")
        if seen.is_link_talk():
            return self._pod_talk(arrival, seen, pod)
        if seen.source not in pod.addresses:
            return _drop(arrival, "drop_src_address")
        if seen.source.version == 4 and seen.protocol == ICMP and seen.icmp_type in ROUTER_TALK[ICMP]:
            return _drop(arrival, "drop_router_talk")
        if seen.protocol in TUNNELS and self._ends_here(seen.destination):
            return _drop(arrival, "drop_tunnel")
        reason = self._pod_stack_reason(arrival, seen, pod)
        return _stack(arrival, reason) if reason else self._forward(arrival, seen, pod)

    def _ends_here(self, address: Address) -> bool:
        served = any(_inside(address, network) for network in self.service)
        return stays_on_link(address) or address in self.node or served

    def _pod_arp(self, arrival: Arrival, pod: Pod) -> Expected:
        body = arrival.frame[14:42]
        if len(body) < 28 or body[:6] != b"\0\x01\x08\0\x06\x04" or body[6:8] not in (b"\0\x01", b"\0\x02"):
            return _drop(arrival, "drop_neighbour")
        request, sender = body[7] == 1, IPv4Address(body[14:18])
        if body[8:14] != mac_bytes(pod.pod_mac):
            return _drop(arrival, "drop_neighbour")
        if int(sender) == 0 and request:
            return _stack(arrival, "stack_link_talk")
        if sender not in pod.addresses:
            return _drop(arrival, "drop_neighbour")
        if not request or IPv4Address(body[24:28]) != GATEWAY:
            return _stack(arrival, "stack_link_talk")
        ends = mac_bytes(pod.host_mac) + GATEWAY.packed + mac_bytes(pod.pod_mac) + sender.packed
        return _answer(arrival, pod, body[:6] + b"\0\x02" + ends + arrival.frame[42:])

    def _pod_talk(self, arrival: Arrival, seen: Seen, pod: Pod) -> Expected:
        if seen.icmp_type in ROUTER_TALK[ICMPV6]:
            return _drop(arrival, "drop_router_talk")
        if seen.source not in pod.addresses and int(seen.source) and not _is_fe80(seen.source):
            return _drop(arrival, "drop_src_address")
        if seen.icmp_type in MLD_REPORTS:
            if seen.destination.is_multicast:
                return _stack(arrival, "stack_link_talk")
            return _drop(arrival, "drop_neighbour")
        return self._pod_nd(arrival, seen, pod)

    def _pod_nd(self, arrival: Arrival, seen: Seen, pod: Pod) -> Expected:
        fixed = 8 if seen.icmp_type == RS else 24
        body = arrival.frame[seen.transport : seen.end]
        if seen.transport != 54 or seen.part != "whole" or seen.hop_limit != 255 or len(body) < fixed:
            return _drop(arrival, "drop_neighbour")
        options = nd_options(body[fixed:])
        mac = mac_bytes(pod.pod_mac)
        mine = {1: mac[:6], 2: mac[:6]}
        if options is None or any(kind in mine and value != mine[kind] for kind, value in options):
            return _drop(arrival, "drop_neighbour")
        nobody = int(seen.source) == 0
        if nobody and any(kind == 1 for kind, _ in options):
            return _drop(arrival, "drop_neighbour")
        own = {one for one in pod.addresses if one.version == 6} | {link_local(pod.pod_mac)}
        if seen.icmp_type == RS:
            return _talk(arrival, nobody or seen.source in own)
        target = IPv6Address(body[8:24])
        if target.is_multicast:
            return _drop(arrival, "drop_neighbour")
        if seen.icmp_type == NA:
            return _talk(arrival, seen.source in own and target in own)
        if nobody:
            return _talk(arrival, seen.destination in IPv6Network("ff02::1:ff00:0/104"))
        if target == GATEWAY_V6 != seen.source:
            return _answer(arrival, pod, advertised(seen.source, pod.host_mac))
        return _talk(arrival, seen.source in own)

    def _pod_stack_reason(self, arrival: Arrival, seen: Seen, pod: Pod) -> str:
        if not self.on:
            return "stack_off"
        if not pod.fast:
            return "stack_pod_off"
        if not self._to_host(arrival):
            return "stack_not_host"
        if stays_on_link(seen.destination):
            return "stack_link_scope"
        return _shape_reason(seen) or self._prefix_reason(seen) or self._flow_reason(arrival, seen)

    def _forward(self, arrival: Arrival, seen: Seen, pod: Pod) -> Expected:
        to = self._endpoint(seen.destination)
        if to is not None:
            if not to.fast:
                return _stack(arrival, "stack_pod_off")
            if to.host_ifindex in self.down:
                return _drop(arrival, "drop_pod_down")
            if not fits(arrival, seen, to.mtu):
                return _stack(arrival, "stack_mtu")
            return _into(arrival, to, "fast_local")
        eni = next((one for one in self.enis.values() if one.name == pod.uplink), None)
        if eni is None:
            return _stack(arrival, "stack_no_eni")
        if not fits(arrival, seen, eni.mtu):
            return _stack(arrival, "stack_mtu")
        gateway = eni.gateway_mac if seen.source.version == 4 else eni.gateway_mac_v6
        if gateway is None:
            # The kernel strips the Ethernet header itself, so it is not ours to write.
            packet = arrival.frame[:14] + aged(arrival.frame)[14:]
            return Expected("neigh", "fast_neigh", eni.ifindex, packet, arrival.mark | FAST_MARK)
        packet = mac_bytes(gateway) + mac_bytes(eni.mac) + aged(arrival.frame)[12:]
        return Expected("eni", "fast_eni", eni.ifindex, packet, arrival.mark | FAST_MARK)

    # eni_ingress

    def _eni(self, arrival: Arrival) -> Expected:
        reason = _frame_reason(arrival)
        if reason:
            return _stack(arrival, reason)
        if not self.on:
            return _stack(arrival, "stack_off")
        if not self._to_host(arrival):
            return _stack(arrival, "stack_not_host")
        try:
            seen = read(arrival.frame[14:], arrival)
        except Malformed:
            return _stack(arrival, "stack_malformed")
        if seen.is_link_talk():
            return _stack(arrival, "stack_link_talk")
        to = self._endpoint(seen.destination)
        if to is None:
            return _stack(arrival, "stack_no_pod")
        here = self.enis.get(arrival.ifindex)
        if here is None or here.name != to.uplink:
            return _stack(arrival, "stack_other_eni")
        if not to.fast:
            return _stack(arrival, "stack_pod_off")
        if to.host_ifindex in self.down:
            return _drop(arrival, "drop_pod_down")
        reason = _shape_reason(seen) or self._flow_reason(arrival, seen)
        if not reason and not fits(arrival, seen, to.mtu):
            reason = "stack_mtu"
        return _stack(arrival, reason) if reason else _into(arrival, to, "fast_pod")

    # pod_ingress, eni_egress

    def _stack(self, arrival: Arrival) -> Expected:
        if _frame_reason(arrival):
            return _stack(arrival, "seen_nothing")
        try:
            seen = read(arrival.frame[14:], arrival)
        except Malformed:
            return _stack(arrival, "seen_nothing")
        if seen.is_link_talk() or stays_on_link(seen.destination):
            return _stack(arrival, "seen_nothing")
        if arrival.program == "eni_egress" and arrival.ifindex != self.home and seen.source in self.node:
            return replace(_stack(arrival, "seen_home"), verdict="neigh", target=self.home)
        if seen.cut or seen.part == "later" or seen.is_error():
            return _stack(arrival, "seen_nothing")
        return _stack(arrival, self._note(seen))

    def _note(self, seen: Seen) -> str:
        ends = self._endpoint(seen.source), self._endpoint(seen.destination)
        pairs = zip(ends, (seen.destination, seen.source), strict=True)
        notes = {(pod.host_ifindex, self._peer_hash(peer)) for pod, peer in pairs if pod is not None}
        if not notes:
            return "seen_nothing"
        fresh, self.noted = not notes <= self.noted, self.noted | notes
        answered_by_stack = self._stack_prefix(seen.source) in ("stack_node", "stack_service")
        if ends[0] is None and answered_by_stack:
            return "seen_new" if fresh else "seen_known"
        if seen.carrier() in self.carried:
            return "seen_known"
        self.flows[seen.flow()] = None
        self.carried.add(seen.carrier())
        return "seen_new"

    def _peer_hash(self, address: Address) -> int:
        """Eleven bits. Of a pod: slot and generation; else the address, its four words folded into two."""
        raw = address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
        a, b, c, d = (int.from_bytes(raw[at : at + 4], "little") for at in range(0, 16, 4))
        folded = (a ^ c) << 32 | (b ^ d)
        if address in self.owners:
            slot, generation = self.owners[address]
            folded = generation << 32 | slot
        return (folded * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 53

    # What all ask

    def _to_host(self, arrival: Arrival) -> bool:
        return arrival.frame[:6] == mac_bytes(self.macs[arrival.ifindex])

    def _endpoint(self, address: Address) -> Pod | None:
        return next((pod for pod in self.pods.values() if address in pod.addresses), None)

    def _prefix_reason(self, seen: Seen) -> str:
        return self._stack_prefix(seen.destination)

    def _stack_prefix(self, address: Address) -> str:
        if address in self.node:
            return "stack_node"
        for networks, reason in ((self.host_cidrs, "stack_host_cidr"), (self.service, "stack_service")):
            if any(_inside(address, network) for network in networks):
                return reason
        return ""

    def _flow_reason(self, arrival: Arrival, seen: Seen) -> str:
        if seen.carrier() in self.carried:
            return "stack_flow"
        if not seen.is_error():
            return ""
        try:
            quote = read(arrival.frame[seen.transport + 8 : seen.end], None, version=seen.source.version)
        except Malformed:
            return "stack_quote"
        bad = quote.cut or quote.part != "whole" or quote.carrier() in self.carried
        return "stack_quote" if bad else ""


def read(data: bytes, arrival: Arrival | None, *, version: int = 0) -> Seen:
    """The packet ``data`` begins with. ``arrival`` None: it is quoted by an error and may end early.

    Raises Malformed.
    """
    if arrival is not None:
        version = 4 if arrival.frame[12:14] == b"\x08\x00" else 6
    seen = _read_v4(data, arrival) if version == 4 else _read_v6(data, arrival)
    if not seen.cut and seen.part != "later":
        _read_transport(data[: seen.end], seen, arrival)
    seen.transport += 14
    seen.end += 14
    return seen


def _read_v4(data: bytes, arrival: Arrival | None) -> Seen:
    if len(data) < 20:
        raise Malformed
    header, total = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
    if total == 0 and arrival is not None and arrival.gso_size:
        total = len(data)
    if data[0] >> 4 != 4 or header < 20 or total < header:
        raise Malformed
    end = min(total, len(data)) if arrival is None else total
    if end > len(data) or header > end:
        raise Malformed
    word = int.from_bytes(data[6:8], "big")
    return Seen(
        IPv4Address(data[12:16]),
        IPv4Address(data[16:20]),
        hop_limit=data[8],
        protocol=data[9],
        transport=header,
        end=end,
        options=header > 20,
        part="later" if word & 0x1FFF else "first" if word & 0x2000 else "whole",
    )


def _read_v6(data: bytes, arrival: Arrival | None) -> Seen:
    if len(data) < 40 or data[0] >> 4 != 6:
        raise Malformed
    length = int.from_bytes(data[4:6], "big")
    end = 40 + length
    if arrival is None:
        end = min(end, len(data))
    elif length == 0 and arrival.gso_size:
        end = len(data)
    if end > len(data):
        raise Malformed
    seen = Seen(IPv6Address(data[8:24]), IPv6Address(data[24:40]), hop_limit=data[7], end=end)
    if seen.source.ipv4_mapped or seen.destination.ipv4_mapped:  # type: ignore[union-attr]  # both are IPv6
        raise Malformed
    number, place = data[6], 40
    for _ in range(CHAIN_MAX):
        if number not in (HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS):
            break
        if end < place + 8:
            raise Malformed
        if number == FRAGMENT:
            word = int.from_bytes(data[place + 2 : place + 4], "big")
            seen.part = "later" if word & 0xFFF8 else "first" if word & 1 else "whole"
            step = 8
        else:
            seen.options, step = True, 8 * (data[place + 1] + 1)
        number, place = data[place], place + step
        if seen.part == "later":
            break
    if seen.part != "later" and number in (HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS):
        seen.options = seen.cut = seen.chained = True
        return seen
    seen.protocol, seen.transport = number, place
    return seen


def _read_transport(data: bytes, seen: Seen, arrival: Arrival | None) -> None:
    """``data`` ends where the packet does."""
    rest = data[seen.transport :]
    if seen.protocol in (TCP, UDP, SCTP):
        _read_ports(rest, seen, arrival)
    elif seen.protocol == (ICMP if seen.source.version == 4 else ICMPV6):
        _read_icmp(rest, seen)


def _read_ports(rest: bytes, seen: Seen, arrival: Arrival | None) -> None:
    if len(rest) < 4 or (arrival is not None and seen.protocol == TCP and len(rest) < 13):
        seen.cut = True
    if len(rest) >= 4:
        seen.source_port = int.from_bytes(rest[:2], "big")
        seen.destination_port = int.from_bytes(rest[2:4], "big")
    if arrival is None or seen.cut:
        return
    seen.transport_length = (rest[12] >> 4) * 4 if seen.protocol == TCP else 8
    seen.cut = len(rest) < seen.transport_length or (seen.protocol == TCP and seen.transport_length < 20)
    if seen.protocol == UDP and not seen.cut and seen.part == "whole" and not arrival.gso_size:
        seen.cut = not 8 <= int.from_bytes(rest[4:6], "big") <= len(rest)


def _read_icmp(rest: bytes, seen: Seen) -> None:
    """A query's identifier stands for the port of the side that asks, its type for the other's."""
    if len(rest) < 8:
        seen.cut = True
        return
    seen.icmp_type = rest[0]
    identifier = int.from_bytes(rest[4:6], "big")
    for request, (protocol, reply) in ECHO.items():
        if protocol == seen.protocol and seen.icmp_type == request:
            seen.source_port, seen.destination_port = identifier, request
            return
        if protocol == seen.protocol and seen.icmp_type == reply:
            seen.source_port, seen.destination_port = request, identifier
            return
    seen.destination_port = seen.icmp_type


def fits(arrival: Arrival, seen: Seen, mtu: int) -> bool:
    """Whether the longest segment is no longer than ``mtu``.

    Of what is no TCP the kernel is asked, which knows nothing of the segments of a test run: they do not.
    """
    if len(arrival.frame) - 14 <= mtu:
        return True
    if not arrival.gso_size or seen.protocol != TCP:
        return False
    return seen.transport - 14 + seen.transport_length + arrival.gso_size <= mtu


def nd_options(data: bytes) -> list[tuple[int, bytes]] | None:
    """Type and value of each; None for what is no list of a few of them."""
    found: list[tuple[int, bytes]] = []
    while data:
        size = 8 * data[1] if len(data) >= 8 else 0
        if size == 0 or size > len(data) or len(found) == OPTIONS_MAX:
            return None
        found.append((data[0], data[2:size]))
        data = data[size:]
    return found


def link_local(mac: str) -> IPv6Address:
    """Of modified EUI-64: RFC 4291, appendix A."""
    raw = mac_bytes(mac)
    identifier = bytes([raw[0] ^ 2, *raw[1:3], 0xFF, 0xFE, *raw[3:]])
    return IPv6Address(IPv6Address("fe80::").packed[:8] + identifier)


def advertised(to: Address, mac: str) -> bytes:
    """The gateway's answer, from the IP header on."""
    message = bytes([NA, 0, 0, 0, 0xE0, 0, 0, 0]) + GATEWAY_V6.packed + bytes([2, 1]) + mac_bytes(mac)
    pseudo = GATEWAY_V6.packed + to.packed + len(message).to_bytes(4, "big") + ICMPV6.to_bytes(4, "big")
    total = sum(int.from_bytes((pseudo + message)[i : i + 2], "big") for i in range(0, 72, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + (~total & 0xFFFF).to_bytes(2, "big") + message[4:]
    return message


def aged(frame: bytes) -> bytes:
    """One hop older; the checksum by RFC 1624, equation 3, as a wrong one has to stay wrong."""
    if frame[12:14] != b"\x08\x00":
        return frame[:21] + bytes([frame[21] - 1]) + frame[22:]
    old, word = int.from_bytes(frame[24:26], "big"), int.from_bytes(frame[22:24], "big")
    total = (~old & 0xFFFF) + (~word & 0xFFFF) + word - 0x0100
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return frame[:22] + bytes([frame[22] - 1, frame[23]]) + (~total & 0xFFFF).to_bytes(2, "big") + frame[26:]


def stays_on_link(address: Address) -> bool:
    """Nothing beyond the link it is said on."""
    if isinstance(address, IPv4Address):
        return (
            address in IPv4Network("0.0.0.0/8")
            or address in IPv4Network("127.0.0.0/8")
            or address in IPv4Network("169.254.0.0/16")
            or int(address) >= int(ip_address("224.0.0.0"))
        )
    return int(address) <= 1 or _is_fe80(address) or address in IPv6Network("ff00::/8")


def _is_fe80(address: Address) -> bool:
    return isinstance(address, IPv6Address) and address in IPv6Network("fe80::/10")


def _inside(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _frame_reason(arrival: Arrival) -> str:
    kind = int.from_bytes(arrival.frame[12:14], "big")
    if kind in (0x8100, 0x88A8):
        return "stack_vlan"
    if kind == 0x0806:
        return "stack_link_talk"
    return "" if kind in (0x0800, 0x86DD) else "stack_not_ip"


def _shape_reason(seen: Seen) -> str:
    if seen.options:
        return "stack_options"
    if seen.part != "whole":
        return "stack_fragment"
    if seen.cut:
        return "stack_transport"
    return "stack_hop_limit" if seen.hop_limit <= 1 else ""


def _talk(arrival: Arrival, good: bool) -> Expected:
    return _stack(arrival, "stack_link_talk") if good else _drop(arrival, "drop_neighbour")


def _answer(arrival: Arrival, pod: Pod, body: bytes) -> Expected:
    """``body``: of ARP all, of ND the message alone, behind the question's IP header."""
    if arrival.frame[12:14] != b"\x08\x06":
        asked = arrival.frame[14:54]
        ends = GATEWAY_V6.packed + asked[8:24]
        body = asked[:4] + len(body).to_bytes(2, "big") + asked[6:7] + b"\xff" + ends + body
    raw = mac_bytes(pod.pod_mac) + mac_bytes(pod.host_mac) + arrival.frame[12:14] + body
    return Expected("answer", "fast_answer", pod.host_ifindex, raw, arrival.mark)


def _into(arrival: Arrival, pod: Pod, reason: str) -> Expected:
    packet = mac_bytes(pod.pod_mac) + mac_bytes(pod.host_mac) + aged(arrival.frame)[12:]
    return Expected("peer", reason, pod.host_ifindex, packet, arrival.mark)


def _stack(arrival: Arrival, reason: str) -> Expected:
    return Expected("stack", reason, 0, arrival.frame, arrival.mark)


def _drop(arrival: Arrival, reason: str) -> Expected:
    return replace(_stack(arrival, reason), verdict="drop")
