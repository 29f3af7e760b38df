"""terway-cli as an operator types it on a node, the seed's troubleshooting commands, metrics and probes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lab.client import Lab
from lab.sandbox import LabPod
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import cloud_enis, settled

METRICS = {
    "aliyun_openapi_latency": "histogram",
    "rate_limiter_latency": "histogram",
    "aliyun_metadata_latency": "histogram",
    "terway_rpc_latency": "histogram",
    "terway_resource_pool_total_count": "gauge",
    "terway_resource_pool_idle_count": "gauge",
    "terway_resource_pool_disposed_count": "gauge",
    "terway_resource_pool_allocated_count": "gauge",
    "terway_eniip_factory_eni_count": "gauge",
    "terway_eniip_factory_ip_count": "gauge",
}
"""Upstream's names and their types (terway-upstream.md, 6.2)."""


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[Bench]:
    """Dual stack, one pod, five idle addresses."""
    with bench(lab, ip_stack="dual", max_pool_size=5) as made:
        made.start()
        made.pod("web")
        settled(made.node)
        yield made


@pytest.fixture(scope="module")
def pod(node: Bench) -> LabPod:
    return node.lab.pod(f"{node.node.name}/web")


@pytest.fixture(scope="module")
def eni(node: Bench) -> dict[str, Any]:
    (only,) = cloud_enis(node.lab, node.node).values()
    return only


def cli(made: Bench, *words: str) -> str:
    done = made.node.exec(["terway-cli", *words])
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def cli_json(made: Bench, *words: str) -> Any:
    return json.loads(cli(made, *words, "--json"))


def test_list(node: Bench) -> None:
    assert cli(node, "list") == "* factory\n* network_service\n* resource_pool\n"
    assert cli(node, "list", "factory") == "* eniip\n* eni\n"
    assert cli_json(node, "list") == ["factory", "network_service", "resource_pool"]
    assert cli_json(node, "list", "factory") == ["eniip", "eni"]


def config(made: Bench, *words: str) -> dict[str, str]:
    return dict(cli_json(made, "show", *words)["config"])


def test_show_factory(node: Bench, eni: dict[str, Any]) -> None:
    text = cli(node, "show", "factory")
    shown = config(node, "factory")
    assert (shown["name"], shown["eni_max"], shown["eni_max_ip"], shown["eni_count"]) == (
        "eniip",
        "3",
        "15",
        "1",
    )
    addresses = set(shown[f"eni/{eni['mac']}/secondary_ips"].split(", "))
    assert addresses == set(eni["addresses"])
    assert shown[f"eni/{eni['mac']}/status"] == "serving"
    assert f"├── {eni['mac']}\n" in text or f"└── {eni['mac']}\n" in text, text
    assert "├── eni_count: 1\n" in text


def test_show_factory_eni(node: Bench) -> None:
    shown = config(node, "factory", "eni")
    assert (shown["name"], shown["vswitches"]) == ("eni", "vsw-pods")
    assert cli(node, "show", "factory", "eni").startswith("├── name: eni\n")


def test_show_resource_pool(node: Bench, pod: LabPod, eni: dict[str, Any]) -> None:
    shown = config(node, "resource_pool")
    assert (shown["name"], shown["max_idle"], shown["min_idle"], shown["capacity"]) == (
        "eniip",
        "5",
        "0",
        "45",
    )
    assert shown["inuse"] == f"{eni['mac']}.{pod.ipv4}"
    idle = shown["idle"].split(", ")
    assert len(idle) == 5
    assert {i.removeprefix(f"{eni['mac']}.") for i in idle} < set(eni["addresses"])
    assert f"── inuse: {eni['mac']}.{pod.ipv4}" in cli(node, "show", "resource_pool")


def test_show_network_service(node: Bench, pod: LabPod, eni: dict[str, Any]) -> None:
    shown = config(node, "network_service")
    assert (shown["name"], shown["daemon_mode"], shown["pending_pods_count"]) == (
        "default",
        "ENIMultiIP",
        "0",
    )
    assert shown["config_file_path"] == "/etc/eni/eni_conf"
    resources = f"(eniIp){eni['mac']}.{pod.ipv4} (eniIp){eni['mac']}.{pod.ipv6}"
    assert shown[f"pods/{pod.key}/resources"] == resources
    assert f"resources: {resources}" in cli(node, "show", "network_service")


def test_mapping(node: Bench, pod: LabPod, eni: dict[str, Any]) -> None:
    text = cli(node, "mapping")
    for line in (
        f"ENI: {eni['id']}",
        f"MAC: {eni['mac']}",
        "Type: Secondary",
        f"{pod.ipv4}  {pod.key}  assigned",
    ):
        assert line in text, text
    assert f"Resource DB (1 entries)\n  {pod.key} -> {eni['id']} {pod.ipv4},{pod.ipv6}\n" in text
    value = cli_json(node, "mapping")
    (row,) = value["attachments"]
    assert (row["pod_name"], row["pod_uid"], row["state"]) == ("web", pod.uid, "ready")
    assert {r["ip"] for r in value["enis"][0]["addresses"]} == set(eni["addresses"])


