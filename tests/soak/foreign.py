"""What somebody's hand puts beside the agent's objects: at ENIs, at pods' host links, among rules and routes.

Each is taken off by the agent, or told: docs/drift.md says which. A quiet moment waits until what is taken
off is gone, and until what is told has been told; then the hand takes that back, and the agent says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from datapath import namespace
from datapath.acceleration import bpf_call
from datapath.acceleration.attach import BLOCKS
from datapath.acceleration.bpf_call import TcxHook
from datapath.ebpf import libbpf
from tests.e2e.witnesses import cloud_enis
from tests.soak.agreement import LEFT, STORY, Finding
from tests.soak.sandbox import Sandbox
from tests.soak.site import Foreign, Site
from tests.soak.world import World

STRANGE_MAC = "02:00:00:00:be:ee"
NOBODY = "10.9.9.9"
ELSEWHERE = "203.0.113.0/24"
_PIN = "/sys/fs/bpf/foreign"
_GONE = re.compile(r"gone again: |: no more$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Place:
    """Names that an addition is made with."""

    link: str
    eni: str
    eni_index: int
    mac: str
    eni_address: str
    gateway: str
    pod: str

    @property
    def table(self) -> int:
        return 1000 + self.eni_index


def _address(text: str, device: str, *, told: str = "") -> Foreign:
    look = f"ip -o addr show dev {device} | grep ' {text} '"
    return Foreign(f"ip addr add {text} dev {device}", look, f"ip addr del {text} dev {device}", told)


def _route(text: str, table: int) -> Foreign:
    look = f"ip -4 route show table {table} | grep '{text}'"
    return Foreign(f"ip route add {text} table {table}", look, f"ip route del {text} table {table}")


def _rule(text: str, look: str, *, told: str = "", pod: str = "") -> Foreign:
    put, shown = f"ip rule add {text}", f"ip -4 rule show | grep '{look}'"
    return Foreign(put, shown, f"ip rule del {text}", told, pod)


def _neighbour(address: str, device: str, *, told: str = "") -> Foreign:
    put = f"ip neigh replace {address} lladdr {STRANGE_MAC} nud permanent dev {device}"
    look = f"ip neigh show {address} dev {device} nud permanent"
    return Foreign(put, look, f"ip neigh del {address} dev {device}", told)


def _filter() -> Foreign:
    program = "$(ls -d /sys/fs/bpf/terway/v*/prog_eni_ingress | tail -n 1)"
    where = f"block {BLOCKS.ingress} pref 1 protocol all"
    put = f"tc filter add {where} bpf da object-pinned {program}"
    return Foreign(put, f"tc filter show block {BLOCKS.ingress} | grep 'pref 1 '", f"tc filter del {where}")


def _qdisc(at: Place) -> Foreign:
    put = f"tc qdisc add dev {at.eni} root tbf rate 1gbit burst 1mb latency 50ms"
    told = f"put a qdisc tbf .*{at.mac}"
    return Foreign(
        put, f"tc qdisc show dev {at.eni} root | grep tbf", f"tc qdisc del dev {at.eni} root", told
    )


def _program(at: Place) -> Foreign:
    """Put by a system call: tc(8) of today knows no tcx."""
    pin = f"{_PIN}_{at.eni_index}"
    told = rf"put a (?!qdisc).*{at.mac}"
    return Foreign("", f"ls {pin} && ip link show {at.eni}", f"rm -f {pin}", told)


KINDS: dict[str, Callable[[Place], Foreign]] = {
    "address of the ENI": lambda at: _address(f"{at.eni_address}/20", at.eni),
    "virtual address on an ENI": lambda at: _address(f"{NOBODY}/32", at.eni),
    "address of elsewhere on an ENI": lambda at: _address(
        "192.168.7.1/24", at.eni, told=rf"address 192\.168\.7\.1/24 on link {at.eni}: put there"
    ),
    "address on a host link": lambda at: _address(f"{NOBODY}/32", at.link),
    "route for an ENI's pods": lambda at: _route(f"unreachable {ELSEWHERE}", at.table),
    "route to pods": lambda _: _route(f"unreachable {ELSEWHERE}", 512),
    "rule before all pods'": lambda _: _rule("priority 512 lookup 77", "^512:.*lookup 77"),
    "rule beside a pod's": lambda at: _rule(
        f"priority 2048 from {at.pod} lookup 254", f"^2048:.*from {re.escape(at.pod)} lookup main", pod=at.pod
    ),
    "rule that leads a pod astray": lambda at: _rule(
        f"priority 100 from {at.pod} unreachable",
        f"^100:.*from {re.escape(at.pod)} ",
        told=r"routing of cali\w+.*: ",
        pod=at.pod,
    ),
    "neighbour on a host link": lambda at: _neighbour(NOBODY, at.link),
    "MAC of a gateway": lambda at: _neighbour(at.gateway, at.eni),
    "neighbour on an ENI": lambda at: _neighbour(
        "10.0.31.77", at.eni, told=rf"neighbour 10\.0\.31\.77 on link {at.eni}: "
    ),
    "qdisc of an ENI": _qdisc,
    "filter before the pods'": lambda _: _filter(),
    "program at an ENI": _program,
    "chain in our table": lambda _: Foreign(
        "nft add chain inet terway foreign",
        "nft list table inet terway | grep foreign",
        "nft delete chain inet terway foreign",
    ),
}


def add_foreign(world: World, *, node: int, what: str, slot: int, stays: bool) -> str:
    """One of ``KINDS``, by the pod in ``slot`` or else the steady one; taken away unless it ``stays``."""
    site = world.sites[node]
    sandbox = site.pods.get(slot) or site.pods[0]
    at = None if sandbox.broken else _place(site, sandbox)
    if at is None:
        return "there is no place for it"
    made = KINDS[what](at)
    made.what, made.since = what, site.log_size()
    if any(one.look == made.look for one in site.foreign):
        return f"{what} is there already"
    site.causes.update(("altered", "foreign"))
    said = site.shell(made.put) if made.put else _attach(site, at)
    if stays:
        site.foreign.append(made)
        return f"{what} put there {said}".strip()
    return f"{what} put there and taken away {said} {site.shell(made.remove)}".strip()


def _place(site: Site, sandbox: Sandbox) -> Place | None:
    """None if the pod's ENI is not there any more."""
    enis = cloud_enis(site.lab, site.node).values()
    found = next((eni for eni in enis if sandbox.addresses[0] in eni["addresses"]), None)
    if found is None:
        return None
    mac, at = str(found["mac"]), site.link_with(str(found["mac"]))
    if at is None:
        return None
    ips = (sandbox.result or {}).get("ips", ())
    gateway = next(str(i["gateway"]) for i in ips if ip_address(i["gateway"]).version == 4)
    index, name = at
    first = str(found["addresses"][0])
    return Place(site.link_of(sandbox), name, index, mac, first, gateway, sandbox.addresses[0])


