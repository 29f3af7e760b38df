"""The guard's table: written, read by the program nft, meddled with, mended; no obstacle to the fast path."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from ipaddress import ip_network

import pytest

from datapath import namespace
from datapath.enforcement.guard import Guard
from datapath.enforcement.guard.ruleset import MEANINGS, Reason, ruleset
from datapath.firewall import Firewall
from tests.netns.guard.conftest import Node

ENIS = ("eni1", "eni2")


def test_it_is_written_once(node: Node) -> None:
    (first,) = node.guard.stand(ENIS)
    assert (first.what, first.found) == ("nft table inet terway", "absent")
    assert node.guard.lacking == ""
    assert node.guard.stand(ENIS) == ()
    listed = node.nft("list", "table", "inet", "terway")
    assert 'iifname "cali*" goto from_pod' in listed
    assert "fib saddr . iif oif 0 counter name" in listed
    assert 'iifname "eni2" goto from_eni' in listed
    assert listed.count("comment") == len(ruleset(ENIS).rules)


def test_every_reason_has_a_counter_and_a_meaning(node: Node) -> None:
    assert node.guard.drops() == []
    node.guard.stand(ENIS)
    assert {one.reason for one in node.guard.drops()} == set(Reason) == set(MEANINGS)
    assert all(one.packets == 0 and one.meaning for one in node.guard.drops())


@pytest.mark.parametrize(
    "words",
    [
        "flush ruleset",
        "delete table inet terway",
        "flush table inet terway",
        "flush chain inet terway from_pod",
        "insert rule inet terway from_pod accept",
        "add rule inet terway prerouting counter",
        "add table inet terway { flags dormant; }",
        "chain inet terway prerouting { policy drop; }",
        "add chain inet terway foreign",
        "chain inet terway foreign { type filter hook forward priority 0; policy drop; }",
        "add chain inet terway foreign; add rule inet terway foreign drop; flush chain inet terway to_node",
        "add set inet terway foreign { type ipv4_addr; }",
        "add counter inet terway foreign",
        "add quota inet terway foreign { over 1 mbytes; }",
        "add chain inet terway foreign; add map inet terway other { type ipv4_addr : verdict; };"
        " add element inet terway other { 10.0.0.1 : jump foreign }",
    ],
)
def test_a_foreign_hand_is_undone_and_told(node: Node, words: str) -> None:
    node.guard.stand(ENIS)
    before = node.nft("list", "table", "inet", "terway")
    node.nft(words)
    assert node.nft("list", "ruleset") != before
    (told,) = node.guard.stand(ENIS)
    assert "table inet terway" in told.what
    assert node.nft("list", "table", "inet", "terway") == before
    assert node.guard.stand(ENIS) == ()


def test_a_rule_by_our_comment_that_does_something_else_is_undone(node: Node) -> None:
    node.guard.stand(ENIS)
    before = node.nft("list", "table", "inet", "terway")
    listed = node.nft("-a", "list", "chain", "inet", "terway", "to_node").splitlines()
    ours = next(line for line in listed if "127.0.0.0/8" in line or "@nh" in line or "ip daddr" in line)
    handle, comment = ours.split("# handle ")[1], ours.split('comment "')[1].split('"')[0]
    node.nft(f'replace rule inet terway to_node handle {handle} accept comment "{comment}"')
    (told,) = node.guard.stand(ENIS)
    assert told.what == "rules of chain to_node of nft table inet terway"
    assert node.nft("list", "table", "inet", "terway") == before
    assert node.guard.stand(ENIS) == ()


def test_what_others_do_to_the_table_is_told_and_to_theirs_is_not(node: Node) -> None:
    node.guard.stand(ENIS)
    assert not node.guard.changed(), "what we do ourselves is no news"
    node.nft("add table inet other; add chain inet other mine; add table inet terwayish")
    assert select.select([node.guard.fileno()], [], [], 0)[0] == []
    node.nft("add chain inet terway foreign")
    assert node.guard.changed()
    assert not node.guard.changed()


def test_a_table_that_cannot_be_written_over_is_made_anew(node: Node) -> None:
    node.nft("add table inet terway; add counter inet terway source; add chain inet terway from_pod")
    node.nft("add chain inet terway prerouting { type filter hook output priority 0; }")
    node.nft("add set inet terway neighbours { type ipv4_addr; }")
    assert node.guard.stand(ENIS) != ()
    assert node.guard.lacking == ""
    assert node.guard.stand(ENIS) == ()


def test_counters_outlive_a_change_of_enis(node: Node) -> None:
    node.guard.stand(ENIS)
    node.nft("flush chain inet terway to_node")
    node.nft("delete counter inet terway loopback")
    node.nft("add counter inet terway loopback { packets 7 bytes 700 }")
    assert node.guard.stand(["eni1"]) != ()
    assert {one.reason: one.packets for one in node.guard.drops()}[Reason.LOOPBACK] == 7
    assert "eni2" not in node.nft("list", "table", "inet", "terway")


def test_others_are_left_alone(node: Node) -> None:
    node.nft("add table ip terway; add chain ip terway mine; add rule ip terway mine counter drop")
    node.nft("add table inet other; add chain inet other mine")
    node.guard.stand(ENIS)
    node.guard.remove()
    node.guard.remove()
    listed = node.nft("list", "ruleset")
    assert "table ip terway" in listed
    assert "table inet other" in listed
    assert "table inet terway" not in listed


def test_another_agent_finds_it_as_it_is(node: Node) -> None:
    node.guard.stand(ENIS)
    later = Guard(node.netns)
    assert later.stand(ENIS) == ()
    later.close()


def test_it_is_no_filter_that_the_fast_path_would_pass_by(node: Node) -> None:
    pods = (ip_network("10.0.0.0/16"), ip_network("2001:db8:10::/48"))
    with Firewall(node.netns) as firewall:
        firewall.obstacles(pods=pods, devices=frozenset(ENIS))
        node.guard.stand(ENIS)
        assert not firewall.changed(), "our own changes wake nobody"
        assert firewall.obstacles(pods=pods, devices=frozenset(ENIS)) == ()
    with Firewall(node.netns) as firewall:
        assert firewall.obstacles(pods=pods, devices=frozenset(ENIS)) == ()


REFUSED = """
from datapath.enforcement.guard import Guard
guard = Guard()
assert guard.stand(["eni1"]) == ()
assert guard.drops() == []
print(guard.lacking)
"""


def test_a_refusal_is_told_and_is_no_error(node: Node) -> None:
    """Here the right is missing; a kernel without ``fib`` refuses by another number."""
    with namespace.entered(node.netns):
        done = subprocess.run(
            ["setpriv", "--bounding-set=-net_admin", sys.executable, "-c", REFUSED],
            text=True,
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
    assert "nf_tables refused the table inet terway" in done.stdout
