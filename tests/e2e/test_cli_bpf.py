"""terway-cli fastpath, bpf and trace as an operator types them on a node, beside what bpftool shows there."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from datapath.acceleration.layout import names_of
from datapath.ebpf import objects
from lab.client import Lab
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.test_cli import cli, cli_json
from tests.e2e.witnesses import reaches, settled
from tests.netns.fastpath.builds import VERSION
from tests.netns.fastpath_window import bpftool

PINS = f"/sys/fs/bpf/terway/v{VERSION}"
PATIENCE = 30.0


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[Bench]:
    """Dual stack, two pods that have talked."""
    with bench(lab, ip_stack="dual") as made:
        made.start()
        web, other = made.pod("web"), made.pod("db")
        settled(made.node)
        assert reaches(web, str(other.ipv4))
        yield made


@pytest.mark.skipif(shutil.which("bpftool") is None, reason="Debian: bpftool")
def test_every_row_of_every_map_is_bpftools(node: Bench) -> None:
    names = names_of(objects.path("pod_egress"))

    def told(name: str, pin: str) -> list[Any]:
        done = node.node.exec(["bpftool", "-j", "map", "dump", "pinned", pin], check=True)
        return [list(row) for row in bpftool.plain_rows(name, json.loads(done.stdout), names)]

    maps = cli_json(node, "bpf", "maps")
    assert {one["pin"] for one in maps} == {f"{PINS}/{one['name']}" for one in maps}
    for one in maps:
        if one["type"] == "ringbuf":
            continue
        for _ in range(5):  # neighbours and routers talk, and are counted
            ours = [[row["key"], row["value"]] for row in cli_json(node, "bpf", "map", one["name"])]
            if ours == (theirs := told(one["name"], one["pin"])):
                break
        assert ours == theirs
        assert len(ours) == one["entries"]


def test_pods_and_where_the_programs_are(node: Bench) -> None:
    pods = {f"{node.node.name}/{name}": node.lab.pod(f"{node.node.name}/{name}") for name in ("web", "db")}
    rows = {row["pod"]: row for row in cli_json(node, "bpf", "endpoints")}
    assert rows.keys() == pods.keys()
    for name, pod in pods.items():
        assert rows[name]["addresses"] == [str(pod.ipv4), str(pod.ipv6)]
        assert rows[name]["fast"]
        assert rows[name]["fast_out_packets"] > 0
        assert name in cli(node, "bpf", "endpoints")
    places = {one["name"]: one["attached"] for one in cli_json(node, "bpf", "progs")}
    assert {a["ifindex"] for a in places["pod_egress"]} == {row["ifindex"] for row in rows.values()}
    assert {a["device"] for a in places["eni_ingress"]} == {"eth1"}
    assert "ingress of eth1 (tcx)" in " ".join(cli(node, "bpf", "progs").split())
    assert "From a pod into another pod of this node." in cli(node, "bpf", "counters")


def test_a_pods_packets_live(node: Bench) -> None:
    web, other = (node.lab.pod(f"{node.node.name}/{name}") for name in ("web", "db"))
    found: list[str] = []
    words = ("trace", f"{node.node.name}/web", "-c", "6")
    reader = threading.Thread(target=lambda: found.append(cli(node, *words)))
    reader.start()
    for _ in range(100):
        assert reaches(web, str(other.ipv4))
        reader.join(0.1)
        if not reader.is_alive():
            break
    reader.join(PATIENCE)
    lines = found[0].splitlines()
    assert len(lines) == 6
    assert any(f"{web.ipv4}" in line and "fast_local" in line and " peer " in line for line in lines)
    for line in lines:
        assert str(web.ipv4) in line or str(web.ipv6) in line or "addresses not read" in line


def test_off_and_on(node: Bench) -> None:
    assert cli(node, "fastpath") == "fast path: on (asked: on)\n"
    off = cli(node, "fastpath", "off").splitlines()
    try:
        assert off[0] == "fast path: off (asked: off)"
        assert off[1].startswith("  because ")
        assert cli_json(node, "fastpath", "status")["state"] == "off"
    finally:
        assert cli(node, "fastpath", "on") == "fast path: on (asked: on)\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bpf", "map", "pod"], "no map 'pod'; there are: endpoints, pods"),
        (["trace", "default/none"], "no pod default/none has an address of this node"),
        (["trace", "web"], "'web' is neither an address nor NAMESPACE/POD"),
        (["fastpath", "maybe"], "'maybe'"),
    ],
)
def test_what_is_not_known_is_one_line(node: Bench, words: list[str], told: str) -> None:
    done = node.node.exec(["terway-cli", *words])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert told in done.stderr


def test_a_daemon_that_is_down_leaves_the_maps_to_bpftool(node: Bench) -> None:
    node.node.stop_agent()
    try:
        done = node.node.exec(["terway-cli", "bpf", "endpoints"])
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "cannot reach terwayd" in done.stderr
        assert "bpftool map dump pinned /sys/fs/bpf/terway/v*/endpoints" in done.stderr
    finally:
        node.start()
        settled(node.node)
    assert len(cli_json(node, "bpf", "map", "endpoints")) == 4


def test_without_bpf_the_reason_is_told(node: Bench) -> None:
    node.node.stop_agent()
    node.node.start_agent(["-bpf", "off"])
    settled(node.node)
    for words in (["bpf", "maps"], ["trace"]):
        done = node.node.exec(["terway-cli", *words])
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "-bpf off" in done.stderr
    assert cli(node, "fastpath").startswith("fast path: unavailable (asked: on)\n  because ")
