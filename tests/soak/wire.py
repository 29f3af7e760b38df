"""Packets between pods, nodes and the outside, by sockets of the soak's own: no ICMP rate decides."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice

from datapath import namespace
from lab.messages import LabError
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.witnesses import reaches
from tests.soak.sandbox import Sandbox
from tests.soak.site import Site

PORT = 4747
TRIES = 5
PAUSE = 1.0
"""Seconds an answer may take. Five datagrams lost in five seconds are no accident, on a busy machine too."""
ENOUGH = 4
"""Pairs that a failure names: each costs five seconds."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a conversation: a socket that is bound in a namespace, and the addresses it is called by."""

    name: str
    sock: socket.socket
    addresses: tuple[str, ...]


def silent(sites: tuple[Site, ...], sandboxes: list[Sandbox]) -> list[str]:
    """Pairs between which packets do not come and go, in words; empty if all is well.

    Each pod with the next of its node, with one of the other node, with both nodes, and with the outside.
    """
    with ExitStack() as stack:
        try:
            pods = [(one, _end_of(stack, one)) for one in sandboxes]
        except LabError as exc:
            return [f"a running pod's namespace is gone: {exc}"]
        nodes = {site.name: _end(stack, site.name, site.netns_fd(), (site.node.address,)) for site in sites}
        lost = (
            f"{a.name} does not reach {b.name} at {address}"
            for a, b in _pairs(pods, nodes)
            for address in b.addresses
            if _can(a, address) and not converse(a, b, address)
        )
        outside = (f"{one} does not reach the outside" for one in sandboxes if not reaches_outside(one))
        return list(islice(chain(lost, outside), ENOUGH))


def _pairs(pods: list[tuple[Sandbox, End]], nodes: dict[str, End]) -> Iterator[tuple[End, End]]:
    for index, (sandbox, here) in enumerate(pods):
        near = [end for one, end in pods[index + 1 :] if one.node.name == sandbox.node.name]
        far = [end for one, end in pods if one.node.name != sandbox.node.name]
        yield from ((here, other) for other in near[:1])
        yield from ((here, far[(index + turn) % len(far)]) for turn in range(min(2, len(far))))
        own = nodes[sandbox.node.name]
        yield here, own
        yield own, here


def _can(end: End, address: str) -> bool:
    return ":" not in address or any(":" in own for own in end.addresses)


def _end_of(stack: ExitStack, sandbox: Sandbox) -> End:
    return _end(stack, str(sandbox), sandbox.netns_fd(), sandbox.addresses)


def _end(stack: ExitStack, name: str, netns: int, addresses: tuple[str, ...]) -> End:
    try:
        with namespace.entered(netns):
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    finally:
        os.close(netns)
    stack.callback(sock.close)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", PORT))
    sock.setblocking(False)
    return End(name, sock, addresses)


def converse(here: End, there: End, address: str) -> bool:
    """A datagram to ``address`` and its answer."""
    target = address if ":" in address else f"::ffff:{address}"
    for number in range(TRIES):
        said = f"{address} {number}".encode()
        try:
            here.sock.sendto(said, (target, PORT))
            origin = _heard(there, said)
            if origin is not None:
                there.sock.sendto(b"!" + said, origin)
                if _heard(here, b"!" + said) is not None:
                    return True
        except OSError:
            select.select([], [], [], PAUSE / TRIES)
    return False


def _heard(end: End, said: bytes) -> tuple[str, int] | None:
    """Who has said it; None if it does not come. What else has come is of earlier tries."""
    while select.select([end.sock], [], [], PAUSE)[0]:
        try:
            data, origin = end.sock.recvfrom(256)
        except OSError:
            continue
        if data == said:
            return str(origin[0]), int(origin[1])
    return None


def reaches_outside(sandbox: Sandbox) -> bool:
    netns = sandbox.netns_fd()
    try:
        return reaches(netns, str(OUTSIDE_ADDRESS))
    except OSError:  # its kernel knows no way, or may not take one
        return False
    finally:
        os.close(netns)
