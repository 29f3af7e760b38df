"""The lab of a run and its two nodes, and what the steps share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab.client import Lab
from lab.nodes import agent
from lab.spec import LabSpec, NodeSpec
from tests.soak.sandbox import Sandbox
from tests.soak.site import DISK_OF_THE_LEDGER, Site

DISK = "size=4m"
"""Of the file system that holds the rough node's ledger: a full disk is then a matter of four megabytes."""
NODES = (NodeSpec("rough", instance_type="ecs.g7.large"), NodeSpec("calm", instance_type="ecs.g6.xlarge"))
"""Dual stack with two ENIs of six addresses, and IPv4 with two ENIs of ten: eight pods and the steady one
make the pool grow and shrink by single addresses and by whole ENIs. Nothing is kept idle, so that most ADDs
after a quiet moment need the cloud."""


@dataclass(slots=True)
class World:
    lab: Lab
    sites: tuple[Site, Site]
    api_server: bool = True
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16))

    def running(self) -> list[Sandbox]:
        return [one for site in self.sites for one in site.running()]

    def caused(self, name: str, *sites: Site) -> None:
        for site in sites or self.sites:
            site.causes.add(name)

    def together(self, work: Iterable[Callable[[], str]]) -> str:
        """All at once, each in a thread; what came of them in their order."""
        return "; ".join([future.result() for future in [self.pool.submit(one) for one in work]])


@contextmanager
def world(name: str) -> Iterator[World]:
    """Up with an agent and a steady pod on each node; everything of it is gone afterwards."""
    with Lab.start(LabSpec(nodes=NODES), name=name) as lab:
        sites = tuple(_site(lab, spec) for spec in NODES)
        made = World(lab, (sites[0], sites[1]))
        try:
            for site in sites:
                sandbox = Sandbox(site.node, "p0", site.pod_uid(0))
                sandbox.make_netns()
                sandbox.add()
                site.pods[0] = sandbox
            yield made
        finally:
            made.pool.shutdown(wait=False, cancel_futures=True)


def _site(lab: Lab, spec: NodeSpec) -> Site:
    node, rough = lab.node(spec.name), spec is NODES[0]
    if rough:
        node.exec(["mkdir", "-p", DISK_OF_THE_LEDGER], check=True)
        node.exec(["mount", "-t", "tmpfs", "-o", DISK, "ledger", DISK_OF_THE_LEDGER], check=True)
    node.install_cni()
    changes = {
        "ip_stack": "dual" if rough else "ipv4",
        "max_pool_size": 0,
        "ip_cool_down": "10s",
        "ip_pool_sync_period": "30s",
    }
    node.write_config(agent.eni_conf(lab.spec, **changes))
    status = node.status()
    mac = next(e["mac"] for e in status["enis"] if e["type"] == "Primary")
    site = Site(lab, node, str(status["instance"]), mac, rough)
    there = site.shell("ip -o addr show dev eth0 scope global").splitlines()
    site.own = tuple(line.split()[3] for line in there)
    site.start()
    return site


def shuffled(seed: str, names: Iterable[str]) -> list[str]:
    """In an order that the seed gives: what a step chooses from what there is."""
    found = sorted(names)
    random.Random(seed).shuffle(found)
    return found
