"""Random packets, a generator per thing that can happen to one, and now and then a damaged one.

Each function of ``KINDS`` aims at a reason, so that a run has its share of each; what it hits is for the
model to say. Everything comes from the one ``Random`` that is handed in.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from itertools import islice
from random import Random

from datapath.acceleration.rows import Pod
from datapath.netlink.wire import Address, mac_bytes
from tests.bpf import packets as p
from tests.bpf.bench import HOST_CIDRS, MARK_FAST, NODE, SERVICE, Bench, device_mac
from tests.bpf.model import Arrival, Flow, Model
from tests.bpf.packets import Ip, frame
from tests.e2e import hostile_frames as hostile

OUTSIDE = {4: ip_address("203.0.113.10"), 6: ip_address("2001:db8:ffff::10")}
STRANGE_MAC = "06:00:00:00:00:99"
DAMAGED = 0.08
_PORTS = 12
_LEAST = {p.IPV4: 34, p.IPV6: 54}


def runnable(raw: bytes) -> bool:
    """Whether BPF_PROG_TEST_RUN takes it: newer kernels refuse less than an IP header after its type.

    What is shorter is tried on the wire, in tests/netns/fastpath.
    """
    return len(raw) >= _LEAST.get(int.from_bytes(raw[12:14], "big"), 14)


class Traffic:
    """``next`` gives arrivals without end; the model's flows steer those that aim at answers."""

    def __init__(self, bench: Bench, model: Model, seed: int) -> None:
        self.bench, self.model, self.random = bench, model, Random(seed)
        self.attacks: dict[str, list[bytes]] = {}
        """Frames by the kind of attack, of pod a."""
        for attack in hostile.attacks(self._stance(bench.pods["a"])):
            if runnable(attack.frame):
                self.attacks.setdefault(attack.kind, []).append(attack.frame)

    def next(self) -> Arrival:
        made = self.random.choice(KINDS)(self)
        if self.random.random() < DAMAGED and made.program not in ("pod_ingress", "eni_egress"):
            made = replace(made, mark=self.random.choice((0x4000, MARK_FAST, 0xFFFFFFFF)))
        damaged = self._damaged(made) if self.random.random() < DAMAGED else made
        return damaged if runnable(damaged.frame) else made

    # Pieces

    def version(self) -> int:
        return self.random.choice((4, 6))

    def pod(self, *names: str) -> Pod:
        return self.bench.pods[self.random.choice(names or ("a", "b", "c"))]

    def address(self, pod: Pod, version: int) -> Address:
        found = pod.address(version)
        assert found is not None
        return found

    def body(self, size: int | None = None) -> tuple[int, bytes]:
        """A protocol and its payload."""
        data = self.random.randbytes(self.random.randrange(64) if size is None else size)
        ports = self.random.randrange(_PORTS), self.random.randrange(_PORTS)
        kind = self.random.randrange(8)
        if kind < 3:
            return p.UDP, p.udp(*ports, data)
        if kind < 6:
            return p.TCP, p.tcp(*ports, data, words=self.random.choice((5, 8)))
        return self.random.choice((p.SCTP, p.GRE)), p.udp(*ports, data)

    def packet(self, source: Address, destination: Address, size: int | None = None) -> Ip:
        if self.random.random() < 0.15 and size is None:
            return self.echo(source, destination)
        protocol, payload = self.body(size)
        return Ip(source, destination, protocol, payload, hop_limit=self.random.randrange(2, 256))

    def echo(self, source: Address, destination: Address) -> Ip:
        kinds = (8, 0, 13, 14) if source.version == 4 else (128, 129)
        rest = p.icmp(self.random.choice(kinds), 0, self.random.randrange(_PORTS), b"ping")
        return Ip(source, destination, p.ICMP if source.version == 4 else p.ICMPV6, rest)

    def other_pod(self, version: int) -> Address:
        return self.address(self.pod(), version)

    def beyond(self, version: int) -> Address:
        """No address of this node's."""
        base = int(OUTSIDE[version])
        return type(OUTSIDE[version])(base + self.random.randrange(4))

    def from_pod(self, pod: Pod, packet: Ip | bytes, *, ethertype: int | None = None) -> Arrival:
        raw = frame(pod.host_mac, pod.pod_mac, packet, ethertype=ethertype)
        return Arrival("pod_egress", pod.host_ifindex, raw)

    def from_vpc(self, eni: str, packet: Ip) -> Arrival:
        raw = frame(device_mac(eni), "ee:ff:ff:ff:ff:ff", packet)
        return Arrival("eni_ingress", self.bench.devices[eni], raw)

    def from_stack(self, packet: Ip | bytes, *, mark: int = 0, ethertype: int | None = None) -> Arrival:
        device = self.random.choice(("a", "b", "eni1", "eni2"))
        raw = frame(STRANGE_MAC, device_mac(device), packet, ethertype=ethertype)
        return Arrival(self.bench.way_out(device), self.bench.devices[device], raw, mark)

    def to_pod(self) -> Arrival:
        """Something that a pod receives, from a pod or from the VPC."""
        version, to = self.version(), self.pod()
        destination = self.address(to, version)
        if self.random.random() < 0.5:
            source = self.pod()
            return self.from_pod(source, self.packet(self.address(source, version), destination))
        eni = "eni2" if to is self.bench.pods["c"] else "eni1"
        return self.from_vpc(eni, self.packet(self.beyond(version), destination))

    def reshaped(self, change: Callable[[Ip], Ip]) -> Arrival:
        version = self.version()
        pod = self.pod()
        if self.random.random() < 0.5:
            away = self.random.choice((self.other_pod(version), self.beyond(version)))
            return self.from_pod(pod, change(self.packet(self.address(pod, version), away)))
        eni = "eni2" if pod is self.bench.pods["c"] else "eni1"
        return self.from_vpc(eni, change(self.packet(self.beyond(version), self.address(pod, version))))

    def _damaged(self, made: Arrival) -> Arrival:
        raw = bytearray(made.frame)
        if self.random.random() < 0.2:
            # Where one's complement has its corners; a router does not ask whether a sum is right.
            raw[24:26] = self.random.choice((0xFEFF, 0xFFFF, 0x0000, 0xFEFE)).to_bytes(2, "big")
            return replace(made, frame=bytes(raw)) if raw[12:14] == b"\x08\x00" else made
        if self.random.random() < 0.5:
            return replace(made, frame=bytes(raw[: self.random.randrange(14, len(raw) + 1)]))
        for _ in range(self.random.randrange(1, 4)):
            # Most of what matters is at the beginning.
            raw[min(int(self.random.expovariate(0.03)), len(raw) - 1)] = self.random.randrange(256)
        return replace(made, frame=bytes(raw))

    # Kinds

    def local(self) -> Arrival:
        version, pod = self.version(), self.pod()
        return self.from_pod(pod, self.packet(self.address(pod, version), self.other_pod(version)))

    def away(self) -> Arrival:
        version, pod = self.version(), self.pod("a", "b")
        return self.from_pod(pod, self.packet(self.address(pod, version), self.beyond(version)))

    def neighbour(self) -> Arrival:
        version, pod = self.version(), self.pod("c")
        return self.from_pod(pod, self.packet(self.address(pod, version), self.beyond(version)))

    def inbound(self) -> Arrival:
        version, pod = self.version(), self.pod("a", "b")
        return self.from_vpc("eni1", self.packet(self.beyond(version), self.address(pod, version)))

    def pod_off(self) -> Arrival:
        version, off, other = self.version(), self.bench.pods["d"], self.pod()
        ends = self.address(off, version), self.address(other, version)
        choice = self.random.randrange(3)
        if choice == 0:
            return self.from_pod(off, self.packet(ends[0], ends[1]))
        if choice == 1:
            return self.from_pod(other, self.packet(ends[1], ends[0]))
        return self.from_vpc("eni1", self.packet(self.beyond(version), ends[0]))

    def unknown_pod(self) -> Arrival:
        version = self.version()
        packet = self.packet(self.beyond(version), self.other_pod(version))
        raw = frame(device_mac("stray"), STRANGE_MAC, packet)
        return Arrival("pod_egress", self.bench.devices["stray"], raw)

    def no_pod(self) -> Arrival:
        version = self.version()
        to = self.random.choice([self.beyond(version), *(a for a in NODE if a.version == version)])
        return self.from_vpc("eni1", self.packet(self.beyond(version), to))

    def other_eni(self) -> Arrival:
        version, pod = self.version(), self.pod("a", "b")
        return self.from_vpc("eni2", self.packet(self.beyond(version), self.address(pod, version)))

    def no_eni(self) -> Arrival:
        version, pod = self.version(), self.pod("lost")
        return self.from_pod(pod, self.packet(self.address(pod, version), self.beyond(version)))

    def not_ip(self) -> Arrival:
        return self._retyped(self.random.choice((0x88CC, 0x0842, 0x0026, 0x88E5)))

    def arp(self) -> Arrival:
        """Of the pod's own, or with a word of it changed."""
        pod = self.pod("a", "b", "c", "solo")
        own = self.address(pod, 4)
        at = self._stance(pod)
        sender = self.random.choice((own, own, own, ip_address("0.0.0.0"), self.other_pod(4)))
        target = self.random.choice((hostile.GATEWAY, hostile.GATEWAY, own, NODE[0]))
        mac = pod.pod_mac if self.random.random() < 0.9 else STRANGE_MAC
        body = hostile.arp((mac, sender), target, operation=self.random.choice((1, 1, 1, 2, 3)))
        return Arrival("pod_egress", pod.host_ifindex, hostile.arp_frame(at, body + bytes(18)))

    def neighbours_arp(self) -> Arrival:
        return self._retyped(p.ARP)

    def attack(self) -> Arrival:
        """Anything that an attacker does."""
        pod = self.bench.pods["a"]
        kind = self.random.choice(sorted(self.attacks))
        return Arrival("pod_egress", pod.host_ifindex, self.random.choice(self.attacks[kind]))

    def solicited(self) -> Arrival:
        """Neighbour discovery as it should be, mostly."""
        pod = self.pod("a", "b", "c")
        at, own = self._stance(pod), self.address(pod, 6)
        mine, strange = hostile.link_local(pod.pod_mac), ip_address("fe80::77")
        source = self.random.choice((own, mine, strange, ip_address("::")))
        target = self.random.choice((hostile.GATEWAY_V6, hostile.GATEWAY_V6, own, mine, NODE[2]))
        options = b"".join(
            hostile.option(
                self.random.choice((1, 2, 14)), at.mac if self.random.random() < 0.9 else STRANGE_MAC
            )
            for _ in range(self.random.choice((0, 0, 1, 1, 1, 2, 6, 7)))
        )
        kind = self.random.choice((hostile.NS, hostile.NS, hostile.NA, hostile.RS))
        if kind == hostile.RS:
            raw = hostile.discovery(at, source, hostile.ALL_ROUTERS, kind, bytes(4) + options)
        elif kind == hostile.NA:
            body = b"\x60\0\0\0" + target.packed + options
            raw = hostile.discovery(at, source, hostile.ALL_NODES, kind, body)
        else:
            raw = hostile.solicitation(at, source, target, options)
        return Arrival("pod_egress", pod.host_ifindex, raw)

    def down(self) -> Arrival:
        """To a pod whose link has gone down a moment ago."""
        version, to = self.version(), self.pod("a", "b")
        self.bench.fast.set_pod_down(to.host_ifindex, True)
        self.model.down.add(to.host_ifindex)
        destination = self.address(to, version)
        if self.random.random() < 0.5:
            return self.from_vpc("eni1", self.packet(self.beyond(version), destination))
        source = self.pod("c")
        return self.from_pod(source, self.packet(self.address(source, version), destination))

    def _stance(self, pod: Pod) -> hostile.Stance:
        def of(one: Pod) -> dict[int, Address]:
            return {address.version: address for address in one.addresses}

        others = self.bench.pods["b"], self.bench.pods["c"]
        node = {4: NODE[0], 6: NODE[2]}
        return hostile.Stance(
            pod.pod_mac, pod.host_mac, of(pod), of(others[0]), others[0].pod_mac, of(others[1]), node
        )

    def _retyped(self, kind: int) -> Arrival:
        made = self.random.choice((self.local, self.inbound))()
        return replace(made, frame=made.frame[:12] + kind.to_bytes(2, "big") + made.frame[14:])

    def discovery(self) -> Arrival:
        pod = self.pod()
        own = self.address(pod, 6)
        source = self.random.choice([IPv6Address("::"), IPv6Address("fe80::1234"), own])
        kind = self.random.choice((133, 134, 135, 136, 137, 130, 131, 132, 143))
        to = self.random.choice([IPv6Address("ff02::1"), IPv6Address("fe80::1"), self.other_pod(6)])
        chain = ((p.HOP_BY_HOP, p.extension()),) if self.random.random() < 0.4 else ()
        packet = Ip(source, to, p.ICMPV6, p.icmp(kind, data=bytes(16)), hop_limit=255, chain=chain)
        if self.random.random() < 0.2:
            return self.from_vpc("eni1", replace(packet, destination=own))
        return self.from_pod(pod, packet)

    def vlan(self) -> Arrival:
        made = self.to_pod()
        return replace(made, frame=p.tagged(made.frame, self.random.randrange(4096)))

    def not_host(self) -> Arrival:
        made = self.to_pod()
        to = self.random.choice((b"\xff" * 6, b"\x33\x33\0\0\0\x01", b"\x06\0\0\0\0\x99"))
        return replace(made, frame=to + made.frame[6:])

    def link_scope(self) -> Arrival:
        version, pod = self.version(), self.pod()
        away = {
            4: ("169.254.169.254", "224.0.0.251", "255.255.255.255", "127.0.0.1", "0.0.0.0", "239.1.1.1"),
            6: ("ff02::fb", "fe80::1", "::1", "::", "ff0e::1"),
        }[version]
        to = ip_address(self.random.choice(away))
        return self.from_pod(pod, self.packet(self.address(pod, version), to))

    def _to_prefix(self, *choices: Address) -> Arrival:
        to, pod = self.random.choice(choices), self.pod()
        return self.from_pod(pod, self.packet(self.address(pod, to.version), to))

    def service(self) -> Arrival:
        return self._to_prefix(*(net[self.random.randrange(200)] for net in SERVICE))

    def host_cidr(self) -> Arrival:
        return self._to_prefix(*(net[self.random.randrange(200)] for net in HOST_CIDRS))

    def node(self) -> Arrival:
        return self._to_prefix(*NODE)

    def options(self) -> Arrival:
        def change(packet: Ip) -> Ip:
            if packet.source.version == 4:
                return replace(packet, options=bytes([1] * 4 * self.random.randrange(1, 11)))
            number = self.random.choice((p.HOP_BY_HOP, p.ROUTING, p.OPTIONS))
            count = self.random.choice((1, 2, 6, 7))
            return replace(packet, chain=((number, p.extension(self.random.randrange(2))),) * count)

        return self.reshaped(change)

    def fragment(self) -> Arrival:
        def change(packet: Ip) -> Ip:
            words = (0x2000, 0x2004, 0x0010) if packet.source.version == 4 else (0x0001, 0x0011, 0x0040)
            return replace(packet, fragment=self.random.choice(words))

        return self.reshaped(change)

    def hop_limit(self) -> Arrival:
        return self.reshaped(lambda packet: replace(packet, hop_limit=self.random.randrange(2)))

    def transport(self) -> Arrival:
        def change(packet: Ip) -> Ip:
            if packet.protocol == p.TCP and self.random.random() < 0.3:
                return replace(packet, payload=p.tcp(1, 2, words=self.random.choice((0, 4, 15)))[:20])
            room = 20 if packet.protocol == p.TCP else 8
            return replace(packet, payload=packet.payload[: self.random.randrange(room)])

        return self.reshaped(change)

    def long(self) -> Arrival:
        """Around the MTU: 1400 of pod b, 1500 of the rest; half of them made of segments."""
        version, pod = self.version(), self.pod("a", "b")
        away = self.random.choice((self.other_pod(version), self.beyond(version)))
        inbound = self.random.random() < 0.4
        whole = self.random.choice((1399, 1400, 1401, 1499, 1500, 1501))
        header = 20 if version == 4 else 40
        ends = self.address(pod, version), away
        if inbound:
            ends = self.beyond(version), ends[0]

        def send(packet: Ip) -> Arrival:
            return self.from_vpc("eni1", packet) if inbound else self.from_pod(pod, packet)

        if self.random.random() < 0.5:
            return send(Ip(*ends, p.UDP, p.udp(1, 2, bytes(whole - header - 8))))
        words = self.random.choice((5, 8))
        protocol, room = self.random.choice(((p.TCP, 4 * words), (p.UDP, 8)))
        data = bytes(2400)  # a test run takes less than a page
        payload = p.tcp(1, 2, data, words=words) if protocol == p.TCP else p.udp(1, 2, data)
        made = send(Ip(*ends, protocol, payload))
        return replace(made, gso_size=whole - header - room)

    def answer(self) -> Arrival:
        """To a flow that the stack sent, if one of those concerns a pod."""
        flow = self._stack_flow()
        if flow is None:
            return self.noted()
        source, destination, source_port, destination_port, protocol = flow
        kind = {p.ICMP: {8: 0, 13: 14}, p.ICMPV6: {128: 129}}.get(protocol)
        if kind is None:
            payload = struct.pack("!HH", destination_port, source_port) + p.tcp(0, 0)[4:]
        elif destination_port in kind:
            payload = p.icmp(kind[destination_port], 0, source_port)
        else:
            return self.noted()
        return self._sent_by(destination, Ip(destination, source, protocol, payload))

    def error(self) -> Arrival:
        """An ICMP error, half of them about what the stack sent."""
        flow = self._stack_flow()
        version = self.version()
        source, destination = self.other_pod(version), self.other_pod(version)
        protocol, payload = self.body()
        if flow is not None and self.random.random() < 0.6:
            source, destination, source_port, destination_port, protocol = flow
            payload = struct.pack("!HH", source_port, destination_port) + p.tcp(0, 0)[4:]
        quoted = Ip(source, destination, protocol, payload).encoded()[: self.random.choice((28, 48, 60, 68))]
        kinds, number = ((3, 4, 11, 12), p.ICMP) if source.version == 4 else ((1, 2, 3, 4), p.ICMPV6)
        error = p.icmp(self.random.choice(kinds), data=quoted)
        return self._sent_by(destination, Ip(destination, source, number, error))

    def _sent_by(self, source: Address, packet: Ip) -> Arrival:
        """From the pod if it is one, else from the VPC."""
        for pod in self.bench.pods.values():
            if source in pod.addresses:
                return self.from_pod(pod, packet)
        to_c = packet.destination in self.bench.pods["c"].addresses
        return self.from_vpc("eni2" if to_c else "eni1", packet)

    def _stack_flow(self) -> Flow | None:
        """One of the first that were noted."""
        known = list(islice(self.model.flows, 400))
        return self.random.choice(known) if known else None

    def source_mac(self) -> Arrival:
        made = self.random.choice((self.local, self.away))()
        other = self.pod().pod_mac if self.random.random() < 0.5 else STRANGE_MAC
        return replace(made, frame=made.frame[:6] + mac_bytes(other) + made.frame[12:])

    def source_address(self) -> Arrival:
        version, pod = self.version(), self.pod("a", "solo")
        stolen = [self.address(self.pod("b", "c"), version), self.beyond(version)]
        stolen += map(ip_address, ("0.0.0.0", "127.0.0.1") if version == 4 else ("::", "fe80::9", "::1"))
        return self.from_pod(pod, self.packet(self.random.choice(stolen), self.other_pod(version)))

    def malformed(self) -> Arrival:
        made = self.to_pod()
        raw = bytearray(made.frame)
        short = 34 if raw[12] == 8 else 54
        choice = self.random.randrange(5)
        if choice == 4 and raw[12] != 8:
            at = self.random.choice((22, 38))
            raw[at : at + 12] = bytes(10) + b"\xff\xff"
            return replace(made, frame=bytes(raw))
        if choice == 0:
            raw = raw[: self.random.randrange(short, len(raw))] if len(raw) > short else raw[:-1]
        elif choice == 1:
            raw[14] = self.random.choice((0x04, 0x44, 0x54, 0x70, 0x05))
        elif choice == 2:
            raw = raw[:-1]
        else:
            raw[16:20] = b"\xff\xff\xff\xff"
        return replace(made, frame=bytes(raw))

    def noted(self) -> Arrival:
        """The stack sends, between pods or beyond."""
        version = self.version()
        ends = [self.other_pod(version), self.random.choice((self.other_pod(version), self.beyond(version)))]
        self.random.shuffle(ends)
        return self.from_stack(self.packet(ends[0], ends[1]))

    def noted_again(self) -> Arrival:
        flow = self._stack_flow()
        if flow is None or flow[4] not in (p.TCP, p.UDP):
            return self.noted()
        payload = struct.pack("!HH", flow[2], flow[3]) + p.tcp(0, 0)[4:]
        return self.from_stack(Ip(flow[0], flow[1], flow[4], payload))

    def noted_marked(self) -> Arrival:
        """As a process of the node may, to be taken for the fast path."""
        made = self.noted()
        return replace(made, mark=MARK_FAST | self.random.choice((0, 0x4000, 1, 0xFFFFFFFF)))

    def astray(self) -> Arrival:
        """With the node's address, mostly by a pod's ENI."""
        version = self.version()
        source = self.random.choice([one for one in NODE if one.version == version])
        away = self.random.choice((self.beyond(version), self.beyond(version), self.other_pod(version)))
        device = self.random.choice(("eni1", "eni2", "eni2", "a"))
        raw = frame(STRANGE_MAC, device_mac(device), self.packet(source, away))
        return Arrival(self.bench.way_out(device), self.bench.devices[device], raw)

    def noted_nothing(self) -> Arrival:
        choice = self.random.randrange(4)
        if choice == 0:
            return self.from_stack(bytes(28), ethertype=p.ARP)
        if choice == 1:
            made = self.fragment()
        elif choice == 2:
            made = self.link_scope()
        else:
            made = self.error()
        return replace(made, program=self.bench.way_out(made.ifindex))


