from __future__ import annotations

import itertools

import pytest

from cni.args import K8sArgs, parse
from cni.errors import CniError, Code

CONTAINERD = [
    "K8S_POD_NAMESPACE=default",
    "K8S_POD_NAME=web-0.x",
    "K8S_POD_INFRA_CONTAINER_ID=c1",
    "K8S_POD_UID=0b9c2d5e-0000-4000-8000-000000000000",
    "IgnoreUnknown=1",
    "K8S_SOMETHING_NEW=a=b",
]
POD = K8sArgs("default", "web-0.x", "0b9c2d5e-0000-4000-8000-000000000000", "c1")


def test_every_order_containerd_may_choose() -> None:
    for order in itertools.permutations(CONTAINERD):
        assert parse(";".join(order)) == POD


@pytest.mark.parametrize("text", ["", ";", "IgnoreUnknown=true", "IgnoreUnknown=0", ";IgnoreUnknown=FALSE;"])
def test_nothing_said(text: str) -> None:
    assert parse(text) == K8sArgs()


def test_ip_and_the_last_of_two() -> None:
    assert parse("IP=10.0.0.1;K8S_POD_NAME=a;K8S_POD_NAME=b") == K8sArgs(name="b", ip="10.0.0.1")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("FOO=1", "unknown FOO"),
        ("FOO=1;IgnoreUnknown=0", "unknown FOO"),
        ("FOO=1;IgnoreUnknown=false;BAR=2", "unknown BAR, FOO"),
        ("IgnoreUnknown=yes", "'yes'"),
        ("K8S_POD_NAME", "'K8S_POD_NAME' is not NAME=VALUE"),
        ("=x", "'=x' is not NAME=VALUE"),
        ("K8S_POD_NAME=../../secrets", "K8S_POD_NAME is '../../secrets'"),
        ("K8S_POD_NAME=A", "K8S_POD_NAME is 'A'"),
        ("K8S_POD_NAMESPACE=a/b", "K8S_POD_NAMESPACE is 'a/b'"),
        ("K8S_POD_NAMESPACE=a\n", "K8S_POD_NAMESPACE is 'a\\n'"),
        ("K8S_POD_UID=a b", "K8S_POD_UID is 'a b'"),
        ("K8S_POD_NAME=" + "a" * 254, "K8S_POD_NAME is"),
    ],
)
def test_bad(text: str, named: str) -> None:
    with pytest.raises(CniError) as caught:
        parse(text)
    assert caught.value.code == Code.DECODE
    assert caught.value.msg == "failed to parse args"
    assert named in caught.value.details
