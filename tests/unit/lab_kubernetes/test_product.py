"""What the lab changes in the product's manifests, and what it leaves alone."""

from __future__ import annotations

from typing import Any

from lab.kubernetes import product

_ALL = "Name:\tpython\nCapBnd:\t000001ffffffffff\n"
_WITHOUT_SYS_RESOURCE = "Name:\tpython\nCapBnd:\t000001fffeffffff\n"


def daemon_set(*capabilities: str) -> dict[str, Any]:
    container = {"name": "terway", "securityContext": {"capabilities": {"add": list(capabilities)}}}
    return {"kind": "DaemonSet", "spec": {"template": {"spec": {"containers": [container]}}}}


def test_a_capability_that_nobody_here_has_is_not_asked_for() -> None:
    item = daemon_set("NET_ADMIN", "SYS_RESOURCE", "SYS_ADMIN")
    assert product.given(item, _WITHOUT_SYS_RESOURCE) == daemon_set("NET_ADMIN", "SYS_ADMIN")


def test_a_machine_that_has_all_of_them_gives_all() -> None:
    item = daemon_set("NET_ADMIN", "SYS_RESOURCE")
    assert product.given(item, _ALL) == daemon_set("NET_ADMIN", "SYS_RESOURCE")


def test_other_objects_stay_as_they_are() -> None:
    item = {"kind": "ServiceAccount", "metadata": {"name": "terway"}}
    assert product.given(dict(item), _WITHOUT_SYS_RESOURCE) == item