def _attach(site: Site, at: Place) -> str:
    """A program of ours where it does not belong, behind ours."""
    root = Path(f"/proc/{site.node.pid}/root")
    programs = sorted(root.glob("sys/fs/bpf/terway/v*/prog_pod_egress"))
    if not programs:
        return "(there is no program)"
    program, netns = libbpf.open_pinned(str(programs[-1])), site.netns_fd()
    try:
        with namespace.entered(netns):
            link = bpf_call.link_create(program, at.eni_index, TcxHook.INGRESS)
        libbpf.pin(link, f"{root}{_PIN}_{at.eni_index}")
        os.close(link)
    except OSError as exc:
        return f"({exc})"
    finally:
        os.close(program)
        os.close(netns)
    return ""


def unsettled(site: Site) -> Iterator[Finding]:
    """What is still to be taken off, or to be told. The hand takes back what has been told."""
    for one in list(site.foreign):
        there = bool(site.shell(one.look))
        said = site.log_since(one.since)
        if not there and not (one.taken_back and not _GONE.search(said)):
            site.foreign.remove(one)
        elif not there:
            yield STORY, f"{site.name}: {one.what} is gone again, and nobody says so"
        elif one.pod and one.pod not in {a for pod in site.running() for a in pod.addresses}:
            site.shell(one.remove)
            site.foreign.remove(one)
        elif not one.told:
            yield LEFT, f"{site.name}: {one.what}, put there by a hand, is not taken off: {one.look}"
        elif not re.search(one.told, said):
            yield STORY, f"{site.name}: {one.what}, put there by a hand, is told by nobody"
        else:
            one.since, one.taken_back = site.log_size(), True
            site.shell(one.remove)
            yield STORY, f"{site.name}: {one.what} has been told, and is taken back now"
