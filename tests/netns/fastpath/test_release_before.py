"""The programs of the release before take over from ours, and ours from them, under load.

The release before is 0625225: layout 2, where rows of pods name an ENI by its device and one program notes
what the stack sends, at pods and ENIs. Its own loader runs over its own tree. No datagram is lost on either
way, and a Service's connections go on, which lie idle meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import cluster_images
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, ENI2, HOST, HOST_V6
from tests.netns.fastpath.builds import VERSION
from tests.netns.fastpath.calls import call, serving, speaks
from tests.netns.fastpath.conversation import Place
from tests.netns.fastpath.flood import RATE, Flood
from tests.netns.fastpath.node import FAR, FastNode, Tenant, until
from tests.netns.fastpath.test_stack import PORT, SERVICE, TARGET, VIPS, dnat, install

REVISION = cluster_images.BEFORE

# What an agent of that release does at its start: it opens, and repairs.
OPEN = """
import json, sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from datapath.fastpath.load import Options
from datapath.fastpath.path import FastPath
from datapath.fastpath.rows import Eni, Pod

told = json.loads(sys.stdin.readline())
options = Options(conntrack=told["conntrack"])
with FastPath.open(Path(told["pins"]), netns=told["netns"], options=options) as fast:
    found = {"version": fast.names.version, "on": fast.is_on(), "pods": sorted(fast.endpoints())}
    print(json.dumps(found | {"flows": len(fast.rows("flows"))}), flush=True)
    sys.stdin.readline()
    services = [ip_network(one) for one in told["services"]]
    fast.set_stack_prefixes(service=services, node=[ip_address(one) for one in told["node"]])
    for eni in told["enis"]:
        fast.put_eni(Eni(*eni))
        fast.attach_eni(eni[0])
    for ifindex, eni, pod_mac, host_mac, addresses in told["rows"]:
        pod = Pod(ifindex, eni, pod_mac, host_mac, tuple(map(ip_address, addresses)))
        if fast.endpoints().get(ifindex) != pod:
            fast.put_endpoint(pod, earlier=True)
        fast.attach_pod(ifindex)
    print("repaired", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("before") / "tree"
    try:
        cluster_images.source(made, REVISION)
    except cluster_images.NoHistoryError as exc:
        pytest.skip(str(exc))
    return made


class Older:
    """A process of the release before, from its start to its end."""

    def __init__(self, tree: Path, node: FastNode, tenants: list[Tenant]) -> None:
        told = {
            "pins": str(node.pins),
            "netns": node.world.node,
            "conntrack": node.conntrack,
            "services": [str(one) for one in SERVICE],
            "node": [str(HOST), str(HOST_V6)],
            "enis": [
                (one.ifindex, one.mac, one.gateway_mac, one.gateway_mac_v6)
                for one in node.fast.uplinks().values()
            ],
            "rows": [_row(one) for one in tenants],
        }
        node.close()
        self._process = subprocess.Popen(
            [sys.executable, "-c", OPEN],
            cwd=tree,
            env={"PYTHONPATH": str(tree), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(node.world.node,),
        )
        self._say(json.dumps(told))
        self.found: dict[str, Any] = json.loads(self._hear())

    def repair(self) -> None:
        self._say("repair")
        assert self._hear() == "repaired"

    def end(self) -> None:
        self._process.communicate("end\n")
        assert self._process.returncode == 0

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _row(one: Tenant) -> tuple[int, int, str, str, list[str]]:
    done = one.applied
    addresses = [str(address) for address in one.endpoint.addresses()]
    return done.host_ifindex, done.eni_ifindex, done.pod_mac, done.host_mac, addresses


def test_up_and_back_under_load(node: FastNode, tree: Path) -> None:
    client, server, other = tenants = [node.pod(ENI1), node.pod(ENI2), node.pod(ENI2)]
    install(node, dnat(VIPS[4], PORT, server.address(4)) + dnat(VIPS[4], PORT + 1, other.address(4)))
    places = [Place(one.netns, one.address(4), TARGET) for one in (server, other)]
    with ExitStack() as stack:
        accepted = [stack.enter_context(serving(place)) for place in places]
        idle = [stack.enter_context(call(client.netns, VIPS[4], PORT + n)) for n in range(2)]
        until(lambda: all(accepted), "both are accepted")
        floods = [
            stack.enter_context(Flood(source, sink, address, rate=RATE // 4))
            for source, sink, address in (
                (client.netns, server.netns, server.address(4)),
                (client.netns, node.far, FAR),
                (node.far, other.netns, other.address(4)),
            )
        ]

        def serve() -> None:
            for ours, theirs in zip(accepted, idle, strict=True):
                assert speaks(ours[0], theirs)

        serve()
        for _ in range(2):
            rows, uplinks = node.fast.endpoints(), node.fast.uplinks()
            flows = len(node.fast.rows("flows"))
            older = Older(tree, node, tenants)
            assert older.found["version"] == 2
            assert (older.found["on"], older.found["pods"]) == (True, sorted(rows))
            assert older.found["flows"] >= flows
            serve()
            older.repair()
            serve()
            older.end()
            fast = node.open()
            assert fast.names.version == VERSION
            assert sorted(p.name for p in node.pins.iterdir()) == ["links", f"v{VERSION}"]
            assert set(fast.uplinks().values()) == set(uplinks.values())
            assert fast.endpoints() == rows, "each names the uplink that it had, by whatever id"
            serve()
        ended = [flood.stop() for flood in floods]
    assert [lost for _, _, lost in ended] == [0, 0, 0], ended
    # New flows are fast, both ways.
    with node.counting("fast_local") as grown:
        exchange(client.netns, server.netns, server.address(6))
    assert grown == {"fast_local": 2, "forwarded": 0}
    with node.counting("fast_eni", "fast_pod") as grown:
        exchange(node.far, server.netns, server.address(6))
    assert grown == {"fast_eni": 1, "fast_pod": 1, "forwarded": 0}
