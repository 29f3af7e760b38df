"""Other plugins in the chain, as real runtimes and meshes put them there: what works, and what is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.client import Lab
from lab.cni_call import CniError
from lab.nodes.agent import Wait
from lab.sandbox import LabPod, PodOptions
from tests.e2e.benches import bench, events
from tests.e2e.conftest import Bench
from tests.e2e.test_cli import cli_json
from tests.e2e.witnesses import assert_agree, reaches, settled, until

PLUGINS = Path("/usr/lib/cni")
"""Debian's containernetworking-plugins."""
TARGET = "/etc/cni/net.d"
TERWAY = {"type": "terway", "eniip_virtual_type": "PolicyRoute"}
BANDWIDTH = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
SINK = 9
RATE, BURST = 8_000_000, 320_000
"""Bits per second, and bits."""
ANNOTATIONS = {"ingress": "kubernetes.io/ingress-bandwidth", "egress": "kubernetes.io/egress-bandwidth"}


def chain(*behind: dict[str, Any], **head: Any) -> dict[str, Any]:
    return {"cniVersion": "0.4.0", "name": "terway", **head, "plugins": [TERWAY, *behind]}


def give(made: Bench, *names: str) -> None:
    """Executables of standard plugins for the node."""
    for name in names:
        target = made.node.directory.outside(f"/opt/cni/bin/{name}")
        shutil.copy(PLUGINS / name, target)
        target.chmod(0o755)


def ready(made: Bench) -> tuple[int, str]:
    return made.node.agent_get("/readyz")


def listed(made: Bench) -> dict[str, Any]:
    (name,) = made.node.exec(["ls", TARGET]).stdout.split()
    found: dict[str, Any] = json.loads(made.node.exec(["cat", f"{TARGET}/{name}"]).stdout)
    return found


# --- what a runtime is given ---


def test_a_list_without_name_version_and_cilium(lab: Lab) -> None:
    with bench(lab) as made:
        give(made, "portmap")
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        made.configure({"plugins": [TERWAY, {"type": "cilium-cni"}, portmap]}, max_pool_size=0)
        made.start()
        found = listed(made)
        assert (found["name"], found["cniVersion"]) == ("terway", "0.4.0")
        assert [plugin["type"] for plugin in found["plugins"]] == ["terway", "portmap"]
        warnings = " ".join(cli_json(made, "mode")["warnings"])
        assert "has no name" in warnings
        assert "cilium-cni, which is left out" in warnings
        pod = made.pod("web")
        made.lab.delete_pod(pod)
        assert_agree(lab, made.node)


def test_a_chain_that_cannot_work_is_not_ready_and_takes_care_of_the_pods_there_are(lab: Lab) -> None:
    with bench(lab) as made:
        made.start()
        kept, going = made.pod("kept"), made.pod("going")
        made.node.stop_agent()
        made.configure(chain({"type": "portmap"}), max_pool_size=0)
        made.node.start_agent(wait=Wait.SOCKET)
        status, said = until(lambda: ready(made), lambda answer: "portmap" in answer[1])
        assert status != 200
        assert "/opt/cni/bin has no such executable" in said
        assert "plugins" not in listed(made), "the runtime has what it had"
        with pytest.raises(CniError, match="names portmap"):
            made.pod("new")
        made.lab.delete_pod(going)
        assert reaches(kept, str(made.node.address))
        give(made, "portmap")
        until(lambda: ready(made)[0], lambda status: status == 200)
        assert len(listed(made)["plugins"]) == 2
        made.pod("after")
        assert_agree(lab, made.node)


