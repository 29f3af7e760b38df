"""Routes of ours to which another hand has given settings: packets go the same way, and otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2 import IPRoute

from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.test_repair import index_of, running
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import HOST, HOST_V6, OUTSIDE, OUTSIDE_V6, World, witness

SETTINGS = ("mtu", "source")
NUMBER = {4: 2, 6: 10}


def settings_of(reader: IPRoute, family: int, table: int) -> dict[str, tuple[Any, Any]]:
    """By destination."""
    return {
        str(one.get_attr("RTA_DST")): (one.get_attr("RTA_METRICS"), one.get_attr("RTA_PREFSRC"))
        for one in reader.get_routes(family=NUMBER[family], table=table)
        if one["type"] == 1
    }


@pytest.mark.parametrize("what", SETTINGS)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("whose", ["pod", "eni"])
def test_a_route_of_ours_is_written_anew(
    world: World, mode: NodeDatapath, family: int, what: str, whose: str
) -> None:
    """A smaller MTU breaks the pod's large packets, a source what the node sends by the same way."""
    endpoint, pod = running(world, mode)
    address = endpoint.ipv4 if family == 4 else endpoint.ipv6
    assert address is not None
    table = 512 if whose == "pod" else 1000 + index_of(world, "eni1")
    dst = f"{address}/{address.max_prefixlen}" if whose == "pod" else {4: "0.0.0.0/0", 6: "::/0"}[family]
    own = str(HOST if family == 4 else HOST_V6)
    more: dict[str, Any] = {"metrics": {"mtu": 1290}} if what == "mtu" else {"prefsrc": own}
    with witness(world.node) as reader:
        before, snapshot = settings_of(reader, family, table), world.snapshot(world.node)
        found = next(
            one
            for one in reader.get_routes(family=NUMBER[family], table=table)
            if one["type"] == 1 and one.get_attr("RTA_DST") == (str(address) if whose == "pod" else None)
        )
        way: dict[str, Any] = {"oif": found.get_attr("RTA_OIF"), "flags": found["flags"] & 4}
        if found.get_attr("RTA_GATEWAY"):
            way["gateway"] = found.get_attr("RTA_GATEWAY")
        own_words = {"scope": found["scope"], "proto": found["proto"], "family": NUMBER[family]}
        reader.route("replace", dst=dst, table=table, **own_words, **way, **more)
        assert settings_of(reader, family, table) != before, "nothing was altered"
        (told,) = mode.repair([endpoint])
        assert "another hand" in told.found
        assert mode.repair([endpoint]) == ()
        assert (settings_of(reader, family, table), world.snapshot(world.node)) == (before, snapshot)
    assert exchange(pod, world.router, OUTSIDE if family == 4 else OUTSIDE_V6) == str(address)
