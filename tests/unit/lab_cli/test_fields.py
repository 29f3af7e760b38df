"""Faults and rules as words: --help lists what there is, and what does not exist is refused by name."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from lab.cli import faults, groups
from lab.cli.fields import read
from lab.cli.groups import rule_of
from lab.cli.main import main
from lab.cloud import errors
from lab.cloud.error_codes import ERROR_CODES
from lab.cloud.faults import Fault, MetadataFault
from lab.spec import RuleSpec


@pytest.mark.parametrize(
    ("fields", "kind"),
    [(faults.FIELDS, Fault), (faults.METADATA_FIELDS, MetadataFault), (groups.FIELDS, RuleSpec)],
)
def test_every_field_is_listed(fields: dict[str, Any], kind: Any) -> None:
    of_the_cloud = {"rule_id", "created"}
    assert set(fields) == {field.name for field in dataclasses.fields(kind)} - of_the_cloud


@pytest.mark.parametrize("line", ["ecs fault add --help", "ecs group add --help", "ecs group remove --help"])
def test_the_help_lists_them(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(line.split())
    text = capsys.readouterr().out
    wanted = groups.FIELDS if "group" in line else {**faults.FIELDS, **faults.METADATA_FIELDS}
    for name in wanted:
        assert re.search(rf"^  {name} +\S", text, re.MULTILINE), name
    assert "lab.cloud" not in text
    if "fault" in line:
        assert "AttachNetworkInterface" in text
        assert "Throttling.User" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cod=x"], "a fault has no field 'cod'; did you mean code? there are action, instance_id"),
        (["action=AttachNetworkInterfaces"], "did you mean AttachNetworkInterface? there are *, "),
        (["action=Foo"], "action=Foo is unknown; there are *, AssignIpv6Addresses"),
        (["code=Throtling"], "code=Throtling is unknown; did you mean Throttling? there are "),
        (["drop=never"], "drop=never is unknown; there are before, after"),
        (["distortion=x"], "distortion=x is unknown; there are empty, fewer, another"),
        (["action"], "'action' is not KEY=VALUE"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(words: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        read(words, faults.FIELDS, "a fault")


def test_every_code_that_the_cloud_answers_is_in_the_list() -> None:
    tree = ast.parse(Path(errors.__file__).read_text())
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "ApiError"]
    codes = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    assert len(codes) > 20
    assert codes <= set(ERROR_CODES)
    for call in calls:
        statuses = [
            k.value.value for k in call.keywords if k.arg == "status" and isinstance(k.value, ast.Constant)
        ]
        if isinstance(call.args[0], ast.Constant):
            assert ERROR_CODES[str(call.args[0].value)] == (statuses or [400])[0], call.args[0].value


def test_every_code_that_the_agent_tells_apart_is_in_the_list() -> None:
    from control.aliyun.errors import _CAUSES

    assert len(_CAUSES) > 50
    for known in _CAUSES:
        assert any(code.startswith(known) for code in ERROR_CODES), known


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["protocol=TCP"], "a rule needs direction=ingress or direction=egress"),
        (["direction=Foo"], "direction=Foo is unknown; there are ingress, egress"),
        (["direction=ingress", "policy=accept"], "did you mean Accept? there are Accept, Drop"),
        (["direction=ingress", "ports=[80,80]"], "ports=80,80: ALL has no ports"),
        (["direction=ingress", "protocol=TCP", "ports=[90,80]"], "the lower one first"),
        (["direction=ingress", "protocol=TCP", "ports=[0,80]"], "from 1 to 65535"),
        (["direction=ingress", "protocol=TCP", "ports=80"], "rule.ports: 80 is not a list"),
        (["direction=ingress", "priority=0"], "priority=0 is not from 1 to 100"),
        (["direction=ingress", "priority=x"], "rule.priority: 'x' is not a whole number"),
        (["direction=ingress", "peer=10.0.0.1/8"], "peer=10.0.0.1/8: 10.0.0.1/8 has host bits set"),
        (["direction=ingress", "peer=sg-nosuch"], "nor a group; there are sg-cluster"),
        (["drection=ingress"], "a rule has no field 'drection'; did you mean direction?"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        rule_of(words, ["sg-cluster"])


def test_a_rule() -> None:
    words = ["direction=ingress", "protocol=TCP", "ports=[80,90]", "peer=sg-cluster", "priority=7"]
    assert rule_of(words, ["sg-cluster"]) == RuleSpec(
        "ingress", protocol="TCP", ports=(80, 90), peer="sg-cluster", priority=7
    )
