"""What stands where in ``./run cluster``, and what it says to words that cannot be meant."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lab.client import Lab
from lab.kubernetes import __main__ as command
from lab.kubernetes import cluster, command_line, options, readiness, status
from lab.kubernetes.command_line import parse, split
from lab.kubernetes.wording import counted
from perf.__main__ import main as perf

NODES = [{"name": "node1", "running": True}, {"name": "node2", "running": False}]


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A cluster that is up, as far as it is looked at here."""
    found = SimpleNamespace(name="cluster", nodes=(), status=lambda: {"nodes": NODES})
    monkeypatch.setattr(Lab, "attach", lambda _name: found)
    return found


@pytest.mark.parametrize(
    "word", ["up", "down", "status", "load web.tar", "kubectl get pods", "node node1 ls"]
)
def test_the_name_stands_before_the_word_or_behind_it(word: str) -> None:
    head, *rest = word.split()
    wanted = vars(parse(["--name", "x", head, *rest]))
    assert wanted["name"] == "x"
    assert vars(parse([head, "--name", "x", *rest])) == wanted
    assert vars(parse([head, "--name=x", *rest])) == wanted


def test_the_name_stands_behind_a_node_and_behind_other_options_too() -> None:
    args = parse(["node", "node1", "--name", "x", "ls", "-l"])
    assert (args.name, args.node, args.command) == ("x", "node1", ["ls", "-l"])
    assert parse(["load", "web.tar", "--name", "x"]).name == "x"
    assert parse(["--nodes", "3", "--name", "x"]).name == "x"


@pytest.mark.parametrize(
    ("words", "own", "other"),
    [
        ("kubectl -n kube-system get pods", "kubectl", "-n kube-system get pods"),
        ("kubectl get --help", "kubectl", "get --help"),
        ("kubectl --help", "kubectl --help", ""),
        ("shell -c true", "shell", "-c true"),
        ("shell --help", "shell --help", ""),
        ("node node1 -- ls -l", "node node1", "ls -l"),
        ("node node1 ls --help", "node node1", "ls --help"),
        ("node --help", "node --help", ""),
        ("node node1 terway-cli --json mode", "node node1", "terway-cli --json mode"),
        ("", "up", ""),
        ("--nodes 3", "up --nodes 3", ""),
        ("--help", "--help", ""),
    ],
)
def test_what_is_another_programs_is_left_to_it(words: str, own: str, other: str) -> None:
    # ``--json`` behind a node's name is ours, behind a command its own.
    assert split(words.split()) == (own.split(), other.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--nodes 0", "--nodes is 0, allowed: 1 and more"),
        ("up --max-pods 0", "--max-pods is 0, allowed: 1 and more"),
        ("up --mode bridge", "bridge is no network mode"),
        ("up --instance-type ecs.none", "ecs.none"),
        ("status --name X", "--name: 'X' is no name"),
        ("--name X status", "--name: 'X' is no name"),
        ("nosuch", "invalid choice: 'nosuch'"),
        ("up --ip-stack ipv5", "--ip-stack: 'ipv5' is none of ipv4, dual, ipv6"),
        ("status --nodes 2", "unrecognized arguments: --nodes 2"),
        ("node", "node wants the NAME of a node"),
        ("load", "the following arguments are required: IMAGE.tar"),
        ("kubectl --json get pods", "kubectl has no --json"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = command.main(words.split())
    except SystemExit as exc:
        code = int(str(exc.code))
    assert (code, told in capsys.readouterr().err) == (2, True)


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("node9", "no node 'node9'; there are node1, node2"),
        ("nodeX", "no node 'nodeX'; there are node1, node2"),
        ("node2", "node2 is off; boot it with `./run lab node reboot --name cluster node2`"),
    ],
)
def test_a_node_that_is_not_there_is_told_from_one_that_is_off(
    name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["node", name, "ls"]) == 1
    assert capsys.readouterr().err == f"cluster: {told}\n"


def test_up_ends_with_an_image_that_is_there(
    monkeypatch: pytest.MonkeyPatch, lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_running", lambda _name: None)
    monkeypatch.setattr(cluster, "up", lambda _wanted, _say: lab)
    monkeypatch.setattr(status, "text", lambda _lab: "all is well")
    for name, typed in (("cluster", "./run cluster"), ("x", "./run cluster --name x")):
        assert command.main(["up", "--name", name]) == 0
        out, err = capsys.readouterr()
        assert out == "all is well\n"
        last = err.splitlines()[-1]
        assert f"`{typed} kubectl run web --image=localhost/busybox:1 -- sleep 1d`" in last
        assert f"`{typed} load IMAGE.tar`" in last
        assert f"`{typed} down`" in last


def test_status_is_one_json_value(
    monkeypatch: pytest.MonkeyPatch, lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: dict[str, Any] = {
        "/api/v1/nodes": {
            "items": [
                {
                    "metadata": {"name": "node1"},
                    "status": {
                        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                        "capacity": {"pods": "45"},
                        "conditions": [{"type": "Ready", "status": "False", "message": "no CNI"}],
                    },
                }
            ]
        },
        "/api/v1/pods": {"items": [{"metadata": {"namespace": "a", "name": "b"}, "spec": {}, "status": {}}]},
    }
    lab.kubernetes = SimpleNamespace(request=lambda _method, path: answers[path])
    lab.directory = None
    monkeypatch.setattr(options, "of", lambda _directory: {"nodes": 1})
    assert command.main(["--json", "status"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["options"] == {"nodes": 1}
    (node,), (pod,) = told["nodes"], told["pods"]
    assert (node["ready"], node["because"], node["addresses"]) == (False, "no CNI", ["10.0.0.1"])
    assert (node["max_pods"], pod["name"], pod["ready"]) == (45, "b", False)


def parts(top: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Each word, its parser, and its line in the help of all."""
    (words,) = (action for action in top._actions if isinstance(action.choices, dict))
    assert isinstance(words, argparse._SubParsersAction)
    lines = {choice.dest: str(choice.help) for choice in words._get_subactions()}
    for name, sub in words.choices.items():
        yield name, sub, lines[name]


def test_every_word_is_told_in_a_sentence_and_every_argument_has_a_help() -> None:
    found = list(parts(command_line.parser()))
    assert len(found) == 7
    for name, sub, line in found:
        assert sub.description == line, name
        assert line[0].isupper(), line
        assert line.endswith("."), line
        assert all(action.help for action in sub._actions), name


def test_numbers_agree_with_their_nouns() -> None:
    assert [counted(n, "node") for n in (1, 2)] == ["1 node", "2 nodes"]
    kept = {"kept": {"kubelet": {"ends": 1, "last": "was killed by SIGKILL"}}}
    node: Any = SimpleNamespace(name="node1", ask=lambda _request: (kept, []))
    assert readiness.restarted(node) == [
        "node1: kubelet was started again once; last it was killed by SIGKILL"
    ]


def test_perf_without_a_word_is_a_usage_error_as_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert perf([]) == perf(["nosuch"]) == 2
    out, err = capsys.readouterr()
    assert (out, "usage: ./run perf WORD" in err) == ("", True)
    assert perf(["--help"]) == 0
    assert "usage: ./run perf WORD" in capsys.readouterr().out
