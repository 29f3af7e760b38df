"""Names of things. A bare ``str`` never crosses a boundary where two kinds of name could be swapped."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NewType

Address = IPv4Address | IPv6Address

EniId = NewType("EniId", str)
InstanceId = NewType("InstanceId", str)
VSwitchId = NewType("VSwitchId", str)
SecurityGroupId = NewType("SecurityGroupId", str)
ClientToken = NewType("ClientToken", str)
"""Idempotency key of one write to the cloud: at most 64 ASCII characters, a UUID here."""
Mac = NewType("Mac", str)
"""Lower case, six hex pairs with colons."""
IfIndex = NewType("IfIndex", int)


@dataclass(frozen=True, slots=True, order=True)
class PodKey:
    """A pod's place in Kubernetes. Two pods in a row may share it; their ``uid`` differs."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class AttachmentKey:
    """What the runtime calls one interface of one sandbox: the pair the CNI specification keys on."""

    container_id: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.container_id[:13]}/{self.ifname}"
