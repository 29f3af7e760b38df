"""Agent and terway-cli from what the image holds and nothing else: each word says what it says in a clone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.cli import main as cli_main
from deploy.image import stage
from lab.client import Lab
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import reaches, settled

PRODUCT = "/var/lib/terway-image"
"""On the node, where the image's /opt/terway would be in a container."""
ALONE = {"PYTHONPATH": PRODUCT, "PYTHONSAFEPATH": "1"}
WORDS: dict[str, tuple[str, str]] = {
    "list": ("", "network_service"),
    "show": ("factory", "eni_max"),
    "mapping": ("", "web"),
    "history": ("10.0.16.254", "nothing is known of 10.0.16.254"),
    "execute": ("network_service default resdb", "web"),
    "metadata": ("", "primary: true"),
    "mode": ("", "datapath: eBPF"),
    "repairs": ("", "counts"),
    "fastpath": ("", "fast path: on"),
    "bpf maps": ("", "endpoints"),
    "bpf map": ("endpoints", "KEY"),
    "bpf progs": ("", "pod_egress"),
    "bpf counters": ("", "From a pod into another pod of this node."),
    "bpf endpoints": ("", "web  fast"),
    "trace": ("-h", "live packets"),
}
"""Word, what is typed behind it, and a part of the answer."""


def words_of(parser: argparse.ArgumentParser, before: str = "") -> Iterator[str]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for group in groups:
        for name, inner in group.choices.items():
            yield from words_of(inner, f"{before}{name} ")
    if not groups:
        yield before.strip()


ENDS_THE_AGENT = {"ledger downgrade"}
"""Tried with the release before at hand, in test_release_before."""


def test_every_word_is_tried() -> None:
    assert set(words_of(cli_main._parser())) - ENDS_THE_AGENT == set(WORDS)


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[Bench]:
    with bench(lab) as made:
        stage.product(Path(made.node.directory.outside(PRODUCT)))
        made.node.start_agent(env=ALONE)
        web, other = made.pod("web"), made.pod("db")
        settled(made.node)
        assert reaches(web, str(other.ipv4))
        yield made


def test_the_agent_is_the_images(node: Bench) -> None:
    code = (
        "import control.agent.main as m, datapath.ebpf.objects as o; print(m.__file__, o.path('pod_egress'))"
    )
    done = node.node.exec([sys.executable, "-c", code], env=ALONE, check=True)
    assert done.stdout.split() == [
        f"{PRODUCT}/control/agent/main.py",
        f"{PRODUCT}/bpf/.output/pod_egress.bpf.o",
    ]
    pid = node.node.agent_pid
    assert pid is not None
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert f"PYTHONPATH={PRODUCT}".encode() in environment


@pytest.mark.parametrize("word", WORDS)
def test_word(node: Bench, word: str) -> None:
    rest, told = WORDS[word]
    command = [sys.executable, "-m", "control.cli.main", *word.split(), *rest.split()]
    done = node.node.exec(command, env=ALONE)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert " ".join(told.split()) in " ".join(done.stdout.split())
