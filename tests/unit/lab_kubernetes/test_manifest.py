"""What the lab's cluster makes of manifests: the API server's address, host ports in eni-config."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy import helm
from deploy.render import CHART
from lab.kubernetes import manifest
from lab.kubernetes.dns import MANIFEST as DNS_MANIFEST
from lab.kubernetes.host_ports import chained
from lab.kubernetes.product import MANIFESTS
from lab.messages import LabError
from lab.nodes import agent
from lab.spec import KUBERNETES_ADDRESS, KUBERNETES_PORT
from tests.unit.deploy import loaded

SERVER = {"KUBERNETES_SERVICE_HOST": "100.100.0.20", "KUBERNETES_SERVICE_PORT": "6443"}


def environment(item: Any) -> dict[str, Any]:
    (container,) = item["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value") for each in container["env"]}


def by_kind(path: Any, kind: str) -> Any:
    return next(item for item in manifest.read(path) if item["kind"] == kind)


def test_without_a_proxy_workloads_are_told_the_servers_address() -> None:
    for path, kind in ((DNS_MANIFEST, "Deployment"), (MANIFESTS, "DaemonSet")):
        changed = manifest.by_address(by_kind(path, kind))
        assert environment(changed).items() >= SERVER.items()
        assert environment(manifest.by_address(changed)) == environment(changed)


def test_other_variables_and_objects_stay() -> None:
    before = environment(by_kind(MANIFESTS, "DaemonSet"))
    after = environment(manifest.by_address(by_kind(MANIFESTS, "DaemonSet")))
    assert {name: value for name, value in after.items() if name not in SERVER} == before
    account = by_kind(MANIFESTS, "ServiceAccount")
    assert manifest.by_address(dict(account)) == account


def test_the_chart_does_the_same() -> None:
    tool = helm.present()
    if tool is None:
        pytest.skip("no Helm: set HELM, or build it by `python -m deploy.render`")
    told = f"apiServer.host={KUBERNETES_ADDRESS},apiServer.port={KUBERNETES_PORT}"
    found = loaded.by_kind(helm.template(tool, CHART, ("--set", told)))
    assert environment(found["DaemonSet"]).items() >= SERVER.items()


def test_host_ports_are_chained_behind_what_is_there() -> None:
    before = agent.config_map({"version": "1"}, agent.cni_conf(eniip_virtual_type="IPVlan", mtu=1400))
    after = chained(before)
    assert set(after) == set(before) - {"10-terway.conf"} | {"10-terway.conflist"}
    chain = json.loads(after["10-terway.conflist"])
    assert (chain["name"], chain["cniVersion"]) == ("terway", "0.4.0")
    assert chain["plugins"][0] == {"type": "terway", "eniip_virtual_type": "IPVlan", "mtu": 1400}
    assert chain["plugins"][1]["type"] == "portmap"
    assert "10-terway.conf" in before


@pytest.mark.parametrize("data", [{}, {"10-terway.conf": "{"}])
def test_nothing_can_be_chained_behind_nothing(data: dict[str, str]) -> None:
    with pytest.raises(LabError, match=r"has no 10-terway\.conf that is JSON"):
        chained(data)