def test_istio_stays_through_a_restart_and_a_network_before_ours_is_told(lab: Lab) -> None:
    with bench(lab) as made:
        made.start()
        made.node.write("/opt/cni/bin/istio-cni", "#!/bin/sh\nexit 0\n", mode=0o755)
        own = listed(made)
        istio = {"type": "istio-cni", "log_level": "info"}
        head = {"name": "k8s-pod-network", "cniVersion": "0.3.1"}
        made.node.write(f"{TARGET}/10-terway.conflist", json.dumps({**head, "plugins": [own, istio]}))
        made.node.exec(["rm", "-f", f"{TARGET}/10-terway.conf"], check=True)
        made.node.write(f"{TARGET}/05-other.conf", json.dumps({**head, "type": "bridge"}))
        made.node.stop_agent()
        made.start()
        told = "05-other.conf comes before 10-terway.conflist"
        assert told in " ".join(cli_json(made, "mode")["because"])
        made.node.exec(["rm", f"{TARGET}/05-other.conf"], check=True)
        until(lambda: " ".join(cli_json(made, "mode")["because"]), lambda because: told not in because)
        assert listed(made)["plugins"] == [
            {key: value for key, value in own.items() if key not in ("name", "cniVersion")},
            istio,
        ]
        assert listed(made)["name"] == "terway"


# --- limited pods ---


@pytest.fixture(scope="module")
def shaping(lab: Lab) -> Iterator[Bench]:
    with bench(lab, ip_stack="dual", max_pool_size=5) as made:
        give(made, "bandwidth")
        made.configure(chain(BANDWIDTH), ip_stack="dual", max_pool_size=5)
        made.start()
        made.pod("peer")
        settled(made.node)
        yield made


def limited(made: Bench, name: str, *ways: str) -> LabPod:
    """As kubelet and containerd have it: annotations, and rates for the plugin."""
    rates = {f"{way}{what}": value for way in ways for what, value in (("Rate", RATE), ("Burst", BURST))}
    annotations = {ANNOTATIONS[way]: "8M" for way in ways}
    options = PodOptions(annotations=annotations, runtime_config={"bandwidth": rates})
    return made.lab.add_pod(made.node.name, made.node.name, name, options)


def bucket(made: Bench, device: str) -> dict[str, Any]:
    """The token bucket at the root of a device, with its counts."""
    done = made.node.exec(["tc", "-s", "-j", "qdisc", "show", "dev", device], check=True)
    (found,) = (one for one in json.loads(done.stdout) if one.get("root") and one["kind"] == "tbf")
    return dict(found)


def buckets(pod: LabPod) -> dict[str, str]:
    """Device by the way of the packets: the host link, and the ifb that its ingress is sent through."""
    interfaces = pod.result["interfaces"]
    host = next(one["name"] for one in interfaces if one["name"].startswith("cali"))
    ifb = next((one["name"] for one in interfaces if one["name"].startswith("bwp")), "")
    return {"ingress": host, "egress": ifb}


def of(made: Bench, pod: LabPod) -> dict[str, Any]:
    """The pod's row of ``terway-cli bpf endpoints``."""
    (row,) = (one for one in cli_json(made, "bpf", "endpoints") if str(pod.ipv4) in one["addresses"])
    return dict(row)


def flood(source: LabPod, target: LabPod, count: int) -> None:
    """Datagrams of 1200 bytes as fast as they go, which nobody answers."""
    code = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({count}):
    try:
        s.sendto(bytes(1200), ({str(target.ipv4)!r}, {SINK}))
    except OSError:
        pass
