"""``./run lab ecs group ...``: rules of security groups, which the fabric follows at once."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from lab.cli.fields import Field, describe, read
from lab.cli.table import table
from lab.cli.words import Output, Words
from lab.client import Lab
from lab.spec import RuleSpec
from lab.spec_json import decode

FIELDS: Mapping[str, Field] = {
    "direction": Field("needed", ("ingress", "egress")),
    "policy": Field("(default: Accept)", ("Accept", "Drop")),
    "protocol": Field("(default: ALL)", ("ALL", "TCP", "UDP", "ICMP", "ICMPv6", "GRE")),
    "ports": Field("[FIRST,LAST] of 1 to 65535, of TCP and UDP (default: [-1,-1], every port)"),
    "peer": Field("a CIDR of IPv4 or IPv6, or the id of a group (default: 0.0.0.0/0)"),
    "priority": Field("1 to 100, 1 first; at one priority Drop wins (default: 1)"),
    "description": Field("text (default: none)"),
}
_EVERY_PORT = (-1, -1)
_EXAMPLE = "sg-cluster direction=ingress protocol=TCP ports=[80,80] peer=0.0.0.0/0"


def declare(ecs: Words) -> None:
    group = ecs.group("group", "Security groups.")
    group.on_lab("list", _list, "List rules.", "")
    for name, text in (("add", "Add a rule to a group."), ("remove", "Remove a rule of a group.")):
        rule = group.on_lab(name, _edit, text, _EXAMPLE, describe(FIELDS))
        rule.add_argument("group", metavar="GROUP")
        rule.add_argument("rule", nargs="+", metavar="FIELD=VALUE", help="see below")
        rule.set_defaults(edit=name)


def rule_of(words: list[str], groups: list[str]) -> RuleSpec:
    """The rule that ``words`` describe, whose peer may be one of ``groups``. Raises ValueError."""
    given = read(words, FIELDS, "a rule")
    if "direction" not in given:
        raise ValueError("a rule needs direction=ingress or direction=egress")
    rule: RuleSpec = decode(RuleSpec, given, "rule")
    if not 1 <= rule.priority <= 100:
        raise ValueError(f"priority={rule.priority} is not from 1 to 100")
    first, last = rule.ports
    if rule.ports != _EVERY_PORT:
        if rule.protocol not in ("TCP", "UDP"):
            raise ValueError(f"ports={first},{last}: {rule.protocol} has no ports")
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"ports={first},{last} are not two numbers from 1 to 65535, the lower one first")
    return replace(rule, peer=_peer(rule.peer, groups))


def _peer(text: str, groups: list[str]) -> str:
    if text in groups:
        return text
    try:
        return str(ip_network(text))
    except ValueError as exc:
        raise ValueError(f"peer={text}: {exc}, nor a group; there are {', '.join(groups)}") from exc


def rule_table(groups: list[dict[str, Any]]) -> str:
    rows = (
        (g["group_id"], r["priority"], r["direction"], r["policy"], r["protocol"], r["ports"], r["peer"])
        for g in groups
        for r in g["rules"]
    )
    return table(("GROUP", "PRIORITY", "DIRECTION", "POLICY", "PROTOCOL", "PORTS", "PEER"), rows)


def _list(lab: Lab, _args: argparse.Namespace) -> Output:
    groups: list[dict[str, Any]] = lab.cloud.state()["groups"]
    return Output(groups, rule_table(groups))


def _edit(lab: Lab, args: argparse.Namespace) -> Output:
    groups = [group["group_id"] for group in lab.cloud.state()["groups"]]
    rule = rule_of(args.rule, groups)
    if args.edit == "add":
        lab.cloud.edit_group(args.group, add=[rule])
    else:
        lab.cloud.edit_group(args.group, remove=[rule])
    return _list(lab, args)
