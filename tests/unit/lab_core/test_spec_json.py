from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

import pytest

from lab.spec import Delays, LabSpec, NodeSpec, RuleSpec, SecurityGroupSpec, VSwitchSpec
from lab.spec_json import decode, decode_node, decode_spec, encode

_RICH = LabSpec(
    vswitches=(VSwitchSpec("vsw-1", "z", IPv4Network("10.0.0.0/24"), None),),
    groups=(SecurityGroupSpec("sg", (RuleSpec("ingress", ports=(80, 90)),), inner_accept=False),),
    nodes=(NodeSpec("n", groups=("sg",)),),
    delays=Delays(describe=2.0),
    wire=True,
)


@pytest.mark.parametrize("spec", [LabSpec(), _RICH])
def test_there_and_back_through_text(spec: LabSpec) -> None:
    assert decode_spec(json.loads(json.dumps(encode(spec)))) == spec


def test_what_is_left_out_has_its_default() -> None:
    assert decode_spec({}) == LabSpec()
    assert decode_node({"name": "n"}) == NodeSpec("n")
    assert decode_spec({"delays": {"describe": 3}}).delays == Delays(describe=3.0)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "spec: [] is not an object"),
        ({"mtv": 1}, "spec: unknown field 'mtv'; known are region, vpc_id"),
        ({"mtu": "1500"}, "spec.mtu: '1500' is not a whole number"),
        ({"mtu": True}, "spec.mtu: True is not a whole number"),
        ({"wire": 1}, "spec.wire: 1 is not true or false"),
        ({"cidr": "10.0.0.1/16"}, "spec.cidr: 10.0.0.1/16 has host bits set"),
        ({"nodes": {"name": "n"}}, "spec.nodes: {'name': 'n'} is not a list"),
        ({"nodes": [{}]}, "spec.nodes[0]: 'name' is needed"),
        ({"nodes": [{"name": "n", "groups": [1]}]}, "spec.nodes[0].groups[0]: 1 is not a string"),
        (
            {"groups": [{"group_id": "g", "rules": [{"direction": "ingress", "ports": [1]}]}]},
            "wants 2 items, has 1",
        ),
    ],
)
def test_a_wrong_value_is_named(value: Any, says: str) -> None:
    with pytest.raises(ValueError) as raised:
        decode_spec(value)
    assert says in str(raised.value)


def test_any_part_can_be_read_alone() -> None:
    assert decode(RuleSpec, {"direction": "egress"}, "rule") == RuleSpec("egress")
