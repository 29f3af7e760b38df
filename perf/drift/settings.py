"""Settings below /proc/sys/net: the node's, the ENI's link and the pod's host link."""

from __future__ import annotations

from collections.abc import Iterator

from perf.drift.item import Change, Item, Shell, Shown, Thing

_ALL_PODS = "by routes all pods' packets"
_MINE = "by routes all of the pod's packets"
_REVERSE = "by routes what the VPC brings by an ENI"
_LIES = "nobody: the pod could lie"

NODE = (
    ("ipv4/conf/all/forwarding", "0", _ALL_PODS),
    ("ipv4/conf/default/forwarding", "0", "pods that come later"),
    ("ipv4/conf/all/rp_filter", "1", _REVERSE),
    ("ipv4/conf/all/rp_filter", "2", _LIES),
    ("ipv4/conf/default/rp_filter", "1", "ENIs that come later"),
    ("ipv4/conf/{home}/forwarding", "0", "by routes what goes by the node's own ENI"),
    ("ipv4/conf/{home}/rp_filter", "1", "what comes by the node's own ENI and is answered by another"),
    ("ipv6/conf/all/forwarding", "0", _ALL_PODS),
    ("ipv6/conf/default/forwarding", "0", "pods that come later"),
    ("ipv6/conf/default/disable_ipv6", "1", "pods that come later"),
)
"""Path, the value that a foreign hand writes, and whom it harms."""

ENI = (
    ("ipv4/conf/{eni}/forwarding", "0", "by routes what comes by the ENI"),
    ("ipv4/conf/{eni}/rp_filter", "1", _REVERSE),
    ("ipv4/conf/{eni}/accept_local", "0", "the node is not told of an address without a pod"),
    ("ipv6/conf/{eni}/forwarding", "0", "by routes what comes by the ENI"),
    ("ipv6/conf/{eni}/accept_ra", "2", "nobody: a router's word is taken"),
    ("ipv6/conf/{eni}/accept_dad", "1", "addresses that come later wait"),
)

HOST_LINK = (
    ("ipv4/conf/{link}/forwarding", "0", _MINE),
    ("ipv4/conf/{link}/rp_filter", "0", _LIES),
    ("ipv4/conf/{link}/rp_filter", "2", _LIES),
    ("ipv4/conf/{link}/accept_source_route", "1", _LIES),
    ("ipv4/conf/{link}/accept_redirects", "1", _LIES),
    ("ipv4/conf/{link}/proxy_arp", "1", _LIES),
    ("ipv4/conf/{link}/arp_accept", "1", _LIES),
    ("ipv4/conf/{link}/drop_gratuitous_arp", "0", _LIES),
    ("ipv6/conf/{link}/forwarding", "0", _MINE),
)


def items() -> tuple[Item, ...]:
    return (
        *_ip_forward(),
        *_single("node", NODE),
        *_single("eni", ENI),
        *_single("host-link", HOST_LINK),
        *_off(),
    )


def _ip_forward() -> Iterator[Item]:
    """One write that the kernel hands on to every link."""
    look = Shown(
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/default/forwarding "
        "/proc/sys/net/ipv4/conf/{home}/forwarding /proc/sys/net/ipv4/conf/{eni}/forwarding "
        "/proc/sys/net/ipv4/conf/{link}/forwarding"
    )
    alter = Shell("echo 0 > /proc/sys/net/ipv4/ip_forward")
    harms = f"{_ALL_PODS}, Services"
    yield Item("node-ipv4-ip_forward-0", Thing.SETTING, Change.ALTERED, alter, look, harms)


def _single(whose: str, rows: tuple[tuple[str, str, str], ...]) -> Iterator[Item]:
    for path, value, harms in rows:
        version, _, link, setting = path.split("/")
        which = link if link in ("all", "default") else ""
        which = "primary" if link == "{home}" else which
        name = "-".join(filter(None, (whose, version, which, setting, value)))
        file = f"/proc/sys/net/{path}"
        alter, look = Shell(f"echo {value} > {file}"), Shown(f"cat {file}")
        yield Item(name, Thing.SETTING, Change.ALTERED, alter, look, harms, dual=version == "ipv6")


def _off() -> Iterator[Item]:
    """IPv6 switched off takes every address and route of the link with it."""
    eni = Shown(
        "cat /proc/sys/net/ipv6/conf/{eni}/disable_ipv6; ip -o -6 addr show dev {eni} scope global;"
        "ip -6 route show table {table}"
    )
    link = Shown(
        "cat /proc/sys/net/ipv6/conf/{link}/disable_ipv6; ip -o -6 addr show dev {link} | grep fe80::1/128;"
        "ip -6 route show table 512; ip -6 neigh show nud permanent dev {link}"
    )
    for name, where, look in (("eni", "{eni}", eni), ("host-link", "{link}", link)):
        alter = Shell(f"echo 1 > /proc/sys/net/ipv6/conf/{where}/disable_ipv6")
        harms = "all IPv6 of the link's pods"
        full = f"{name}-ipv6-disable_ipv6-1"
        yield Item(full, Thing.SETTING, Change.ALTERED, alter, look, harms, dual=True)
