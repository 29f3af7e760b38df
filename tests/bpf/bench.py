"""A node of four pods and two ENIs that packets are run through the programs of.

The devices exist in a namespace of the bench's own, as BPF_PROG_TEST_RUN wants the device of a packet; they
are down, and no packet ever leaves.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import numpy as np

from datapath import namespace
from datapath.acceleration.load import Options
from datapath.acceleration.path import FastPath
from datapath.acceleration.rows import Pod, UplinkName, UplinkRow
from datapath.ebpf import libbpf
from datapath.netlink import link
from datapath.netlink.link import End
from datapath.netlink.socket import Socket

SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_TEST_RUN = 10
CONTEXT = 192
"""Bytes of struct __sk_buff; offsets of what we set and read:"""
MARK, IFINDEX, CB, GSO_SEGS, GSO_SIZE = 8, 40, 48, 164, 176
_ROOM = 70000

libc = ctypes.CDLL(None, use_errno=True)

GATEWAY_MAC = "ee:ff:ff:ff:ff:ff"
GATEWAY_MAC_V6 = "ee:ff:ff:ff:ff:fe"
MARK_FAST = 0x20
"""Half of the stamp of the fast path. Nothing believes it alone."""
SERVICE = (ip_network("172.21.0.0/20"), ip_network("fd00:21::/112"))
HOST_CIDRS = (ip_network("198.51.100.0/24"), ip_network("2001:db8:51::/48"))
NODE = tuple(ip_address(a) for a in ("10.0.0.10", "10.0.0.11", "2001:db8:10::a"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program did. ``returned`` is tc's word; the decision is read from skb->cb."""

    returned: int
    verdict: str
    reason: str
    target: int
    packet: bytes
    mark: int


class Bench:
    """``pods`` a, b, c, d: c's ENI has no gateway MACs yet, d has no fast path; ``lost`` has an unknown ENI,
    ``solo`` no IPv6.

    ``stray`` is a veth that is no pod's.
    """

    def __init__(self, fast: FastPath, netns: int, devices: Mapping[str, int]) -> None:
        self.fast, self.netns, self.devices = fast, netns, devices
        self.pods: dict[str, Pod] = {}
        self.enis: dict[str, UplinkRow] = {}

    def fill(self) -> None:
        for name, gateways in (("eni1", (GATEWAY_MAC, GATEWAY_MAC_V6)), ("eni2", (None, None))):
            index = self.devices[name]
            self.enis[name] = UplinkRow(index, device_mac(name), gateways[0], gateways[1])
            self.fast.put_uplink(self.enis[name])
        for number, (name, eni) in enumerate(
            (("a", "eni1"), ("b", "eni1"), ("c", "eni2"), ("d", "eni1"), ("lost", "stray"), ("solo", "eni1")),
            1,
        ):
            self.pods[name] = Pod(
                self.devices[name],
                UplinkName(device_mac(eni)),
                pod_mac(name),
                device_mac(name),
                _addresses(number)[: 1 if name == "solo" else 2],
                mtu=1400 if name == "b" else 1500,
                fast=name != "d",
            )
            self.fast.put_endpoint(self.pods[name])
        self.fast.set_home(self.devices["home"])
        self.fast.set_stack_prefixes(service=SERVICE, host_cidrs=HOST_CIDRS, node=NODE)
        self.fast.switch(True)

    def way_out(self, device: str | int) -> str:
        """The program at the egress of a device, by name or number: ENIs have one, pods the other."""
        index = self.devices[device] if isinstance(device, str) else device
        pods = {pod.host_ifindex for pod in self.pods.values()}
        return "pod_ingress" if index in pods else "eni_egress"

    def forget_flows(self) -> None:
        """Records, notes and what was charged for them."""
        fd = self.fast.map_fd("flows")
        for key in libbpf.map_keys(fd, 40):
            libbpf.map_delete(fd, key)
        owners, counts = self.fast.map_fd("flow_owners"), self.fast.map_fd("flow_counts")
        for number, (_, row) in enumerate(self.fast.rows("flow_owners")):
            if row["noted"].any() or row["blind_until"]:
                fresh = np.zeros(1, row.dtype)
                fresh["generation"] = row["generation"]
                libbpf.map_update(owners, number.to_bytes(4, "little"), fresh.tobytes())
        for number, (_, row) in enumerate(self.fast.rows("flow_counts")):
            if row["added"]:
                libbpf.map_update(counts, number.to_bytes(4, "little"), bytes(4))

    def run(
        self, program: str, device: str, packet: bytes, *, mark: int = 0, gso: tuple[int, int] = (0, 0)
    ) -> Outcome:
        """One packet that came by ``device``. ``gso``: size and number of segments."""
        context = bytearray(CONTEXT)
        struct.pack_into("=I", context, MARK, mark)
        struct.pack_into("=I", context, IFINDEX, self.devices[device])
        struct.pack_into("=I", context, GSO_SIZE, gso[0])
        struct.pack_into("=I", context, GSO_SEGS, gso[1])
        fd = self.fast.program_fd(program)
        returned, out, after = test_run(fd, packet, bytes(context))
        words = struct.unpack_from("=5I", after, CB)
        names, word = self.fast.names, self.fast.names.words
        return Outcome(
            returned=returned,
            verdict=names.verdicts[words[word["WORD_VERDICT"]]],
            reason=names.reasons[words[word["WORD_REASON"]]],
            target=words[word["WORD_TARGET"]],
            packet=out,
            mark=struct.unpack_from("=I", after, MARK)[0],
        )


