"""What the window says of maps, programs, counters and pods, beside what bpftool and packets say."""

from __future__ import annotations

import json
import shutil
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from control.cli.client import CliError
from datapath.acceleration import tc
from datapath.acceleration.tc import Place, Side
from datapath.ebpf.libbpf import Object
from datapath.netlink.socket import Socket
from tests.linux import COUNTS_INSTRUCTIONS, ENI_HOOK
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6
from tests.netns.fastpath.builds import OTHER, build
from tests.netns.fastpath.node import FAR, FastNode
from tests.netns.fastpath_window import bpftool
from tests.netns.fastpath_window.opened import Opened

needs_bpftool = pytest.mark.skipif(shutil.which("bpftool") is None, reason="Debian: bpftool")


@pytest.fixture
def busy(node: FastNode) -> FastNode:
    """Every map has rows, also such as name what is not there."""
    one, other = node.pod(ENI1), node.pod(ENI2)
    node.put(node.pod(ENI1), fast=False)
    node.put_eni(ENI2, known=False)
    node.fast.set_stack_prefixes(
        service=[ip_network("172.16.0.0/16"), ip_network("fd00::/112")],
        host_cidrs=[ip_network("::/0")],
        node=(HOST, HOST_V6),
    )
    for version in (4, 6):
        exchange(one.netns, other.netns, other.address(version))
        exchange(node.world.node, one.netns, one.address(version))
    exchange(one.netns, node.far, FAR)
    return node


def dump(window: Opened, name: str) -> list[tuple[Any, Any]]:
    return [(row["key"], row["value"]) for row in window.get("map", name)]