def test_metadata(node: Bench, eni: dict[str, Any]) -> None:
    primary, second = cli_json(node, "metadata")["enis"]
    assert (primary["primary"], primary["interface"], primary["primary_ipv4"]) == (
        True,
        "eth0",
        node.node.address,
    )
    assert (second["primary"], second["interface"], second["mac"]) == (False, "eth1", eni["mac"])
    shown = {second["primary_ipv4"], *second["secondary_ipv4s"], *second["ipv6s"]}
    assert shown == set(eni["addresses"])
    text = cli(node, "metadata")
    assert "vswitch: vsw-pods" in text
    assert "interface: eth1" in text
    assert "primary: true" in text


def test_mode(node: Bench) -> None:
    value = cli_json(node, "mode")
    assert value["asked"]["eniip_virtual_type"] == value["in_force"]["eniip_virtual_type"] == "PolicyRoute"
    assert (value["in_force"]["ip_stack"], value["in_force"]["mtu"]) == ("dual", 1500)
    assert value["node"]["instance_id"] == node.node.instance_id
    assert "── eniip_virtual_type: PolicyRoute" in cli(node, "mode")


def test_execute(node: Bench, pod: LabPod, eni: dict[str, Any]) -> None:
    assert cli(node, "execute", "factory", "eniip", "audit") == (
        f"1 enis fetched\nchecking eni {eni['id']}({eni['mac']})\n"
    )
    (record,) = cli(node, "execute", "network_service", "default", "resdb").splitlines()
    assert json.loads(record)["ipv4"] == str(pod.ipv4)
    (line,) = cli_json(node, "execute", "resource_pool", "eniip", "mapping")
    assert json.loads(line)["enis"][0]["id"] == eni["id"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["shwo"], ["'shwo'", "show"]),
        ([], ["WORD"]),
        (["show"], ["required: type"]),
        (["list", "pods"], ["no resource type 'pods'", "factory, network_service, resource_pool"]),
        (["show", "factory", "trunk"], ["no resource 'trunk' in the specified type factory", "eniip, eni"]),
        (
            ["execute", "factory", "eniip", "sing"],
            ["can't recognize command", "factory has mapping and audit"],
        ),
        (["mapping", "--colour"], ["--colour"]),
        (
            ["--socket", "unix:///run/none", "mapping"],
            ["cannot reach terwayd at unix:///run/none", "are you root"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_not_known_is_one_line(node: Bench, words: list[str], told: list[str]) -> None:
    done = node.node.exec(["terway-cli", *words])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("terway-cli: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for word in told:
        assert word in done.stderr, done.stderr


def test_the_modules_own_name_works_too(node: Bench) -> None:
    done = node.node.exec([sys.executable, "-m", "control.cli.main", "list"], check=True)
    assert done.stdout == cli(node, "list")


def test_help_of_every_word_has_an_example(node: Bench) -> None:
    words = ("list", "show", "mapping", "execute", "metadata", "mode", "repairs")
    overview = cli(node, "--help")
    assert all(w in overview for w in words)
    assert "example: terway-cli execute network_service default resdb" in cli(node, "execute", "--help")


def test_troubleshooting_commands_of_the_modes_page(node: Bench) -> None:
    """As they stand there; ``kubectl exec`` leads to where we are already."""
    for command in (
        "cat /etc/cni/net.d/10-terway.conf",
        "terway-cli show factory",
        "terway-cli show resource_pool",
    ):
        done = node.node.exec(["sh", "-c", command])
        assert done.returncode == 0, done
        assert done.stdout
    conf = json.loads(node.node.exec(["cat", "/etc/cni/net.d/10-terway.conf"]).stdout)
    assert (conf["type"], conf["eniip_virtual_type"]) == ("terway", "PolicyRoute")
    path = "/api/v1/namespaces/kube-system/configmaps/eni-config"
    assert set(node.lab.kubernetes.request("GET", path)["data"]) == {
        "eni_conf",
        "10-terway.conf",
        "disable_network_policy",
    }


def test_by_way_of_the_labs_command_line(node: Bench, pod: LabPod) -> None:
    argv = [sys.executable, "-m", "lab.cli.main", "node", "exec", "--name", node.lab.name, node.node.name]
    done = subprocess.run([*argv, "--", "terway-cli", "mapping"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert f"{pod.key} -> " in done.stdout


def test_metrics(node: Bench) -> None:
    status, text = node.node.agent_get("/metrics")
    assert status == 200
    kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
    assert {name: kinds.get(name) for name in METRICS} == METRICS
    assert kinds["terway_eniip_factory_ip_alloc_count_total"] == "counter"
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    for start in (
        'terway_rpc_latency_count{error="",rpc_api="AllocIP"} 1.0',
        'aliyun_openapi_latency_count{api="CreateNetworkInterface",error=""} 1.0',
        'terway_resource_pool_total_count{ipStack="dual",type="local"} 6.0',
        'terway_resource_pool_idle_count{ipStack="dual",type="local"} 5.0',
        'terway_eniip_factory_eni_count{name="eniip"',
        'terway_eniip_factory_ip_alloc_count_total{status="succeed"} 1.0',
    ):
        assert any(line.startswith(start) for line in samples), start


def test_probes(node: Bench) -> None:
    assert node.node.agent_get("/healthz") == (200, "ok\n")
    assert node.node.agent_get("/readyz") == (200, "ok\n")
    status, body = node.node.agent_get("/nonsense")
    assert (status, json.loads(body)) == (404, {"error": "no GET /nonsense"})