"""
    assert source.exec(["python3", "-c", code]).returncode == 0


@pytest.mark.parametrize("ways", [("ingress",), ("egress",), ("ingress", "egress")], ids="-".join)
def test_every_packet_of_a_limited_pod_meets_its_bucket(shaping: Bench, ways: tuple[str, ...]) -> None:
    made, name = shaping, f"slow-{'-'.join(ways)}"
    peer, slow = made.lab.pod(f"{made.node.name}/peer"), limited(made, name, *ways)
    devices = buckets(slow)
    for target in (peer.ipv4, peer.ipv6):
        assert reaches(slow, str(target))
    before = {way: bucket(made, devices[way]) for way in ways}
    for _ in range(8):
        assert reaches(slow, str(peer.ipv4))
        assert reaches(peer, str(slow.ipv6))
    for way in ways:
        after = bucket(made, devices[way])
        assert after["packets"] - before[way]["packets"] >= 16, way
    row = of(made, slow)
    assert (row["fast"], row["fast_in_packets"], row["fast_out_packets"]) == (False, 0, 0)
    assert of(made, peer)["fast"]
    hooked = {a["ifindex"] for one in cli_json(made, "bpf", "progs") for a in one["attached"]}
    assert (row["ifindex"] in hooked) is ("egress" not in ways)
    (event,) = (one for one in _announced(made, name) if one["reason"] == "Bandwidth")
    assert "bandwidth plugin limits what the pod" in event["message"]
    made.lab.delete_pod(slow)
    assert_agree(made.lab, made.node)


def _announced(made: Bench, name: str) -> list[dict[str, Any]]:
    return until(lambda: events(made, name), lambda found: any(e["reason"] == "Bandwidth" for e in found))


@pytest.mark.parametrize("way", ["ingress", "egress"])
def test_the_limit_holds(shaping: Bench, way: str) -> None:
    """4.8 MB at once through a bucket of 40 KB that fills by 1 MB a second: most of it is dropped there."""
    made = shaping
    peer, slow = made.lab.pod(f"{made.node.name}/peer"), limited(made, f"flooded-{way}", way)
    source, target = (peer, slow) if way == "ingress" else (slow, peer)
    flood(source, target, 4000)
    after = bucket(made, buckets(slow)[way])
    assert after["drops"] > 0
    made.lab.delete_pod(slow)


def test_it_stays_so_through_restart_repair_and_a_switch(shaping: Bench) -> None:
    made = shaping
    peer, slow = made.lab.pod(f"{made.node.name}/peer"), limited(made, "lasting", "ingress", "egress")
    devices = buckets(slow)

    def still() -> None:
        before = {way: bucket(made, device)["packets"] for way, device in devices.items()}
        assert reaches(slow, str(peer.ipv4))
        assert reaches(peer, str(slow.ipv4))
        for way, device in devices.items():
            assert bucket(made, device)["packets"] >= before[way] + 2, way
        assert not of(made, slow)["fast"]

    still()
    made.node.stop_agent()
    made.start()
    settled(made.node)
    still()
    made.advance(61)  # a repair
    settled(made.node)
    still()
    made.node.exec(["terway-cli", "fastpath", "off"], check=True)
    made.node.exec(["terway-cli", "fastpath", "on"], check=True)
    still()
    made.lab.delete_pod(slow)


def test_a_bucket_of_another_hand_is_met_as_well_and_no_more_when_it_goes(shaping: Bench) -> None:
    """An operator, or a chaos engine, shapes a pod's link while the pod runs."""
    made = shaping
    pod = made.pod("shaped")
    until(lambda: of(made, pod)["fast"], bool)
    device = buckets(pod)["ingress"]
    tbf = ["root", "tbf", "rate", "8mbit", "burst", "40kb", "latency", "25ms"]
    made.node.exec(["tc", "qdisc", "add", "dev", device, *tbf], check=True)
    made.advance(61)
    until(lambda: of(made, pod)["fast"], lambda fast: not fast, seconds=90)
    made.node.exec(["tc", "qdisc", "del", "dev", device, "root"], check=True)
    until(lambda: of(made, pod)["fast"], bool, seconds=90)
    made.lab.delete_pod(pod)


def test_a_limit_that_nobody_enforces_is_told(lab: Lab) -> None:
    with bench(lab) as made:
        made.start()
        pod = limited(made, "unheard", "ingress")
        (event,) = (one for one in _announced(made, "unheard") if one["reason"] == "Bandwidth")
        assert (event["type"], "chains no bandwidth plugin" in event["message"]) == ("Warning", True)
        assert of(made, pod)["fast"]
