"""A host link that somebody has deleted: its pod is told of once, and nobody else is harmed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.client import Lab
from lab.cni_call import CniError
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, state, until

REMEDY = "delete the pod"
LOOKS = 61.0
"""Seconds: a look for such pods comes in each of them."""


@pytest.fixture
def started(lab: Lab) -> Iterator[Bench]:
    with bench(lab, ip_stack="dual") as made:
        made.start()
        yield made


def told(made: Bench) -> list[dict[str, Any]]:
    return [one for one in made.lab.kubernetes.events(made.node.name) if one["reason"] == "LinkGone"]


def host_links(made: Bench) -> dict[str, str]:
    return {one["pod_name"]: one["host_link"] for one in state(made.node)["attachments"]}


def looked(made: Bench) -> list[dict[str, Any]]:
    """What is told once another look has begun."""
    made.advance(LOOKS)
    return told(made)


def test_its_pod_is_told_of_once_and_del_is_clean(started: Bench) -> None:
    silent, other = started.pod("silent"), started.pod("other")
    link = host_links(started)["silent"]
    assert not told(started)
    started.node.exec(["ip", "link", "delete", link], check=True)
    (event,) = until(lambda: looked(started), lambda events: len(events) > 0)
    assert event["involvedObject"]["name"] == "silent"
    assert event["type"] == "Warning"
    assert all(words in event["message"] for words in (link, "under a running container", REMEDY))

    with pytest.raises(CniError, match=f"link {link}"):
        silent.check()
    other.check()
    assert started.node.agent_get("/readyz")[0] == 200, "the node is as good as before for all others"
    shown = json.loads(started.node.exec(["terway-cli", "mode", "--json"], check=True).stdout)
    assert [one for one in shown["warnings"] if link in one and REMEDY in one]
    started.lab.delete_pod(started.pod("another"))
    for _ in range(5):
        (again,) = looked(started)
        assert again.get("count", 1) == 1, "once, however long it is so"

    started.lab.delete_pod(silent)
    until(lambda: host_links(started), lambda links: set(links) == {"other"})
    assert_agree(started.lab, started.node)
    until(
        lambda: (looked(started), started.node.exec(["terway-cli", "mode"], check=True).stdout)[1],
        lambda text: link not in text,
    )
    anew = started.pod("silent")
    anew.check()
    other.check()
