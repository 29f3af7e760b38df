"""A trunk ENI and members for tests: ``A`` of the usual VPC is the trunk, with two members on its device."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
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


_PROGRAMS = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int push(struct __sk_buff *skb)
{
	bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), VID);
	return 0;
}
SEC("tc") int push_by_source(struct __sk_buff *skb)
{
	__u32 v4 = 0, v6[4] = {};
	if (skb->protocol == bpf_htons(ETH_P_IP))
		bpf_skb_load_bytes(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, saddr), &v4, 4);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		bpf_skb_load_bytes(skb, ETH_HLEN + __builtin_offsetof(struct ipv6hdr, saddr), v6, 16);
	if (v4 == bpf_htonl(V4) || v6[3] == bpf_htonl(V6))
		bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), VID);
	return 0;
}
SEC("tc") int pop(struct __sk_buff *skb)
{
	if (skb->vlan_present)
		bpf_skb_vlan_pop(skb);
	return 0;
}
char _license[] SEC("license") = "GPL";
"""


def compiled(tag: int, directory: Path) -> Path:
    """Programs of tc that tag what leaves a device, all or what is from FIRST, and untag what comes."""
    source, target = directory / "tags.bpf.c", directory / "tags.bpf.o"
    v4, v6 = (int(address(ADDRESS[FIRST, family])) & 0xFFFFFFFF for family in (4, 6))
    source.write_text(f"#define VID {tag}\n#define V4 {v4}u\n#define V6 {v6}u\n{_PROGRAMS}")
    include = next(iter(Path("/usr/include").glob("*-linux-gnu")), Path("/usr/include"))
    command = ["clang", "-O2", "-g", "-target", "bpf", f"-I{include}", "-c", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


@contextmanager
def hooked(net: Net, path: Path, programs: dict[Direction, str]) -> Iterator[None]:
    """Meanwhile these programs are on A's device, at A's end.

    ``push`` puts the tag beside the frame, as a VLAN device and act_vlan do: vlan_dev_hard_start_xmit() calls
    __vlan_hwaccel_put_tag() and hands the frame to the device below. This kernel has neither.
    """
    with Object(path) as program, namespace.entered(net.namespaces[A]), ExitStack() as undo:
        program.load()
        for direction, name in programs.items():
            hook = TcHook(net.owner_ifindex(A), direction)
            hook.create()
            hook.attach(program.program_fd(name))
            undo.callback(hook.detach)
        yield
