"""docs/install.md says what is true: cloud actions, capabilities, values, commands of the lab."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from control.aliyun.actions import Action
from control.aliyun.worker import _METHODS
from control.cli.main import _parser as terway_cli
from control.config import eni_conf
from deploy.render import CHART, HERE
from lab.cli.main import parser as terway_lab
from lab.cloud.instance_types import INSTANCE_TYPES
from lab.kubernetes.command_line import parse as run_cluster
from lab.kubernetes.command_line import parser as cluster_parser
from tests.unit.deploy import loaded

GUIDE = Path(HERE.parent / "docs" / "install.md")
TEXT = GUIDE.read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", TEXT, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def lab_commands() -> list[list[str]]:
    return [shlex.split(line[2:]) for line in blocks("console")[0].splitlines()]


def test_the_policy_allows_the_actions_that_are_called_and_no_others() -> None:
    (policy,) = (json.loads(block) for block in blocks("json"))
    (statement,) = policy["Statement"]
    wanted = {f"{'vpc' if 'vpc' in _METHODS[action][0] else 'ecs'}:{action}" for action in Action}
    assert set(statement["Action"]) == wanted
    assert len(statement["Action"]) == len(wanted)
    assert (policy["Version"], statement["Effect"]) == ("1", "Allow")


def test_the_values_are_values_and_the_agent_reads_them() -> None:
    values: Any = loaded.values(blocks("yaml")[0])
    defaults = loaded.values((CHART / "values.yaml").read_text())
    for name, inner in values.items():
        assert set(inner) <= set(defaults[name]), name
    assert not eni_conf.parse(json.dumps(values["eniConfig"]["eniConf"]).encode()).warnings


def test_the_capabilities_are_those_of_the_daemon_set() -> None:
    told = re.findall(r"^\| ([A-Z_]+) \|", TEXT, re.MULTILINE)
    template = (CHART / "templates" / "daemonset.yaml").read_text()
    assert told == re.findall(r"^ +- ([A-Z_]+)$", template, re.MULTILINE)


def test_pods_of_a_node() -> None:
    rows = re.findall(r"^\| (ecs\..*) \| (\d+) \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    assert rows
    for names, enis, addresses, pods in rows:
        for name in names.split(", "):
            limits = INSTANCE_TYPES[name]
            assert (limits.eni, limits.ipv4_per_eni) == (int(enis), int(addresses))
            assert int(pods) == (int(enis) - 1) * int(addresses)


@pytest.mark.parametrize("command", lab_commands(), ids=" ".join)
def test_the_labs_commands_are_commands(command: list[str]) -> None:
    if command[:2] == ["./run", "lab"]:
        terway_lab().parse_args(command[2:])
        return
    assert command[:2] == ["./run", "cluster"]
    words = command[2:]
    run_cluster(words)
    if "terway-cli" in words:
        terway_cli().parse_args(words[words.index("terway-cli") + 1 :])


def test_the_options_of_the_cluster_are_all_told() -> None:
    table = TEXT.split("Options of `up`:")[1].split("\nkubelet")[0]
    told = set(re.findall(r"--[a-z][a-z-]+", table))
    (words,) = (action for action in cluster_parser()._actions if isinstance(action.choices, dict))
    assert isinstance(words.choices, dict)
    up = words.choices["up"]
    assert told == {option for action in up._actions for option in action.option_strings} - {"-h", "--help"}


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT):
        assert (GUIDE.parent / target).exists(), target