KINDS: tuple[Callable[[Traffic], Arrival], ...] = (
    Traffic.local,
    Traffic.away,
    Traffic.neighbour,
    Traffic.inbound,
    Traffic.pod_off,
    Traffic.unknown_pod,
    Traffic.no_pod,
    Traffic.other_eni,
    Traffic.no_eni,
    Traffic.not_ip,
    Traffic.arp,
    Traffic.arp,
    Traffic.neighbours_arp,
    Traffic.attack,
    Traffic.attack,
    Traffic.attack,
    Traffic.attack,
    Traffic.attack,
    Traffic.solicited,
    Traffic.solicited,
    Traffic.solicited,
    Traffic.down,
    Traffic.down,
    Traffic.discovery,
    Traffic.vlan,
    Traffic.vlan,
    Traffic.not_host,
    Traffic.link_scope,
    Traffic.service,
    Traffic.host_cidr,
    Traffic.node,
    Traffic.options,
    Traffic.fragment,
    Traffic.hop_limit,
    Traffic.transport,
    Traffic.transport,
    Traffic.long,
    Traffic.long,
    Traffic.long,
    Traffic.answer,
    Traffic.error,
    Traffic.error,
    Traffic.source_mac,
    Traffic.source_address,
    Traffic.malformed,
    Traffic.malformed,
    Traffic.noted,
    Traffic.noted_again,
    Traffic.noted_again,
    Traffic.noted_marked,
    Traffic.noted_nothing,
    Traffic.astray,
)
