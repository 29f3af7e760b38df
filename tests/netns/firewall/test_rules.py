"""One rule at a time, written by nft and iptables: does it act upon packets that the fast path takes?"""

from __future__ import annotations

import pytest

from tests.netns.firewall.conftest import PODS, Node

ACTING = {
    "from a pod": "ip saddr 10.0.1.5 drop",
    "from part of the pods": "ip saddr 10.0.0.0/8 drop",
    "to a pod": "ip daddr 10.0.1.0/24 drop",
    "to pods from elsewhere": "ip saddr 203.0.113.0/24 drop",
    "from pods to elsewhere": "ip daddr 203.0.113.7 reject",
    "from a pod, IPv6": "ip6 saddr 2001:db8:10:1::5 drop",
    "to all but a service": "ip daddr != 172.21.0.0/20 drop",
    "a range": "ip saddr 10.0.1.3-10.0.1.9 drop",
    "below an address": "ip saddr < 10.0.0.9 drop",
    "a mask that is no prefix": "ip saddr & 0.0.0.255 == 5 drop",
    "by a port": "tcp dport 25 reject with tcp reset",
    "by a mark": "meta mark 7 drop",
    "from a pod's device": 'iifname "cali*" drop',
    "to an ENI": 'oifname "eth1" drop',
    "not to docker's": 'oifname != "docker0" drop',
    "a set of addresses": "ip saddr { 192.0.2.1, 192.0.2.3 } drop",
    "of new connections": "ct state new drop",
    "of invalid packets among others": "ct state new,invalid drop",
    "of packets that are not invalid": "ct state != invalid drop",
    "a verdict map": "ct state vmap { established : accept, invalid : drop }",
    "time to live": "ip ttl set 9",
    "class of traffic": "ip6 dscp set cs1",
    "segment size": "tcp option maxseg size set 1400",
    "change before the condition": "ip ttl set 9 ip saddr 192.0.2.1",
    "copy": "dup to 10.0.255.9",
}

HARMLESS = {
    "from elsewhere to a service": "ip saddr 203.0.113.0/24 ip daddr 172.21.0.0/24 drop",
    "from elsewhere to elsewhere": "ip saddr 192.168.0.0/16 ip daddr 192.168.0.0/16 drop",
    "both at once": "ip saddr 192.168.1.1 ip daddr 192.168.1.2 drop",
    "to a service": "ip daddr 172.21.0.10 reject",
    "to a service, IPv6": "ip6 daddr fd00:21::/112 reject",
    "to the node": "ip daddr 10.0.255.1 drop",
    "to multicast": "ip daddr 224.0.0.0/4 drop",
    "to link-local, IPv6": "ip6 daddr fe80::/10 drop",
    "to an address of the node's": "fib daddr type local drop",
    "a range elsewhere": "ip saddr 192.168.0.3-192.168.0.9 ip daddr 172.21.0.3-172.21.0.200 drop",
    "from docker's device": 'iifname "docker0" drop',
    "to other devices by prefix": 'oifname "virbr*" drop',
    "of invalid packets": "ct state invalid counter drop",
    "accept": "ip saddr 10.0.1.5 accept",
    "mark": "ip saddr 10.0.1.5 meta mark set 7",
    "mark of the connection": "ct mark set 7",
    "count and log": 'ip saddr 10.0.1.5 counter log prefix "x" limit rate 3/minute',
    "no conntrack": "ip saddr 192.0.2.1 return",
}


def forward(rule: str) -> str:
    return f"table inet op {{ chain passing {{ type filter hook forward priority 0; {rule}; }}; }}"


@pytest.mark.parametrize("rule", ACTING.values(), ids=ACTING)
def test_acts_on_pods(node: Node, rule: str) -> None:
    if rule.startswith("dup"):
        node.nft(forward(rule).replace("inet", "ip"))
    else:
        node.nft(forward(rule))
    (found,) = node.obstacles()
    assert found.where.endswith("op chain passing")
    assert f"handle {found.rule}" in node.run(*found.command.split())


