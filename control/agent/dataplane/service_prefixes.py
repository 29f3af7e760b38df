"""Destinations that kube-proxy translates, which therefore are the stack's: known, remembered, or not known.

The API server says; its word is kept in the ledger, so that a restart needs no API server. A node that never
heard it cannot tell a Service from anything else, and routes until it can.
"""

from __future__ import annotations

import json
from ipaddress import collapse_addresses, ip_network

from control.agent.state.journal import Journal
from control.model.pod import Kubernetes
from datapath.endpoint import Network
from datapath.netlink.wire import host_network

FACT = "service_prefixes"
"""In the ledger: a JSON list of networks."""


class ServicePrefixes:
    def __init__(self, journal: Journal, kubernetes: Kubernetes) -> None:
        self._journal = journal
        self._kubernetes = kubernetes
        self._heard: tuple[object, object] | None = None
        text = journal.facts.get(FACT)
        self._known = None if text is None else tuple(ip_network(one) for one in json.loads(text))

    def known(self) -> tuple[Network, ...] | None:
        """As few networks as say it. None if nobody has ever told."""
        addresses, cidrs = self._kubernetes.service_addresses(), self._kubernetes.service_cidrs()
        if addresses is not None and (addresses, cidrs) != self._heard:
            self._heard = addresses, cidrs
            self._learn(_fewest([*(cidrs or ()), *map(host_network, addresses)]))
        return self._known

    def _learn(self, found: tuple[Network, ...]) -> None:
        if found != self._known:
            self._known = found
            self._journal.note(FACT, json.dumps([str(one) for one in found]))


def _fewest(networks: list[Network]) -> tuple[Network, ...]:
    v4 = collapse_addresses(one for one in networks if one.version == 4)
    v6 = collapse_addresses(one for one in networks if one.version == 6)
    return (*v4, *v6)
