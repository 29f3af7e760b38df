"""The chart by Helm itself, where there is one: HELM names it, or ``python -m deploy.render`` built it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from control.config import cni_conf
from deploy import helm
from deploy.helm import HelmError
from deploy.render import CHART, HERE, MANIFESTS, POD_IPS, rendered
from tests.unit.deploy import loaded


@pytest.fixture(scope="module")
def tool() -> Path:
    found = helm.present()
    if found is None:
        pytest.skip("no Helm: set HELM, or build it by `python -m deploy.render`")
    return found


def values(tool: Path, *options: str) -> dict[str, Any]:
    return loaded.by_kind(helm.template(tool, CHART, options))


def container(found: dict[str, Any]) -> Any:
    return found["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]


def test_lint(tool: Path) -> None:
    assert "0 chart(s) failed" in helm.run(tool, ["lint", "--strict", str(CHART)])


@pytest.mark.parametrize("path", [*MANIFESTS, POD_IPS], ids=lambda path: path.name)
def test_plain_manifests_are_up_to_date(tool: Path, path: Path) -> None:
    assert path.read_text() == rendered(tool, path), "run `python -m deploy.render`"


def test_another_configuration_is_another_pod(tool: Path) -> None:
    def checksum(*options: str) -> str:
        pod = values(tool, *options)["DaemonSet"]["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/eni-config"])

    assert checksum() == checksum("--set", "agent.logLevel=debug")
    assert checksum() != checksum("--set", "eniConfig.eniConf.max_pool_size=6")


def test_chained_plugins_make_a_list(tool: Path) -> None:
    portmap = '[{"type": "portmap", "capabilities": {"portMappings": true}}]'
    data = values(tool, "--set-json", f"eniConfig.chained={portmap}")["ConfigMap"]["data"]
    assert "10-terway.conf" not in data
    found = cni_conf.parse(Path("10-terway.conflist"), data["10-terway.conflist"].encode())
    assert (found.chained, found.warnings) == (("portmap",), ())
    assert [plugin["type"] for plugin in json.loads(data["10-terway.conflist"])["plugins"]] == [
        "terway",
        "portmap",
    ]


def test_what_may_be_asked_for(tool: Path) -> None:
    found = values(
        tool,
        *("--set", "image.repository=registry.example/terway,image.tag=,image.pullSecrets={pull}"),
        *("--set", "credentials.existingSecret=key,apiServer.host=10.0.0.1,apiServer.port=6443"),
        *("--set", "agent.bpf=false,agent.env.ECS_ENDPOINT=ecs.example,health.host=0.0.0.0"),
        *("--set", "nodeSelector.pool=a,maxUnavailable=10%"),
    )
    agent, spec = container(found), found["DaemonSet"]["spec"]["template"]["spec"]
    env = {each["name"]: each.get("value") for each in agent["env"]}
    assert agent["image"] == "registry.example/terway:0.1.0"
    assert (env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"]) == ("10.0.0.1", "6443")
    assert env["ECS_ENDPOINT"] == "ecs.example"
    assert {"-bpf=off", "-health-listen=0.0.0.0:15733"} <= set(agent["args"])
    assert agent["livenessProbe"]["httpGet"]["host"] == "127.0.0.1"
    assert {"name": "credentials", "secret": {"secretName": "key"}} in spec["volumes"]
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "a"}
    assert found["DaemonSet"]["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == "10%"


def profiles(tool: Path, version: str, *options: str) -> tuple[Any, Any]:
    """AppArmor's field and annotation, as the chart is rendered for a version of Kubernetes."""
    whole = values(tool, "--kube-version", version, *options)
    of_pod = whole["DaemonSet"]["spec"]["template"]["metadata"]["annotations"]
    annotation = of_pod.get("container.apparmor.security.beta.kubernetes.io/terway")
    return container(whole)["securityContext"].get("appArmorProfile"), annotation


@pytest.mark.parametrize(
    ("value", "field", "annotation"),
    [
        ("Unconfined", {"type": "Unconfined"}, "unconfined"),
        ("RuntimeDefault", {"type": "RuntimeDefault"}, "runtime/default"),
        ("Localhost/terway", {"type": "Localhost", "localhostProfile": "terway"}, "localhost/terway"),
        ("", None, None),
    ],
)
def test_apparmor_by_field_and_before_1_30_by_annotation(
    tool: Path, value: str, field: Any, annotation: Any
) -> None:
    option = ("--set", f"security.appArmor={value}")
    assert profiles(tool, "1.30.0", *option) == (field, None)
    assert profiles(tool, "1.29.9", *option) == (None, annotation), (
        "which refuses a field that it does not know"
    )


def test_selinux_is_said_or_not(tool: Path) -> None:
    def said(*options: str) -> Any:
        return values(tool, *options)["DaemonSet"]["spec"]["template"]["spec"]["securityContext"]

    assert said()["seLinuxOptions"] == {"type": "spc_t"}
    assert said("--set", "security.seLinux.type=terway_t")["seLinuxOptions"] == {"type": "terway_t"}
    assert "seLinuxOptions" not in said("--set", "security.seLinux=null")


def test_the_annotation_of_pods_comes_with_its_policy_or_not_at_all(tool: Path) -> None:
    wanted = ("--set", "podIps.annotate=true")
    kinds = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert not kinds & set(values(tool))
    found = values(tool, *wanted)
    assert kinds <= set(found)
    assert json.loads(found["ConfigMap"]["data"]["eni_conf"])["enable_patch_pod_ips"] is True
    with pytest.raises(HelmError, match=r"needs Kubernetes 1\.30"):
        values(tool, *wanted, "--kube-version", "1.29.9")
    with pytest.raises(HelmError, match=r"set podIps\.annotate"):
        values(tool, "--set", "eniConfig.eniConf.enable_patch_pod_ips=true")
    (condition,) = found["ValidatingAdmissionPolicy"]["spec"]["matchConditions"]
    account = found["ServiceAccount"]["metadata"]
    assert f'"system:serviceaccount:{account["namespace"]}:{account["name"]}"' in condition["expression"]


@pytest.mark.parametrize(
    "wrong",
    [
        "imag.tag=x",
        "agent.loglevel=debug",
        "agent.logLevel=loud",
        "maxUnavailable=0",
        "health.port=0",
        "eniConfig.eniConf.version=2",
        "paths.run=run/eni",
        "security.appArmor=unconfined",
        "podIps.annotate=yes",
    ],
)
def test_the_schema_refuses(tool: Path, wrong: str) -> None:
    with pytest.raises(HelmError, match="schema"):
        helm.template(tool, CHART, ("--set", wrong))


def test_each_setting_has_a_comment_and_a_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    lines = (CHART / "values.yaml").read_text().splitlines()
    found = loaded.values("\n".join(lines))
    assert set(found) == set(schema) - {"global"}
    for name, inner in found.items():
        if "properties" in schema[name]:
            assert set(inner) == set(schema[name]["properties"]), name
    for before, line in pairwise(lines):
        if line and line[0] not in " #":
            assert before.startswith("#"), f"{line} has no comment"


def test_the_labs_values_are_values(tool: Path) -> None:
    assert values(tool, "--values", str(HERE / "lab-values.yaml"))
