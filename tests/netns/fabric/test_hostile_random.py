"""Frames of an ENI with random damage: what reaches another port makes no false claim, and each is counted.

The seed is printed; ``FABRIC_SEED=N`` replays it.
"""

from __future__ import annotations

import os
import random
from functools import partial
from ipaddress import IPv6Address, ip_address

from lab.spec import RuleSpec, SecurityGroupSpec
from tests.netns.fabric import frames as f
from tests.netns.fabric.hostile import HONEST, HOSTILE
from tests.netns.fabric.net import (
    ADDRESS,
    ANYWHERE,
    GATEWAY,
    MAC,
    OUTSIDE,
    SERVICE,
    A,
    B,
    C,
    Net,
    grouped_view,
    wait_for,
)

FRAMES, BATCH = 4000, 50
OTHERS = (B, C, SERVICE, OUTSIDE)
OWN = {ip_address(ADDRESS[A, family]) for family in (4, 6)}
EVERYTHING = SecurityGroupSpec("everything", tuple(RuleSpec("ingress", peer=peer) for peer in ANYWHERE))


def bases() -> list[bytes]:
    """What is damaged: each known lie and truth, and as many plain packets to B of all kinds."""
    plain: list[bytes] = []
    for family in (4, 6):
        ends = ADDRESS[A, family], ADDRESS[B, family]
        for payload in (f.udp(9, 53, b"x"), f.tcp(9, 80, flags=2), f.echo(9, v6=family == 6)):
            plain.append(f.ether_ip(GATEWAY, MAC[A], f.ip(*ends, payload)))
    words = [each.frame for each in HOSTILE] + list(HONEST.values())
    return words + plain * (len(words) // len(plain))


def damaged(frame: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, two frames joined, or cut; mostly still with A's MAC and the gateway's."""
    raw = bytearray(frame)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(12, len(raw))
        raw[at] = chance.choice(
            (0, 1, 2, 67, 68, 134, 135, 136, 137, 255, raw[at] ^ 1 << chance.randrange(8))
        )
    if chance.random() < 0.2:
        del raw[chance.randrange(20, len(raw)) :]
    if chance.random() < 0.6:
        raw[:6] = f.mac(GATEWAY)
    return bytes(raw)


def lies(frame: bytes) -> str:
    """What of A's a port must never get, "" for an honest frame."""
    kind, packet = int.from_bytes(frame[12:14], "big"), frame[14:]
    if frame[6:12] != f.mac(GATEWAY) or kind not in (f.IPV4, f.IPV6):
        return "not what a VPC forwards"
    if kind == f.IPV4:
        source, protocol, rest = ip_address(packet[12:16]), packet[9], packet[(packet[0] & 15) * 4 :]
        first = not int.from_bytes(packet[6:8], "big") & 0x1FFF
    else:
        source, (protocol, rest, first) = IPv6Address(packet[8:24]), last_header(packet)
    if source not in OWN:
        return f"by {source}, which is not A's"
    if kind == f.IPV4 and protocol == 2:
        return "group membership"
    if first and kind == f.IPV6 and protocol == f.ICMPV6 and rest[0] in (*range(130, 138), 143):
        return f"ICMPv6 type {rest[0]}, the link's own affair"
    if first and kind == f.IPV4 and protocol == f.ICMP and rest[0] in (5, 9):
        return f"ICMP type {rest[0]}, a router's"
    if first and protocol == f.UDP and struct_ports(rest) in ((67, 68), (547, 546)):
        return "a DHCP server's word"
    return ""


def struct_ports(rest: bytes) -> tuple[int, int]:
    return int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")


def last_header(packet: bytes) -> tuple[int, bytes, bool]:
    """Number and bytes of what the extension headers lead to, and whether that is its beginning."""
    number, rest = packet[6], packet[40:]
    while number in (0, 43, 44, 60):
        if number == 44 and int.from_bytes(rest[2:4], "big") & 0xFFF8:
            return rest[0], rest[8:], False
        step = 8 if number == 44 else 8 * (rest[1] + 1)
        number, rest = rest[0], rest[step:]
    return number, rest, True


def has_counted(net: Net, total: int) -> bool:
    return sum(net.fabric.counters(A).values()) == total


def honest_arrivals(net: Net) -> int:
    """How many frames came to the others. Fails the test for one that lies."""
    came = 0
    for name in OTHERS:
        for got in net.stations[name].waiting():
            came += 1
            assert not lies(got), f"{name} got {got.hex()}: {lies(got)}"
    net.stations[A].waiting()
    return came


def test_hostile_random_frames_deceive_nobody(net: Net) -> None:
    seed = int(os.environ.get("FABRIC_SEED", "") or random.SystemRandom().randrange(1 << 32))
    print(f"FABRIC_SEED={seed}")
    net.reset(grouped_view(EVERYTHING, b=["everything"], c=["everything"]))
    chance, pool = random.Random(seed), bases()
    before = sum(net.fabric.counters(A).values())
    came = 0
    for number in range(1, FRAMES + 1):
        net.stations[A].send(damaged(chance.choice(pool), chance))
        if number % BATCH == 0:
            wait_for(partial(has_counted, net, before + number), "each frame to be counted once")
            came += honest_arrivals(net)
    assert came > FRAMES // 20, "some frames must get through, or nothing is proven"