def test_run(fd: int, packet: bytes, context: bytes) -> tuple[int, bytes, bytes]:
    """Return value, packet and struct __sk_buff after one run. libbpf's own wrapper gives no context back."""
    data_in, data_out = ctypes.create_string_buffer(packet, len(packet)), _OUT
    context_in = ctypes.create_string_buffer(context, CONTEXT)
    context_out = ctypes.create_string_buffer(CONTEXT)
    where = [ctypes.addressof(one) for one in (data_in, data_out, context_in, context_out)]
    attr = ctypes.create_string_buffer(
        struct.pack(
            "=IIIIQQIIIIQQIII4x",
            fd, 0, len(packet), _ROOM, where[0], where[1],
            1, 0, CONTEXT, CONTEXT, where[2], where[3], 0, 0, 0,
        ),
        80,
    )  # fmt: skip
    if libc.syscall(SYSCALL, PROG_TEST_RUN, attr, 80):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"run of {len(packet)} bytes")
    _, returned, _, length = struct.unpack_from("=IIII", attr)
    return ctypes.c_int32(returned).value, ctypes.string_at(data_out, length), context_out.raw


_OUT = ctypes.create_string_buffer(_ROOM)


def _addresses(number: int) -> tuple[IPv4Address | IPv6Address, ...]:
    return ip_address(f"10.0.1.{number}"), ip_address(f"2001:db8:10:1::{number}")


def device_mac(name: str) -> str:
    return "02:00:00:00:01:" + bytes([sum(name.encode()) % 256]).hex()


def pod_mac(name: str) -> str:
    return "02:00:00:00:02:" + bytes([sum(name.encode()) % 256]).hex()


@contextmanager
def bench(pins: Path) -> Iterator[Bench]:
    """By records alone, as conntrack has never seen what is run here. ``pins`` lies in a bpf file system.

    Whoever runs a program enters ``Bench.netns`` for it.
    """
    with ExitStack() as stack:
        netns, beyond = namespace.new(), namespace.new()
        stack.callback(os.close, netns)
        stack.callback(os.close, beyond)
        with Socket(netns) as netlink:
            devices = {}
            for name in ("a", "b", "c", "d", "lost", "solo", "stray", "eni1", "eni2", "home"):
                ends = End(name, device_mac(name)), End(name, pod_mac(name))
                netlink.one(link.create_veth(*ends, netns=beyond, mtu=1500))
                found = link.find(netlink, name)
                assert found is not None
                devices[name] = found.index
        options = Options(conntrack=False)
        fast = stack.enter_context(FastPath.open(pins / "terway", netns=netns, options=options))
        made = Bench(fast, netns, devices)
        made.fill()
        yield made
