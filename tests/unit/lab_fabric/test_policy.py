"""The merge of security groups into one ordered list: order, defaults, and what is refused."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest

from lab.fabric.errors import ViewError
from lab.fabric.policy import FlowRule, compile_policy, referenced_groups
from lab.spec import RuleSpec, SecurityGroupSpec

EVERYWHERE = IPv4Network("0.0.0.0/0")
GO_OUT = FlowRule(None, accept=True)


def group(*rules: RuleSpec, name: str = "g", inner_accept: bool = False) -> dict[str, SecurityGroupSpec]:
    return {name: SecurityGroupSpec(name, rules, inner_accept)}


def test_no_group_lets_everything_out_and_nothing_in() -> None:
    policy = compile_policy((), {})
    assert (policy.ingress, policy.egress) == ((), (GO_OUT,))


def test_inner_accept_stands_before_the_rules() -> None:
    rules = RuleSpec("ingress", "Drop"), RuleSpec("egress", "Drop")
    policy = compile_policy(["g"], group(*rules, inner_accept=True))
    assert policy.ingress == (FlowRule("g", accept=True), FlowRule(EVERYWHERE, accept=False))
    assert policy.egress == (FlowRule("g", accept=True), FlowRule(EVERYWHERE, accept=False), GO_OUT)


def test_an_enterprise_group_has_no_inner_access_and_lets_nothing_out_by_itself() -> None:
    rule = RuleSpec("egress", peer="10.0.0.0/8")
    policy = compile_policy(["g"], {"g": SecurityGroupSpec("g", (rule,), kind="enterprise")})
    assert policy.ingress == ()
    assert policy.egress == (FlowRule(IPv4Network("10.0.0.0/8"), accept=True),)


def test_order_is_priority_then_drop_across_groups() -> None:
    first = group(
        RuleSpec("ingress", priority=5), RuleSpec("ingress", protocol="UDP", priority=2), name="one"
    )
    second = group(RuleSpec("ingress", "Drop", priority=5), name="two")
    policy = compile_policy(["two", "one"], first | second)
    assert [(rule.accept, rule.protocol) for rule in policy.ingress] == [
        (True, 17),
        (False, None),
        (True, None),
    ]


def test_directions_are_apart() -> None:
    both = group(RuleSpec("ingress", peer="10.0.0.0/8"), RuleSpec("egress", "Drop", peer="::/0"))
    policy = compile_policy(["g"], both)
    assert policy.ingress == (FlowRule(IPv4Network("10.0.0.0/8"), accept=True),)
    assert policy.egress == (FlowRule(IPv6Network("::/0"), accept=False), GO_OUT)


@pytest.mark.parametrize(
    ("protocol", "number"), [("ALL", None), ("tcp", 6), ("UDP", 17), ("ICMP", 1), ("ICMPv6", 58), ("GRE", 47)]
)
def test_protocols(protocol: str, number: int | None) -> None:
    (rule,) = compile_policy(["g"], group(RuleSpec("ingress", protocol=protocol))).ingress
    assert rule.protocol == number


@pytest.mark.parametrize(
    ("written", "meant"), [((-1, -1), (0, 65535)), ((80, 80), (80, 80)), ((1, 65535), (1, 65535))]
)
def test_ports(written: tuple[int, int], meant: tuple[int, int]) -> None:
    (rule,) = compile_policy(["g"], group(RuleSpec("ingress", protocol="TCP", ports=written))).ingress
    assert rule.ports == meant


def test_a_peer_is_a_network_or_a_group() -> None:
    rules = (RuleSpec("ingress", peer="10.1.2.3"), RuleSpec("ingress", peer="sg-other", priority=2))
    policy = compile_policy(["g"], group(*rules))
    assert [rule.peer for rule in policy.ingress] == [IPv4Network("10.1.2.3/32"), "sg-other"]
    assert referenced_groups(group(*rules).values()) == {"g", "sg-other"}


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (RuleSpec("inward"), "direction"),
        (RuleSpec("ingress", policy="accept"), "policy"),
        (RuleSpec("ingress", protocol="SCTP"), "protocol"),
        (RuleSpec("ingress", ports=(0, 65536)), "ports"),
        (RuleSpec("ingress", ports=(-1, 80)), "ports"),
        (RuleSpec("ingress", ports=(81, 80)), "ports"),
    ],
)
def test_a_bad_rule_is_named_with_its_group(rule: RuleSpec, named: str) -> None:
    with pytest.raises(ViewError, match=f"security group 'g'.*{named}"):
        compile_policy(["g"], group(rule))


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(ViewError, match="'sg-gone'"):
        compile_policy(["sg-gone"], {})
