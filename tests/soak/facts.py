"""Facts of a node that change while its agent runs: addresses of its own ENI, settings below /proc/sys/net.

The node's own addresses are its primary ENI's by metadata's word: a virtual one (keepalived's) is not among
them, and IPv6 may come late or go for a while. Each ENI of the pods has the node's own, and no other.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.e2e.witnesses import cloud_enis
from tests.soak.agreement import LEFT, STORY, Finding
from tests.soak.site import Site
from tests.soak.world import World

HOME = "eth0"
VIRTUAL = "10.0.0.99/32"

NODE = {"forwarding": "1", "rp_filter": "0"}
"""Of ``all``, ``default`` and the node's own ENI."""
ENI = {**NODE, "accept_local": "1"}
HOST_LINK = {
    "forwarding": "1",
    "rp_filter": "1",
    "accept_source_route": "0",
    "accept_redirects": "0",
    "proxy_arp": "0",
    "arp_accept": "0",
    "drop_gratuitous_arp": "1",
}
IPV6 = {"forwarding": "1", "disable_ipv6": "0"}
ENI_IPV6 = {**IPV6, "accept_ra": "0", "accept_dad": "0"}


def node_address(world: World, *, node: int, what: str) -> str:
    """One of ``plan.NODE_ADDRESSES``."""
    site = world.sites[node]
    family, there = what.rsplit(" ", 1)
    if family == "IPv6" and not (site.dual and _own_6(site)):
        return "the node has no IPv6"
    site.causes.update(("altered", "node address"))
    match what:
        case "virtual comes":
            site.virtual = True
            return f"{VIRTUAL} on {HOME} {site.shell(f'ip addr add {VIRTUAL} dev {HOME}')}"
        case "virtual goes":
            site.virtual = False
            return f"{VIRTUAL} not on {HOME} {site.shell(f'ip addr del {VIRTUAL} dev {HOME}')}"
        case "IPv6 goes":
            site.shell(f"ip -6 addr flush dev {HOME} scope global")
        case "IPv6 comes":
            for one in _own_6(site):
                site.shell(f"ip -6 addr replace {one} dev {HOME} nodad")
    return f"IPv6 of the node {there}"


def _own_6(site: Site) -> list[str]:
    return [one for one in site.own if ":" in one]


def addresses(site: Site, device: str) -> tuple[str, ...]:
    """Those of all scopes but the link's, with their prefix lengths."""
    lines = site.shell(f"ip -o addr show dev {device} scope global").splitlines()
    return tuple(line.split()[3] for line in lines)


def findings(site: Site) -> Iterator[Finding]:
    there = addresses(site, HOME)
    mine = [one for one in site.own if one in there and (site.dual or ":" not in one)]
    own = {f"{one.split('/')[0]}/{128 if ':' in one else 32}" for one in mine}
    if (VIRTUAL in there) is not site.virtual:
        yield STORY, f"{site.name}: {VIRTUAL} of {HOME} is the system's, and {there} are there"
    enis = [eni for eni in cloud_enis(site.lab, site.node).values() if eni["instance"] == site.instance_id]
    names = [found[1] for eni in enis if (found := site.link_with(str(eni["mac"]))) is not None]
    told = {(one.look, one.what) for one in site.foreign}
    for name in names:
        seen = set(addresses(site, name))
        for one in sorted(seen - own):
            if not any(one in look for look, _ in told):
                yield LEFT, f"{site.name}: {one} on {name} is not the node's own"
        for one in sorted(own - seen):
            yield STORY, f"{site.name}: {one}, the node's own, is not on {name}"
    yield from _settings(site, names)


def _settings(site: Site, enis: list[str]) -> Iterator[Finding]:
    wanted = dict(_wanted(site, enis))
    shown = site.shell(f"grep -H '' {' '.join(wanted)}").splitlines()
    found = dict(line.split(":", 1) for line in shown)
    for path, value in wanted.items():
        if found.get(path, value) != value:
            yield STORY, f"{site.name}: {path} is {found[path]}, not {value}"


def _wanted(site: Site, enis: list[str]) -> Iterator[tuple[str, str]]:
    """By path. What is of a pod that goes meanwhile is not found, and says nothing."""
    hosts = [site.link_of(sandbox) for sandbox in site.running() if not sandbox.broken]
    groups = [
        ("ipv4", ("all", "default", HOME), NODE),
        ("ipv4", enis, ENI),
        ("ipv4", hosts, HOST_LINK),
    ]
    if site.dual:
        groups += [
            ("ipv6", ("all", "default", HOME), IPV6),
            ("ipv6", enis, ENI_IPV6),
            ("ipv6", hosts, IPV6),
        ]
    for family, links, values in groups:
        for link in links:
            for key, value in values.items():
                yield f"/proc/sys/net/{family}/conf/{link}/{key}", value
