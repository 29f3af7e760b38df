"""What somebody's hand does to a node: kernel objects altered, links and namespaces gone, a ledger lost, ENIs
detached, addresses taken. What it puts beside the agent's objects is in ``foreign``.
"""

from __future__ import annotations

import shutil
import signal
import time
from ipaddress import ip_address
from pathlib import Path

from datapath.acceleration.rows import address_bytes
from lab.client import Lab
from lab.messages import LabError
from lab.nodes.agent import Wait
from tests.e2e.witnesses import cloud_enis
from tests.soak import hand
from tests.soak.sandbox import Sandbox
from tests.soak.site import LEDGER, Site
from tests.soak.world import World, shuffled

SOCKET = "/run/eni/eni.socket"
_FIND = "find /sys/fs/bpf/terway"
STRANGE_MAC = "02:00:00:00:be:ef"

_MORE = {"host link name": "renamed", "host link alias": "without its alias"}
"""What more is true of a link that was altered so."""


def alter(world: World, *, node: int, what: str, slot: int) -> str:
    """One of ``plan.KERNEL``, of the pod in ``slot`` where it is a pod's."""
    site = world.sites[node]
    sandbox = site.pods.get(slot)
    if sandbox is None or sandbox.broken:
        return "no pod there to harm"
    site.causes.update(("altered", _MORE[what]) if what in _MORE else ("altered",))
    eni = _eni_of(site, sandbox)
    commands = _commands(what, site.link_of(sandbox), sandbox.addresses, eni)
    told = " ".join(site.exec(*command.split()).strip() for command in commands).strip()
    return f"{what} altered" + (f" ({told})" if told else "")


def _commands(what: str, link: str, addresses: tuple[str, ...], eni: str) -> list[str]:
    """Of iproute2, sysctl, nft and bpftool, which share no line with the agent."""
    match what:
        case "host link down":
            return [f"ip link set {link} down"]
        case "host link mtu":
            return [f"ip link set {link} mtu 1300"]
        case "host link MAC":
            return [f"ip link set {link} address {STRANGE_MAC}"]
        case "host link alias":
            return [f"ip link set {link} alias somebody"]
        case "host link name":
            return [f"ip link set {link} name renamed0"]
        case "route of a pod":
            return [f"ip {_family(a)} route del {a} dev {link} table 512" for a in addresses]
        case "rule of a pod":
            return [f"ip {_family(a)} rule del from {a} priority 2048" for a in addresses]
        case "IPv6 of a host link":
            return [f"sysctl -q -w net.ipv6.conf.{link}.disable_ipv6=1"]
        case "neighbour of a pod":
            return [f"ip {_family(a)} neigh del {a} dev {link}" for a in addresses]
        case "forwarding of a host link":
            return [f"sysctl -q -w net.ipv4.conf.{link}.forwarding=0"]
        case "reverse path filter of a host link":
            return [f"sysctl -q -w net.ipv4.conf.{link}.rp_filter=0"]
        case "rows of its addresses":
            keys = [address_bytes(ip_address(a)).hex(" ") for a in addresses]
            return [
                f"{_FIND} -name endpoints -exec bpftool map delete pinned {{}} key hex {k} ;" for k in keys
            ]
        case "pins of maps":
            return [f"{_FIND} -name endpoints -delete", f"{_FIND} -name flow_owners -delete"]
        case "tcx links of ENIs":
            return [f"{_FIND} -name ingress_* -exec bpftool link detach pinned {{}} ;"]
        case "forwarding of the node":
            return ["sysctl -q -w net.ipv4.ip_forward=0"]
        case "rule of all pods":
            return ["ip -4 rule del priority 512"]
        case "gateway address":
            return ["ip addr del 169.254.1.1/32 dev lo"]
        case "nft table":
            return ["nft delete table inet terway"]
        case "ENI mtu":
            return [f"ip link set {eni} mtu 1400"]
        case "ENI link down":
            return [f"ip link set {eni} down"]
        case "reverse path filter of the node":
            return ["sysctl -q -w net.ipv4.conf.all.rp_filter=1"]
        case "forwarding of IPv6":
            return ["sysctl -q -w net.ipv6.conf.all.forwarding=0"]
        case "forwarding of an ENI":
            return [f"sysctl -q -w net.ipv4.conf.{eni}.forwarding=0"]
        case "reverse path filter of an ENI":
            return [f"sysctl -q -w net.ipv4.conf.{eni}.rp_filter=1"]
        case "IPv6 of an ENI":
            return [f"sysctl -q -w net.ipv6.conf.{eni}.disable_ipv6=1"]
        case "router's word on an ENI":
            return [f"sysctl -q -w net.ipv6.conf.{eni}.accept_ra=2"]
    raise ValueError(what)


def _family(address: str) -> str:
    return "-6" if ":" in address else "-4"


def _eni_of(site: Site, sandbox: Sandbox) -> str:
    """The name of the link of the sandbox's ENI."""
    for eni in cloud_enis(site.lab, site.node).values():
        if sandbox.addresses[0] in eni["addresses"]:
            found = site.link_with(str(eni["mac"]))
            return "none" if found is None else found[1]
    return "none"


