"""Rules of others, as they write them: whose packets the fast path would slip past, and whose not."""

from __future__ import annotations

import pytest

from tests.netns.firewall import rulesets
from tests.netns.firewall.conftest import Node

VARIANTS = ["iptables-nft", "iptables-legacy"]


def place(variant: str, table: str, chain: str) -> str:
    if variant == "iptables-nft":
        return f"nft table ip {table} chain {chain}"
    return f"iptables-legacy table {table} chain {chain} (IPv4)"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "text",
    [
        rulesets.KUBE_PROXY_IPTABLES,
        rulesets.PORTMAP_IPTABLES,
        rulesets.DOCKER,
        rulesets.LIBVIRT,
        rulesets.PODMAN,
    ],
    ids=["kube-proxy", "portmap", "docker", "libvirt", "podman"],
)
def test_rules_for_other_packets_are_no_obstacle(node: Node, variant: str, text: str) -> None:
    node.restore(variant, text)
    assert node.found() == []
    node.run(variant, "-A", "FORWARD", "-s", "10.0.1.5", "-j", "DROP")
    assert node.found() == [f"{place(variant, 'filter', 'FORWARD')}: drop"]


def test_kube_proxy_of_nftables_is_no_obstacle(node: Node) -> None:
    node.nft(rulesets.KUBE_PROXY_NFT)
    assert node.found() == []
    node.nft(rulesets.KUBE_PROXY_NFT.replace("table ip kube-proxy", "table ip another"))
    assert "nft table ip another chain services: a verdict map decides" in node.found()


@pytest.mark.parametrize("variant", VARIANTS)
def test_kube_router(node: Node, variant: str) -> None:
    """All of its chains are one line."""
    node.restore(variant, rulesets.KUBE_ROUTER)
    found = node.obstacles()
    assert [(one.what, one.more) for one in found] == [("reject", 1)]
    assert found[0].where == place(variant, "filter", "KUBE-POD-FW-AAAAAAAAAAAAAAAA")


@pytest.mark.parametrize("variant", VARIANTS)
def test_ufw(node: Node, variant: str) -> None:
    node.restore(variant, rulesets.UFW)
    assert node.found() == [f"{place(variant, 'filter', 'ufw-reject-forward')}: reject"]


def test_calico(node: Node) -> None:
    node.nft(rulesets.CALICO)
    chain = "nft table ip filter chain cali-from-wl-dispatch"
    assert node.found() == [f"{chain}: a verdict map decides", f"{chain}: drop"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_network_policy_by_a_queue(node: Node, variant: str) -> None:
    node.run(variant, "-t", "mangle", "-A", "POSTROUTING", "-j", "NFQUEUE", "--queue-num", "100")
    assert node.found() == [f"{place(variant, 'mangle', 'POSTROUTING')}: queue"]


def test_kube_network_policies(node: Node) -> None:
    queue = "ip saddr @pods queue flags bypass to 100"
    text = """
    table inet kube-network-policies {{
        set pods {{ type ipv4_addr; }}
        chain postrouting {{
            type filter hook postrouting priority srcnat - 5;
            ct state established,related accept
            {queue}
        }}
    }}
    """
    try:
        node.nft(text.format(queue=queue))
    except AssertionError as exc:
        if "queue" not in str(exc) or "No such file" not in str(exc):
            raise
        pytest.skip("this kernel has no queue expression (CONFIG_NFT_QUEUE)")
    assert node.found() == ["nft table inet kube-network-policies chain postrouting: queue"]


@pytest.mark.parametrize("variant", [*VARIANTS, "ip6tables-nft", "ip6tables-legacy"])
def test_policy_of_the_forward_chain(node: Node, variant: str) -> None:
    node.run(variant, "-P", "FORWARD", "DROP")
    (found,) = node.obstacles()
    assert found.what == "policy drop"
    command = found.command.split()
    assert "FORWARD" in node.run(*command), "the operator is told a command that works"
