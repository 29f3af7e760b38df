"""The command lines of a control plane, its users, and a cluster's programs that are missing."""

from __future__ import annotations

import base64
import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from lab.apiserver import access, arguments, certificates, programs
from lab.apiserver.certificates import User
from lab.apiserver.files import KubeDir
from lab.messages import LabError
from lab.spec import KubernetesSpec, LabSpec, ProxyMode
from lab.spec_json import decode_spec, encode
from tests.unit.lab_apiserver.test_programs import script


@pytest.fixture
def directory(tmp_path: Path) -> KubeDir:
    return KubeDir(tmp_path)


def option(words: list[str], name: str) -> str:
    (value,) = (word.split("=", 1)[1] for word in words if word.startswith(f"--{name}="))
    return value


def test_the_server_of_a_cluster_knows_nodes_and_accounts(directory: KubeDir) -> None:
    words = arguments.api_server(directory, cluster=True)
    assert option(words, "authorization-mode") == "Node,RBAC"
    assert option(words, "enable-admission-plugins") == "NodeRestriction"
    assert not [w for w in words if w.startswith("--disable-admission-plugins")]


def test_a_server_by_itself_wants_no_accounts(directory: KubeDir) -> None:
    words = arguments.api_server(directory, cluster=False)
    assert option(words, "disable-admission-plugins") == "ServiceAccount"
    assert option(words, "authorization-mode") == "RBAC"


def test_server_and_controllers_agree(directory: KubeDir) -> None:
    server = arguments.api_server(directory, cluster=True)
    controllers = arguments.controller_manager(directory)
    assert option(server, "service-account-signing-key-file") == option(
        controllers, "service-account-private-key-file"
    )
    assert option(server, "client-ca-file") == option(controllers, "cluster-signing-cert-file")
    assert option(server, "service-cluster-ip-range") == option(controllers, "service-cluster-ip-range")


def test_nothing_of_a_control_plane_is_kept_outside_its_directory(directory: KubeDir) -> None:
    words = arguments.api_server(directory, cluster=True) + arguments.controller_manager(directory)
    words += arguments.etcd(directory) + arguments.scheduler(directory)
    paths = [word.split("=", 1)[1] for word in words if "=/" in word]
    assert len(paths) > 10
    # Without this one it makes a directory below /usr/libexec.
    assert option(words, "flex-volume-plugin-dir") in paths
    assert [path for path in paths if not path.startswith(f"{directory.root}/")] == []


def test_a_kubelets_certificate_names_node_and_group(directory: KubeDir) -> None:
    authority = certificates.make(directory, (IPv4Address("127.0.0.1"),))
    pair = authority.client(User("system:node:node1", "system:nodes"))
    subject = x509.load_pem_x509_certificate(pair.certificate).subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:node1"]
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:nodes"]
    config = json.loads(
        access.secure_kubeconfig(
            directory, access.certified_user(pair.certificate, pair.key), "https://server"
        )
    )
    assert base64.b64decode(config["users"][0]["user"]["client-key-data"]) == pair.key


def test_a_cluster_needs_more_programs(tmp_path: Path) -> None:
    for name in (programs.ETCD, programs.API_SERVER):
        script(tmp_path / name, "exit 0")
    with pytest.raises(LabError, match=r"kube-controller-manager is not there; kube_bin wants .*, kubelet"):
        programs.find(str(tmp_path), cluster=True)
    for name in (programs.CONTROLLER_MANAGER, programs.SCHEDULER, programs.KUBELET, programs.KUBE_PROXY):
        script(tmp_path / name, "exit 0")
    found = programs.find(str(tmp_path), cluster=True)
    assert [path.name for path in found.controllers] == ["kube-controller-manager", "kube-scheduler"]


def test_a_cluster_goes_through_text() -> None:
    spec = LabSpec(kube_bin="/b", kubernetes=KubernetesSpec(ProxyMode.IPTABLES, ("/a.tar",)))
    assert decode_spec(json.loads(json.dumps(encode(spec)))) == spec
    with pytest.raises(ValueError, match="'ipvs' is none of 'nftables', 'iptables', 'none'"):
        decode_spec({"kubernetes": {"proxy": "ipvs"}})