@pytest.mark.parametrize("rule", HARMLESS.values(), ids=HARMLESS)
def test_does_not(node: Node, rule: str) -> None:
    node.nft(forward(rule))
    assert node.run("nft", "list", "chain", "inet", "op", "passing").count("\n") == 6, "the rule is there"
    assert node.found() == []


XT_ACTING = {
    "a pod": "-s 10.0.1.5 -j DROP",
    "device by prefix": "-i cali+ -j REJECT",
    "any device by prefix": "-o + -j DROP",
    "not from elsewhere": "! -s 192.168.0.0/16 -j DROP",
    "not to docker's": "! -o docker0 -j DROP",
    "not of a mask that is no prefix": "! -s 0.0.0.5/0.0.0.255 -d 198.51.100.1 -j DROP",
    "state": "-m conntrack --ctstate NEW -j DROP",
    "not a translated connection": "-m conntrack ! --ctstate DNAT -j DROP",
    "not the node": "-m addrtype ! --dst-type LOCAL -j DROP",
    "the node as a source": "-m addrtype --src-type LOCAL -j DROP",
    "a match of the unknown": "-m string --algo bm --string x -j DROP",
    "segment size": "-p tcp --syn -j TCPMSS --clamp-mss-to-pmtu",
    "copy": "-j TEE --gateway 10.0.255.9",
}

XT_HARMLESS = {
    "elsewhere": "-s 192.168.0.0/16 -d 192.168.0.0/16 -j DROP",
    "not to pods": "-s 192.168.0.0/16 ! -d 10.0.0.0/8 -j DROP",
    "to a service": "-d 172.21.0.10 -j REJECT",
    "other device": "-i docker0 -j DROP",
    "other devices": "-o virbr+ -j DROP",
    "invalid": "-m conntrack --ctstate INVALID -j DROP",
    "invalid, with a remark": "-m comment --comment x -m conntrack --ctstate INVALID -j DROP",
    "invalid, of old": "-m state --state INVALID -j DROP",
    "translated": "-m conntrack --ctstate DNAT -j DROP",
    "the node": "-m addrtype --dst-type LOCAL -j DROP",
    "mark": "-j MARK --set-mark 7",
    "log": "-m limit --limit 3/min -j LOG",
    "no target": "-s 10.0.1.5",
    "return": "-s 10.0.1.5 -j RETURN",
}


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("rule", XT_ACTING.values(), ids=XT_ACTING)
def test_of_iptables_acts_on_pods(node: Node, program: str, rule: str) -> None:
    table = "mangle" if "TCPMSS" in rule or "TEE" in rule else "filter"
    node.run(program, "-t", table, "-N", "mine")
    node.run(program, "-t", table, "-A", "FORWARD", "-j", "mine")
    node.run(program, "-t", table, "-A", "mine", "-s", "10.0.0.0/8", "-j", "LOG")
    node.run(program, "-t", table, "-A", "mine", *rule.split())
    (found,) = node.obstacles()
    assert "chain mine" in found.where
    if program == "iptables-legacy":
        assert found.rule == 2


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("rule", XT_HARMLESS.values(), ids=XT_HARMLESS)
def test_of_iptables_does_not(node: Node, program: str, rule: str) -> None:
    node.run(program, "-A", "FORWARD", *rule.split())
    assert node.run(program, "-S", "FORWARD").count("\n") == 2, "the rule is there"
    assert node.found() == []


def test_queue_of_old(node: Node) -> None:
    node.run("iptables-legacy", "-A", "FORWARD", "-j", "QUEUE")
    assert [one.what for one in node.obstacles()] == ["queue"]