def of(rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """The one row that has all of these."""
    (found,) = (row for row in rows if fields.items() <= row.items())
    return found


@needs_bpftool
def test_every_row_of_every_map_is_bpftools(busy: FastNode, window: Opened) -> None:
    maps = [one for one in window.get("maps") if one["type"] != "ringbuf"]
    assert {"endpoints", "pods", "uplinks", "stack_prefixes", "flows", "settings"} <= {
        one["name"] for one in maps
    }
    for one in maps:
        told = bpftool.rows(one["name"], one["pin"], busy.fast.names)
        for _ in range(20):  # neighbours and routers talk, and are counted
            ours = dump(window, one["name"])
            if ours == told:
                break
            told = bpftool.rows(one["name"], one["pin"], busy.fast.names)
        assert ours == told
        assert len(ours) == one["entries"]
        assert any(value for _, value in ours) or (one["name"] == "flows" and busy.conntrack)


@needs_bpftool
def test_maps_are_as_bpftool_shows_them(busy: FastNode, window: Opened) -> None:
    maps = window.get("maps")
    assert [one["name"] for one in maps] == [one.name for one in busy.fast.maps()]
    for one in maps:
        told = bpftool.ask("map", "show", "pinned", one["pin"])
        assert (one["id"], one["name"], one["type"]) == (told["id"], told["name"], told["type"])
        sizes = one["key_bytes"], one["value_bytes"], one["max_entries"], one["memory_bytes"]
        assert sizes == tuple(told[n] for n in ("bytes_key", "bytes_value", "max_entries", "bytes_memlock"))
    assert of(maps, name="endpoints")["entries"] == 6
    assert of(maps, name="trace")["entries"] is None


@needs_bpftool
def test_programs_are_as_bpftool_shows_them(busy: FastNode, window: Opened) -> None:
    for one in window.get("progs"):
        told = bpftool.ask("prog", "show", "id", str(one["id"]))
        assert (one["name"], one["tag"]) == (told["name"], told["tag"])
        assert (one["jited_bytes"], int(one["loaded"])) == (told["bytes_jited"], told["loaded_at"])
        assert (one["verified_instructions"] > 1000) is COUNTS_INSTRUCTIONS
        assert busy.fast.program_fd(one["name"]) >= 0


def test_programs_say_where_they_are(node: FastNode, window: Opened) -> None:
    pods = {node.pod(ENI1).applied.host_ifindex, node.pod(ENI2).applied.host_ifindex}
    enis = set(node.enis.values())
    places = {
        one["name"]: {(a["ifindex"], a["side"], a["how"]) for a in one["attached"]}
        for one in window.get("progs")
    }
    assert places == {
        "pod_egress": {(index, "ingress", "block") for index in pods},
        "eni_ingress": {(index, "ingress", ENI_HOOK) for index in enis},
        "pod_ingress": {(index, "egress", "block") for index in pods},
        "eni_egress": {(index, "egress", ENI_HOOK) for index in enis},
    }
    named = {a["device"] for one in window.get("progs") for a in one["attached"] if a["how"] == ENI_HOOK}
    assert named == {"eni1", "eni2"}


@pytest.mark.usefixtures("_compiled")
def test_a_program_of_another_build_is_told_of(node: FastNode, window: Opened, tmp_path: Path) -> None:
    """As a filter is that an upgrade could not replace."""
    pod = node.pod(ENI1)
    index = pod.applied.host_ifindex
    with (
        Object(build(tmp_path / "other", *OTHER)("pod_ingress")) as other,
        Socket(node.world.node) as netlink,
    ):
        other.load()
        node.fast.detach_pod(index)
        place = Place.device(index, Side.EGRESS)
        fd = other.program_fd("pod_ingress")
        netlink.transact(tc.add_clsact(index), tc.put_filter(place, fd, "pod_ingress"))
    progs = window.get("progs")
    assert len(progs) == 5
    assert progs[4]["name"] == "pod_ingress"
    assert [(a["ifindex"], a["how"]) for a in progs[4]["attached"]] == [(index, "clsact")]


def test_counters_follow_packets(node: FastNode, window: Opened) -> None:
    one, other = node.pod(ENI1), node.pod(ENI2)
    exchange(one.netns, other.netns, other.address(4))
    row = of(window.get("counters"), hook="pod_egress", reason="fast_local")
    assert (row["class"], row["packets"]) == ("fast", 2)
    assert row["text"] == "From a pod into another pod of this node."
    assert all(each["text"] and each["packets"] for each in window.get("counters"))


def test_endpoints_are_pods_with_their_packets(node: FastNode, window: Opened) -> None:
    one, other, off = node.pod(ENI1), node.pod(ENI2), node.pod(ENI2)
    window.pods = {one.address(4): "default/web", other.address(6): "default/db"}
    node.fast.switch_pod(off.address(4), False)
    exchange(one.netns, other.netns, other.address(4))
    unnamed, db, web = window.get("endpoints")
    assert (unnamed["pod"], unnamed["fast"], unnamed["fast_out_packets"]) == ("", False, 0)
    assert (db["pod"], db["fast"], db["ifindex"]) == ("default/db", True, other.applied.host_ifindex)
    assert db["addresses"] == [str(other.address(4)), str(other.address(6))]
    for row in (web, db):
        counts = [row[f"fast_{way}_packets"] for way in ("out", "in")]
        assert counts == [1, 1]
        assert row["fast_out_bytes"] == row["fast_in_bytes"] > 0
        assert row["dropped_packets"] == 0


def test_a_pods_path_is_the_one_that_its_packets_take(node: FastNode, window: Opened) -> None:
    """Not what its row says: the node may be switched off, and a foreign hand may take the hook away."""
    pod = node.pod(ENI1)

    def path() -> tuple[bool, str]:
        (row,) = window.get("endpoints")
        assert row["why"] in window.cli("bpf", "endpoints")[1]
        return row["fast"], row["why"]

    assert path() == (True, "")
    node.fast.switch(False)
    assert path() == (False, "node off")
    node.fast.switch(True)
    node.fast.switch_pod(pod.address(6), False)
    assert path() == (False, "pod off")
    node.fast.switch_pod(pod.address(6), True)
    node.fast.detach_pod(pod.applied.host_ifindex)
    assert path() == (False, "not attached")
    node.fast.attach_pod(pod.applied.host_ifindex)
    assert path() == (True, "")


def test_what_is_refused_says_what_there_is(window: Opened) -> None:
    with pytest.raises(CliError, match=r"no map 'pod'; there are: endpoints, pods,"):
        window.get("map", "pod")
    with pytest.raises(CliError, match="see terway-cli trace"):
        window.get("map", "trace")
    with pytest.raises(CliError, match="no bpf/maps/endpoints; there are"):
        window.get("maps", "endpoints")
    window.refuse = "there is no fast path"
    with pytest.raises(CliError, match="there is no fast path"):
        window.get("maps")


def test_every_word_is_drawn(busy: FastNode, window: Opened) -> None:
    one = next(iter(busy.fast.endpoints().values()))
    for word in ("maps", "progs", "counters", "endpoints"):
        status, out, err = window.cli("bpf", word)
        assert (status, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 120
    for name in (each.name for each in busy.fast.maps() if each.entries):
        status, out, err = window.cli("bpf", "map", name)
        assert (status, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 120
        assert json.loads(window.cli("bpf", "map", name, "--json")[1])
    assert str(one.addresses[0]) in window.cli("bpf", "endpoints")[1]
    assert ip_address(one.addresses[0]) in {ip_address(key) for key, _ in dump(window, "endpoints")}
