"""What a policy-routing node is made of while its agent runs: sockets, ENIs, facts, and who stands by it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from datapath.endpoint import Endpoint, EniLink
from datapath.modes.policy_route.node import PreparedEni
from datapath.modes.port import ModeContext, NodeFacts
from datapath.netlink.wire import Address


class EniDevice(NamedTuple):
    """An ENI as it was last found: its link's number, and the link's name."""

    eni: EniLink
    ifindex: int
    name: str


@dataclass(slots=True)
class NodeHold:
    """One per mode and namespace. Implements ``shortcut.Now``."""

    context: ModeContext
    removing: threading.Lock = field(default_factory=threading.Lock)
    """Held by whatever takes away, and by each step of a repair."""
    devices: dict[str, EniDevice] = field(default_factory=dict)
    """Of ENIs that are shared, by MAC in lower case."""
    own_gateway: bool = False
    pods: dict[int, Endpoint] = field(default_factory=dict)
    """By host link, those that stand: set up since the start, or found by a round of repair."""
    joined: dict[int, Endpoint] = field(default_factory=dict)
    """Pods that were set up since the last round of repair began, by host link."""
    joining: set[Address] = field(default_factory=set)
    """Of pods that are being set up."""
    retired: set[int] = field(default_factory=set)
    """Host links that were taken out of use since then."""

    @property
    def facts(self) -> NodeFacts:
        return self.context.facts

    @property
    def enis(self) -> dict[str, PreparedEni]:
        """By MAC, in lower case, as they should be by the facts of now."""
        facts = self.facts
        return {mac: PreparedEni(*one, facts.addresses, facts.closed) for mac, one in self.devices.items()}

    def prepared(self) -> tuple[PreparedEni, ...]:
        return tuple(self.enis.values())

    def retire(self, host: int) -> None:
        """The pod's link is out of use, or has gone. With ``removing`` held."""
        self.retired.add(host)
        self.joined.pop(host, None)
        self.pods.pop(host, None)

    def step(self) -> AbstractContextManager[object]:
        return self.removing

    def has_pod(self, ifindex: int, endpoint: Endpoint) -> bool:
        return self.pods.get(ifindex) == endpoint

    def has_link(self, ifindex: int) -> bool:
        return ifindex in self.pods

    def has_eni(self, ifindex: int, eni: EniLink) -> bool:
        return any((one.ifindex, one.eni) == (ifindex, eni) for one in self.devices.values())

    def has_device(self, ifindex: int) -> bool:
        return any(one.ifindex == ifindex for one in self.devices.values())

    def is_new(self, address: Address) -> bool:
        """Of a pod that was set up since the last round began, or is being. With ``removing`` held."""
        joined = tuple(self.joined.values())
        return address in self.joining or any(address in endpoint.addresses() for endpoint in joined)

    @contextmanager
    def to_join(self, endpoint: Endpoint) -> Iterator[None]:
        """While it is set up: what an earlier look had of its addresses is not true any more."""
        with self.removing:
            self.joining.update(endpoint.addresses())
        try:
            yield
        finally:
            self.joining.difference_update(endpoint.addresses())

    def eni_names(self) -> Iterable[str]:
        return [device.name for device in self.devices.values()]
