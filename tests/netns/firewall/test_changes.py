"""What changed is noticed, and what does not matter wakes nobody."""

from __future__ import annotations

import select

import pytest

from datapath.firewall import Firewall
from tests.netns.firewall import rulesets
from tests.netns.firewall.conftest import Node
from tests.pace import patience

PATIENCE = patience(5.0)
CHAIN = "chain passing { type filter hook forward priority 0; }"


def woken(firewall: Firewall) -> bool:
    """Whether the descriptor becomes readable; what it tells is there when the change is."""
    return bool(select.select([firewall], [], [], PATIENCE)[0])


def test_a_rule_wakes_and_stays_until_it_is_read(node: Node) -> None:
    assert node.firewall.changed(), "nothing was read yet"
    assert node.found() == []
    assert not node.firewall.changed()
    node.nft(f"table inet op {{ {CHAIN}; }}")
    assert woken(node.firewall)
    assert node.firewall.drain()
    assert node.firewall.drain(), "once said, it holds until somebody reads"
    assert node.found() == []
    assert not node.firewall.drain()
    node.nft("add rule inet op passing drop")
    assert woken(node.firewall)
    assert node.firewall.changed()
    assert node.found() == ["nft table inet op chain passing: drop"]
    node.nft("delete table inet op")
    assert woken(node.firewall)
    assert node.firewall.drain()
    assert node.found() == []


def test_a_policy(node: Node) -> None:
    node.nft(f"table inet op {{ {CHAIN}; }}")
    assert node.found() == []
    node.nft("add chain inet op passing { policy drop; }")
    assert node.firewall.drain()
    assert node.found() == ["nft table inet op chain passing: policy drop"]


@pytest.mark.parametrize(
    "change",
    [
        "add element ip kube-proxy service-ips { 172.21.0.7 . tcp . 80 : goto service-kubernetes }",
        "add rule ip kube-proxy services ip daddr 172.21.0.8 drop",
        "add chain ip nat KUBE-SVC-AAAAAAAAAAAAAAAA",
        "add rule ip nat KUBE-SERVICES ip daddr 172.21.0.8 drop",
    ],
)
def test_kube_proxy_at_work_wakes_nobody(node: Node, change: str) -> None:
    node.restore("iptables-nft", rulesets.KUBE_PROXY_IPTABLES)
    node.nft(rulesets.KUBE_PROXY_NFT)
    assert node.found() == []
    node.nft(change)
    assert woken(node.firewall), "there is an event"
    assert not node.firewall.drain()
    assert not node.firewall.changed()


def test_events_that_were_lost_count_as_a_change(node: Node) -> None:
    node.nft(f"table ip kube-proxy {{ {CHAIN}; }}")
    assert node.found() == []
    node.nft("\n".join(["add rule ip kube-proxy passing counter drop"] * 8000))
    assert node.firewall.changed(), "of these alone nobody would be told"
    assert node.found() == []
    assert not node.firewall.changed()


@pytest.mark.parametrize("program", ["iptables-legacy", "ip6tables-legacy"])
def test_tables_without_events_are_looked_at(node: Node, program: str) -> None:
    assert node.found() == []
    node.run(program, "-A", "FORWARD", "-j", "ACCEPT")
    assert not node.firewall.changed(), "a rule that does nothing"
    node.run(program, "-P", "FORWARD", "DROP")
    assert node.firewall.changed(), "the table has the same size"
    assert [one.what for one in node.obstacles()] == ["policy drop"]
    assert not node.firewall.changed()
    node.run(program, "-P", "FORWARD", "ACCEPT")
    assert node.firewall.changed()
    assert node.found() == []


def test_reading_makes_no_tables(node: Node) -> None:
    for _ in range(2):
        assert node.found() == []
    for family in ("ip", "ip6"):
        assert node.run("cat", f"/proc/self/net/{family}_tables_names") == ""
    assert node.run("nft", "list", "ruleset") == ""


def test_another_scope_is_read_anew(node: Node) -> None:
    node.nft("table inet op { chain passing { type filter hook forward priority 0; oifname eth7 drop; }; }")
    assert node.firewall.obstacles() == ()
    assert len(node.firewall.obstacles(devices=frozenset({"eth7"}))) == 1
