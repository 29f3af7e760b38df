"""A trunk ENI and members for tests: ``A`` of the usual VPC is the trunk, with two members on its device."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from datapath import namespace
from datapath.ebpf.libbpf import Direction, Object, TcHook
from lab.fabric.view import FabricView, Port, PortKind
from lab.spec import SecurityGroupSpec
from tests.netns.fabric import frames as f
from tests.netns.fabric.net import GATEWAY, MAC, A, Net, address, base_view

FIRST, SECOND = "eni-first", "eni-second"
VLAN = {FIRST: 7, SECOND: 4094}
ADDRESS = {
    (FIRST, 4): "10.0.2.20",
    (FIRST, 6): "2001:db8:10:2::20",
    (SECOND, 4): "10.0.1.21",
    (SECOND, 6): "2001:db8:10:1::21",
}


def member(name: str, *, groups: Iterable[str] = ("open",), mac: str = MAC[A]) -> Port:
    return Port(
        port_id=name,
        kind=PortKind.ENI,
        owner=A,
        mac=mac,
        addresses=frozenset(address(text) for (whose, _), text in ADDRESS.items() if whose == name),
        groups=frozenset(groups),
        trunk=A,
        vlan=VLAN[name],
    )


def trunk_view(*members: Port, groups: Iterable[SecurityGroupSpec] = ()) -> FabricView:
    """The base view with these members, both of them if none is given."""
    base = base_view()
    mine = members or (member(FIRST), member(SECOND))
    return replace(base, ports=(*base.ports, *mine), groups=(*base.groups, *groups))


def tagged(tag: int, frame: bytes, *, protocol: int = f.VLAN) -> bytes:
    """``frame`` with one more tag, whose low 12 bits are the VLAN id."""
    return frame[:12] + protocol.to_bytes(2, "big") + tag.to_bytes(2, "big") + frame[12:]


def of_member(name: str, packet: bytes, *, source: str = MAC[A]) -> bytes:
    """What a member sends."""
    return tagged(VLAN[name], f.ether_ip(GATEWAY, source, packet))


def to_member(name: str, packet: bytes, *, destination: str = MAC[A]) -> bytes:
    """What comes out of the trunk's device for a member."""
    return tagged(VLAN[name], f.ether_ip(destination, GATEWAY, packet))


_PUSH = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int push(struct __sk_buff *skb)
{
	bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), %d);
	return 0;
}
char _license[] SEC("license") = "GPL";
"""


@contextmanager
def pushed(net: Net, tag: int, directory: Path) -> Iterator[None]:
    """Meanwhile what leaves A's device gets this tag beside the frame, as a VLAN device gives it.

    vlan_dev_hard_start_xmit() calls __vlan_hwaccel_put_tag() and hands the frame to the device below; so does
    skb_vlan_push(), which the helper calls. This kernel has no VLAN devices.
    """
    source, target = directory / "push.bpf.c", directory / "push.bpf.o"
    source.write_text(_PUSH % tag)
    include = next(iter(Path("/usr/include").glob("*-linux-gnu")), Path("/usr/include"))
    command = ["clang", "-O2", "-g", "-target", "bpf", f"-I{include}", "-c", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    with Object(target) as program, namespace.entered(net.namespaces[A]):
        program.load()
        hook = TcHook(net.owner_ifindex(A), Direction.EGRESS)
        hook.create()
        hook.attach(program.program_fd("push"))
        try:
            yield
        finally:
            hook.detach()
