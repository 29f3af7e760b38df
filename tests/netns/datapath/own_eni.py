"""A pod that has ENI 2 for itself, by macvlan, and a path to its namespace as a runtime would give it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datapath.endpoint import Endpoint, EndpointKey, Mode, OwnEni, Presence
from datapath.node_datapath import NodeDatapath
from tests.netns.datapath.world import ENI2, Card, World, eni_link, witness


@dataclass(frozen=True, slots=True)
class OwnPod:
    netns: int
    endpoint: Endpoint
    path: Path

    @property
    def key(self) -> EndpointKey:
        return self.endpoint.key


def own(card: Card = ENI2) -> OwnEni:
    return OwnEni(f"eni-{card.mac}", eni_link(card))


def macvlan_pod(world: World, directory: Path, card: Card = ENI2, **changes: Any) -> OwnPod:
    """Not set up yet."""
    netns = world.namespace()
    path = directory / f"netns-{netns}"
    path.symlink_to(f"/proc/{os.getpid()}/fd/{netns}")
    values: dict[str, Any] = {"mode": Mode.MACVLAN, "uplink": own(card), "host_link": "", "netns": str(path)}
    return OwnPod(netns, world.endpoint(card, **(values | changes)), path)


def presence(datapath: NodeDatapath, pod: OwnPod) -> Presence:
    return datapath.live([pod.endpoint.id])[pod.key].presence


def another(pod: OwnPod, **changes: Any) -> Endpoint:
    """As another sandbox's, or with other values."""
    return replace(pod.endpoint, **changes)


def links(netns: int) -> dict[str, Any]:
    with witness(netns) as reader:
        return {one.get("ifname"): one for one in reader.get_links()}


def alias(world: World, card: Card = ENI2) -> str:
    return str(links(world.node)[card.name].get("ifalias") or "")
