"""The plain manifests: what a cluster is given, whoever rendered them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control.config import cni_conf, eni_conf, settings
from deploy.render import HERE, MANIFESTS
from lab.nodes import agent
from tests.unit.deploy import loaded

RIGHTS = HERE / "rbac.json"
GENERAL, IN_LAB = MANIFESTS


def objects(path: Path) -> dict[str, Any]:
    return loaded.by_kind(path.read_text())


def pod(path: Path = GENERAL) -> Any:
    return objects(path)["DaemonSet"]["spec"]["template"]


def container(path: Path = GENERAL) -> Any:
    return pod(path)["spec"]["containers"][0]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_rights_are_those_of_rbac_json(path: Path) -> None:
    rights = {item["kind"]: item for item in json.loads(RIGHTS.read_text())["items"]}
    found = objects(path)
    for kind, wanted in rights.items():
        of_kind = {key: value for key, value in found[kind].items() if key != "metadata"}
        assert of_kind == {key: value for key, value in wanted.items() if key != "metadata"}
        names = {key: value for key, value in found[kind]["metadata"].items() if key != "labels"}
        assert names == wanted["metadata"]
    assert pod(path)["spec"]["serviceAccountName"] == rights["ServiceAccount"]["metadata"]["name"]


def test_the_selector_finds_the_pods_and_so_do_the_commands_of_the_guides() -> None:
    daemonset = objects(GENERAL)["DaemonSet"]
    labels = pod()["metadata"]["labels"]
    assert daemonset["spec"]["selector"]["matchLabels"] == {"app": "terway"}
    assert labels["app"] == "terway"
    assert daemonset["metadata"]["labels"]["app"] == labels["k8s-app"] == "terway-eniip"
    assert daemonset["metadata"]["namespace"] == "kube-system"


def test_the_agent_understands_its_arguments() -> None:
    told = settings.parse(container()["args"], {"NODE_NAME": "node-1"})
    mounts = {mount["mountPath"] for mount in container()["volumeMounts"]}
    for path in (told.eni_conf.parent, told.cni_conf_source, told.cni_conf_target, told.socket.parent):
        assert str(path) in mounts
    assert {str(told.state_directory), str(told.bpf_pins.parent), str(told.sysctl_net)} <= mounts
    assert str(told.cni_bin) in mounts
    assert told.debug_socket.parent == told.socket.parent
    probes = [container()[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe")]
    assert told.health_listen == f"{probes[0]['host']}:{probes[0]['port']}"
    assert [probe["path"] for probe in probes] == ["/healthz", "/readyz"]
    assert told.bpf


def test_what_the_agent_keeps_on_the_node_it_may_write() -> None:
    told = settings.parse(container()["args"], {"NODE_NAME": "node-1"})
    mounts = {mount["mountPath"]: mount for mount in container()["volumeMounts"]}
    for path in (told.cni_conf_target, told.socket.parent, told.state_directory, told.cni_bin):
        assert not mounts[str(path)].get("readOnly"), path


def test_nothing_is_privileged() -> None:
    spec = pod()["spec"]
    for each in (*spec["initContainers"], *spec["containers"]):
        context = each["securityContext"]
        assert "privileged" not in context
        assert context["capabilities"]["drop"] == ["ALL"]
        assert context["readOnlyRootFilesystem"] is True
    assert set(container()["securityContext"]["capabilities"]["add"]) == {
        "NET_ADMIN",
        "SYS_ADMIN",
        "NET_RAW",
        "SYS_RESOURCE",
    }
    assert "SYS_RESOURCE" not in container(IN_LAB)["securityContext"]["capabilities"]["add"]
    assert "add" not in spec["initContainers"][0]["securityContext"]["capabilities"]
    assert not {"hostPID", "hostIPC"} & set(spec)
    # Kubernetes refuses Bidirectional for a container that is not privileged.
    assert {mount.get("mountPropagation") for mount in container()["volumeMounts"]} == {
        None,
        "HostToContainer",
    }


def test_the_profiles_of_security_modules_let_it_work() -> None:
    """AppArmor's default for containers denies /sys/fs/bpf; SELinux' denies the node's directories."""
    assert container()["securityContext"]["appArmorProfile"] == {"type": "Unconfined"}
    assert pod()["spec"]["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}
    assert "appArmorProfile" not in pod()["spec"]["initContainers"][0]["securityContext"]


def test_eni_config_can_be_read_by_the_agent() -> None:
    data = objects(GENERAL)["ConfigMap"]["data"]
    assert set(data) == {"eni_conf", "10-terway.conf", "disable_network_policy"}
    assert not eni_conf.parse(data["eni_conf"].encode()).warnings
    found = cni_conf.parse(Path("10-terway.conf"), data["10-terway.conf"].encode())
    assert not found.warnings


def test_the_labs_variables_are_those_of_its_nodes() -> None:
    found = {each["name"]: each.get("value") for each in container(IN_LAB)["env"]}
    wanted = agent.environment("node1")
    del wanted["KUBECONFIG"]
    assert {name: found[name] for name in wanted if name != "NODE_NAME"} == {
        name: value for name, value in wanted.items() if name != "NODE_NAME"
    }
    assert "ConfigMap" not in objects(IN_LAB)
    assert container(IN_LAB)["imagePullPolicy"] == "Never"


def test_every_volume_is_mounted_and_every_mount_has_a_volume() -> None:
    spec = pod()["spec"]
    volumes = {volume["name"] for volume in spec["volumes"]}
    both = (*spec["initContainers"], *spec["containers"])
    assert volumes == {mount["name"] for each in both for mount in each["volumeMounts"]}
