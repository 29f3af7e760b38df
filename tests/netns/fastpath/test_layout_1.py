"""A node of the first release is taken over: its rows, and the flows that its programs had noted."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from datapath.acceleration.load import copy_rows, open_table
from datapath.acceleration.rows import address_bytes
from datapath.ebpf import libbpf
from datapath.ebpf.btf import Btf
from datapath.ebpf.libbpf import Object
from datapath.ebpf.table import Table
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, Address
from tests.netns.fastpath.builds import VERSION
from tests.netns.fastpath.calls import call, serving, speaks
from tests.netns.fastpath.conversation import Place
from tests.netns.fastpath.node import FastNode, until
from tests.netns.fastpath.test_stack import PORT, TARGET, VIPS, dnat, install

_HERE = Path(__file__).resolve().parent
_BPF = _HERE.parents[2] / "bpf"
MAPS = ("endpoints", "pods", "stack_flows", "stack_pairs", "settings")
PROGRAMS = ("pod_egress", "eni_ingress", "stack_egress")


class Layout1:
    """Pinned at ``v1``, with the rows of a node of today and flows that are told."""

    def __init__(self, scratch: Path) -> None:
        self._object = scratch / "layout_1.bpf.o"
        include = next(iter(Path("/usr/include").glob("*-linux-gnu")))
        words = ["clang", "-O2", "-g", "-target", "bpf", f"-I{_BPF}", f"-I{include}"]
        subprocess.run([*words, "-c", str(_HERE / "layout_1.bpf.c"), "-o", str(self._object)], check=True)

    def put_in_place(self, node: FastNode, flows: list[tuple[Address, int, Address, int]]) -> None:
        """Instead of what ``node`` has, which is closed."""
        old = node.pins / "v1"
        old.mkdir()
        with ExitStack() as stack:
            opened = stack.enter_context(Object(self._object))
            opened.load()
            btf = Btf(opened.btf())
            for name in MAPS:
                table = Table(opened.map_fd(name), opened.map_shape(name), btf)
                if name in ("endpoints", "pods", "settings"):
                    _copied(node, name, table)
                if name == "stack_flows":
                    _noted(table, flows)
                libbpf.pin(table.fd, str(old / name))
            for name in PROGRAMS:
                libbpf.pin(opened.program_fd("pod_egress"), str(old / f"prog_{name}"))
        node.close()
        subprocess.run(["rm", "-r", str(node.pins / f"v{VERSION}")], check=True)


def _copied(node: FastNode, name: str, table: Table) -> None:
    with ExitStack() as stack:
        found = open_table(node.pins / f"v{VERSION}" / name, stack)
        assert found is not None
        copy_rows(found, table)


def _noted(table: Table, flows: list[tuple[Address, int, Address, int]]) -> None:
    keys, values = table.keys(len(flows)), table.values(len(flows))
    for number, (source, source_port, destination, port) in enumerate(flows):
        for field, address in (("source", source), ("destination", destination)):
            keys[field][number] = np.frombuffer(address_bytes(address), keys.dtype[field])[0]
        keys["source_port"][number] = source_port
        keys["destination_port"][number] = port
        keys["protocol"][number] = socket.IPPROTO_TCP
    values["noted"] = 1
    table.put(keys, values)


def test_flows_of_the_first_layout_are_the_stacks_still(node: FastNode, tmp_path: Path) -> None:
    """An idle Service connection to a pod here, and one to elsewhere: the server speaks first."""
    layout = Layout1(tmp_path)
    client, server, other = node.pod(ENI1), node.pod(ENI2), node.pod(ENI2)
    install(node, dnat(VIPS[4], PORT, server.address(4)) + dnat(VIPS[4], PORT + 1, other.address(4)))
    places = [Place(one.netns, one.address(4), TARGET) for one in (server, other)]
    with ExitStack() as stack:
        accepted = [stack.enter_context(serving(place)) for place in places]
        idle = [stack.enter_context(call(client.netns, VIPS[4], PORT + n)) for n in range(2)]
        until(lambda: all(accepted), "both are accepted")
        rows = node.fast.endpoints(), node.fast.uplinks()
        flows = [
            (client.address(4), one.getsockname()[1], place.address, TARGET)
            for one, place in zip(idle, places, strict=True)
        ]
        layout.put_in_place(node, flows)
        fast = node.open()
        assert fast.names.version == VERSION
        assert sorted(p.name for p in node.pins.iterdir()) == ["links", f"v{VERSION}"]
        # No ENI had a row of its own, so that ids come with the next repair.
        assert fast.endpoints() == {i: replace(pod, uplink=None) for i, pod in rows[0].items()}
        with node.counting("stack_flow") as grown:
            for ours, theirs in zip(accepted, idle, strict=True):
                assert speaks(ours[0], theirs)
        assert grown["stack_flow"] >= 2
        settings = fast.rows("settings")[0][1]
        assert settings["flow_timeouts"].all()
    for eni in (ENI1, ENI2):
        node.put_eni(eni)
    with node.counting("fast_local") as grown:
        exchange(client.netns, server.netns, server.address(6))
    assert grown["fast_local"] == 2