def delete_link(world: World, *, node: int, slot: int) -> str:
    """The veth under a running pod. Nobody can mend that; the runtime ends the sandbox sooner or later."""
    site = world.sites[node]
    sandbox = site.pods.get(slot)
    if sandbox is None or sandbox.broken:
        return "no pod there to harm"
    site.causes.add("altered")
    sandbox.broken = "its link was deleted"
    site.cut(sandbox)
    told = site.exec("ip", "link", "del", site.link_of(sandbox)).strip()
    return f"link of {sandbox.name} deleted {told}"


def delete_netns(world: World, *, node: int, slot: int) -> str:
    site = world.sites[node]
    sandbox = site.pods.get(slot)
    if sandbox is None or sandbox.broken:
        return "no pod there to harm"
    site.causes.add("altered")
    sandbox.broken = "its namespace was deleted"
    site.cut(sandbox)
    sandbox.remove_netns()
    return f"namespace of {sandbox.name} deleted"


def lose_ledger(world: World, *, node: int, how: str, hand: str, slot: int) -> str:
    """While the agent is down, as a disk, a hand or a restored image does it, or under the agent.

    ``hand``: what is altered of the pod in ``slot`` meanwhile, "" for nothing.
    """
    site = world.sites[node]
    if how == "under the agent":
        site.causes.add("ledger")
        shutil.rmtree(f"/proc/{site.node.pid}/root{LEDGER}", ignore_errors=True)  # twice, or as it is written
        altered = alter(world, node=node, what=hand, slot=slot) if hand else ""
        return f"ledger removed under the agent {altered}".strip()
    site.causes.update(("ledger", "kill"))
    site.report()
    site.node.stop_agent(signal.SIGKILL if how == "wal" else signal.SIGTERM)
    directory = Path(f"/proc/{site.node.pid}/root{LEDGER}")
    file = directory / "terway.db"
    match how if file.exists() else "removed before":
        case "directory":
            for one in directory.iterdir():
                one.unlink()
        case "wal":
            (directory / "terway.db-wal").unlink(missing_ok=True)
        case "emptied":
            (directory / "terway.db-wal").unlink(missing_ok=True)
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for sandbox in site.running():
        sandbox.unrecorded = True
    altered = f"; {alter(world, node=node, what=hand, slot=slot)}" if hand else ""
    try:
        site.start(wait=Wait.SOCKET)
    except LabError:
        return f"ledger lost: {how}{altered}; the agent is started later"
    return f"ledger lost: {how}{altered}"


def spoil_socket(world: World, *, node: int, how: str) -> str:
    """The CNI socket. Nothing fails by it: the executable tries for longer than it takes to be put back."""
    path = Path(f"/proc/{world.sites[node].node.pid}/root{SOCKET}")
    if not path.exists():
        return "no socket there to spoil"
    match how:
        case "removed":
            path.unlink()
        case "open to all":
            path.chmod(0o777)
        case "an empty file":
            path.unlink()
            path.touch()
        case "its directory removed":
            shutil.rmtree(path.parent)
    return f"the CNI socket is {how}"


def detach_eni(world: World, *, node: int, again: bool) -> str:
    """An ENI that is not the steady pod's, by a hand at the console; ``again``: and plugged in once more."""
    site = world.sites[node]
    steady = site.pods[0].addresses[0]
    enis = {
        i: e
        for i, e in cloud_enis(site.lab, site.node).items()
        if e["status"] == "InUse" and e["instance"] == site.instance_id and steady not in e["addresses"]
    }
    if not enis:
        return "no ENI to detach"
    (chosen, *_) = shuffled(str(sorted(enis)), enis)
    site.causes.add("detached")
    site.suspect.update(enis[chosen]["addresses"])
    site.detached.append(chosen)
    try:
        hand.call(site.lab, "DetachNetworkInterface", NetworkInterfaceId=chosen, InstanceId=site.instance_id)
        if not again or not _became(site.lab, chosen, "Available"):
            return f"{chosen} detached"
        hand.call(site.lab, "AttachNetworkInterface", NetworkInterfaceId=chosen, InstanceId=site.instance_id)
    except (hand.Refused, OSError) as exc:
        return f"{chosen} is not detached: {exc}"
    site.causes.add("replugged")
    return f"{chosen} detached and attached again"


def _became(lab: Lab, eni_id: str, status: str) -> bool:
    """Soon, by the lab's clock or without."""
    for _ in range(200):
        found = [e for e in lab.cloud.state()["enis"] if e["id"] == eni_id]
        if not found or found[0]["status"] == status:
            return bool(found)
        time.sleep(0.02)
    return False


def take_address(world: World, *, node: int) -> str:
    """An idle one, by a hand at the console."""
    site = world.sites[node]
    used = {a for sandbox in (*site.running(), *site.owed) for a in sandbox.addresses}
    idle = {
        str(address): eni["id"]
        for eni in cloud_enis(site.lab, site.node).values()
        for address in eni["addresses"][1:]
        if eni["status"] == "InUse" and eni["instance"] == site.instance_id and ":" not in str(address)
        if str(address) not in used
    }
    if not idle:
        return "no idle address to take"
    (chosen, *_) = shuffled(str(sorted(idle)), idle)
    site.causes.add("taken")
    site.suspect.add(chosen)
    try:
        hand.call(
            site.lab,
            "UnassignPrivateIpAddresses",
            **{"NetworkInterfaceId": idle[chosen], "PrivateIpAddress.1": chosen},
        )
    except (hand.Refused, OSError) as exc:
        return f"{chosen} is not taken: {exc}"
    return f"{chosen} taken from {idle[chosen]}"
