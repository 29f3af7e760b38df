"""The metadata service, closed for pods by ``block_pod_metadata``: with eBPF and by routing, on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.client import Lab
from lab.sandbox import LabPod
from lab.spec import METADATA_ADDRESS, OUTSIDE_ADDRESS
from tests.e2e.benches import QUIET, bench
from tests.e2e.conftest import Bench
from tests.e2e.test_cli import cli_json
from tests.e2e.witnesses import reaches, settled, until

Start = Callable[[bool | None], None]
SERVICE = "172.21.5.5"
GET = """
import sys, urllib.request
request = urllib.request.Request(f"http://{sys.argv[1]}/latest/meta-data/instance-id")
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    print(opener.open(request, timeout=5).read().decode())
except OSError as exc:
    print(f"no: {exc}")
"""
DNAT = f"""
table ip lab_services {{
    chain before {{
        type nat hook prerouting priority dstnat;
        ip daddr {SERVICE} tcp dport 80 dnat to {METADATA_ADDRESS}
    }}
    chain after {{
        type nat hook postrouting priority srcnat;
        ct status dnat masquerade
    }}
}}
"""
"""A Service without a selector, whose endpoint is the metadata service, as a proxy would write it."""


@pytest.fixture(params=["ebpf", "bpf-off"])
def node(lab: Lab) -> Iterator[Bench]:
    with bench(lab, max_pool_size=5) as made:
        yield made


@pytest.fixture
def start(request: pytest.FixtureRequest, node: Bench) -> Start:
    """Configures and starts an agent; None leaves the key out."""
    carried = request.node.callspec.params["node"]

    def run(closed: bool | None) -> None:
        changes: dict[str, Any] = {} if closed is None else {"block_pod_metadata": closed}
        node.configure(**{"max_pool_size": 5, **QUIET, **changes})
        arguments = ["-bpf", "off"] if carried == "bpf-off" else []
        node.node.start_agent(arguments, env={"TERWAY_TEST_CLOCK": "1"})
        settled(node.node)

    return run


def asked(pod: LabPod, address: str = str(METADATA_ADDRESS)) -> str:
    """The instance id that the service tells the pod, or "no: " and why not."""
    return pod.exec(["python3", "-c", GET, address]).stdout.strip()


def test_open_as_on_ecs_until_it_is_closed_and_open_again(node: Bench, start: Start) -> None:
    start(None)
    pod = node.pod("web")
    assert asked(pod) == node.node.instance_id
    assert cli_json(node, "mode")["in_force"]["pod_metadata"] == "open"
    for closed in (True, False):
        node.node.stop_agent()
        start(closed)
        assert cli_json(node, "mode")["in_force"]["pod_metadata"] == ("closed" if closed else "open")
        for each in (pod, node.pod(f"new-{closed}".lower())):
            assert (asked(each) == node.node.instance_id) is not closed
            assert reaches(each, str(OUTSIDE_ADDRESS)), "nothing else is closed"
        own = node.node.exec(["python3", "-c", GET, str(METADATA_ADDRESS)]).stdout.strip()
        assert own == node.node.instance_id, "the node needs it"


def test_a_hostile_pod_finds_no_way_around(node: Bench, start: Start) -> None:
    start(True)
    pod = node.pod("web")
    assert "unreachable" in asked(pod).lower() or "no route" in asked(pod).lower(), "told at once"
    node.node.exec(["nft", "-f", "-"], stdin=DNAT, check=True)
    assert asked(pod, SERVICE).startswith("no: "), "a Service leads there"
    node.node.exec(["nft", "delete", "table", "ip", "lab_services"], check=True)
    # A route of the pod's own, past its gateway's answer, and a source that is another's.
    pod.exec(
        ["ip", "route", "replace", f"{METADATA_ADDRESS}/32", "via", "169.254.1.1", "dev", "eth0", "onlink"]
    )
    assert asked(pod).startswith("no: ")
    node.node.exec(["ip", "route", "flush", "cache"])
    node.node.exec(["terway-cli", "fastpath", "off"])
    assert asked(pod).startswith("no: ")


def test_what_a_foreign_hand_opens_is_closed_again(node: Bench, start: Start) -> None:
    start(True)
    pod = node.pod("web")
    rule = node.node.exec(["ip", "rule", "show", "from", str(pod.ipv4)], check=True).stdout
    table = rule.split("lookup")[1].split()[0]
    removal = ["ip", "route", "del", "unreachable", str(METADATA_ADDRESS), "table", table]
    node.node.exec(removal, check=True)
    until(lambda: asked(pod), lambda told: told.startswith("no: "))
    until(node.node.agent_log, lambda log: f"repaired route unreachable {METADATA_ADDRESS}" in log)


def test_an_eni_that_comes_later_is_closed_too(node: Bench, start: Start) -> None:
    start(True)
    pods = [node.pod(f"p{number}") for number in range(17)]
    enis = {row["mac"] for row in cli_json(node, "metadata")["enis"] if not row["primary"]}
    assert len(enis) == 2
    assert [pod.key for pod in pods if not asked(pod).startswith("no: ")] == []