def test_ip6tables_legacy(node: Node) -> None:
    """Its entries have another form than those of IPv4."""
    node.run("ip6tables-legacy", "-N", "mine")
    node.run("ip6tables-legacy", "-A", "FORWARD", "-i", "docker0", "-j", "DROP")
    node.run("ip6tables-legacy", "-A", "FORWARD", "-d", "fd00:21::/112", "-j", "DROP")
    elsewhere = ("-s", "2001:db9::/32", "!", "-d", "2001:db8::/32")
    node.run("ip6tables-legacy", "-A", "FORWARD", *elsewhere, "-j", "DROP")
    node.run("ip6tables-legacy", "-A", "FORWARD", "-o", "cali+", "-j", "mine")
    assert node.found() == []
    node.run(
        "ip6tables-legacy", "-A", "mine", "-s", "2001:db8:10:1::5", "!", "-d", "2001:db8::/32", "-j", "DROP"
    )
    assert node.found() == ["iptables-legacy table filter chain mine (IPv6): drop"]


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_a_rule_without_a_target_leads_to_the_next(node: Node, program: str) -> None:
    node.run(program, "-A", "FORWARD", "-s", "10.0.0.0/8")
    node.run(program, "-A", "FORWARD", "-s", "10.0.1.6", "-j", "DROP")
    (found,) = node.obstacles()
    assert found.more == 0


def test_masquerade_of_pods(node: Node) -> None:
    node.run("iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/16", "-j", "MASQUERADE")
    node.nft("table ip n { chain p { type nat hook postrouting priority 100; oifname eth1 masquerade; }; }")
    assert node.found() == [
        "nft table ip n chain p: masquerade",
        "iptables-legacy table nat chain POSTROUTING (IPv4): masquerade",
    ]


def test_masquerade_to_where_the_stack_sends(node: Node) -> None:
    rule = "ip saddr 10.0.0.0/16 ip daddr 172.21.0.0/20 masquerade"
    node.nft(f"table ip n {{ chain p {{ type nat hook postrouting priority 100; {rule}; }}; }}")
    assert node.found() == []


def test_masquerade_of_others_towards_pods(node: Node) -> None:
    rule = "ip saddr 192.168.0.0/16 ip daddr 10.0.0.0/8 masquerade"
    node.nft(f"table ip n {{ chain p {{ type nat hook postrouting priority 100; {rule}; }}; }}")
    assert node.found() == ["nft table ip n chain p: masquerade"]


@pytest.mark.parametrize("hook", ["input", "output"])
def test_other_hooks_see_no_forwarded_packets(node: Node, hook: str) -> None:
    node.nft(forward("drop").replace("hook forward", f"hook {hook}"))
    assert node.found() == []


def test_a_chain_that_nobody_jumps_to(node: Node) -> None:
    node.nft(
        "table inet op { chain alone { drop; }; chain passing { type filter hook forward priority 0; }; }"
    )
    assert node.found() == []
    node.nft("add rule inet op passing ip saddr 192.168.0.0/16 ip daddr 192.168.0.0/16 jump alone")
    assert node.found() == []
    node.nft("add rule inet op passing goto alone")
    assert node.found() == ["nft table inet op chain alone: drop"]


def test_a_table_that_sleeps(node: Node) -> None:
    node.nft(forward("drop"))
    assert len(node.found()) == 1
    node.nft("add table inet op { flags dormant; }")
    assert node.found() == []


def test_devices_of_a_netdev_chain(node: Node) -> None:
    for device in ("eth1", "docker0", "cali123"):
        node.link(device)
    hook = "type filter hook ingress device {0} priority 0"
    chain = f"table netdev t {{{{ chain {{0}} {{{{ {hook}; ip protocol udp drop; }}}}; }}}}"
    node.nft(chain.format("docker0"))
    assert node.found() == []
    node.nft(chain.format("eth1"))
    node.nft(chain.format("cali123"))
    assert node.found() == [f"nft table netdev t chain {name}: drop" for name in ("eth1", "cali123")]


def test_ingress_of_inet(node: Node) -> None:
    node.link("eth2")
    node.nft("table inet t { chain i { type filter hook ingress device eth2 priority 0; policy drop; }; }")
    assert node.found() == ["nft table inet t chain i: policy drop"]


def test_no_pods_of_that_version(node: Node) -> None:
    node.run("ip6tables-legacy", "-P", "FORWARD", "DROP")
    assert node.firewall.obstacles(pods=tuple(one for one in PODS if one.version == 4)) == ()
    assert len(node.firewall.obstacles(pods=())) == 1, "unknown pods may be anywhere"
