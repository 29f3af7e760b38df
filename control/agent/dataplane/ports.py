"""The kernel as the use cases see it, and how records become endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from control.model.errors import KernelError
from control.model.ids import Address, Mac
from control.model.records import AttachmentRecord, EniRecord
from datapath.endpoint import Applied, Carrier, Difference, Endpoint, EniLink, Network


class NodeKernel(Protocol):
    """One node's kernel objects. Failures are ``control.model.errors.KernelError`` or RequestError."""

    def setup(self, endpoint: Endpoint, netns: int) -> Applied:
        """Raises AddressInUse if a running pod carries one of the addresses."""
        ...

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]: ...
    def teardown(self, endpoint: Endpoint, netns: int | None) -> None: ...
    def prepare_eni(self, eni: EniLink) -> None: ...
    def forget_eni(self, mac: Mac) -> None: ...
    def repair(self, endpoints: Sequence[Endpoint]) -> tuple[Difference, ...]: ...
    def carriers(self) -> tuple[Carrier, ...]:
        """Every live link that a pod may be behind, recorded or not, with what it carries."""
        ...

    def take_down(self, link: str, container_id: str) -> tuple[Address, ...]:
        """Remove a pod's link by its name and alias alone; the addresses that it carried."""
        ...

    def pod_links(self) -> dict[str, str]:
        """Host link name to the container id it carries, for every live pod link."""
        ...

    async def link_appears(self, mac: Mac, *, timeout: float) -> bool:
        """Wait for a device with this MAC; False if it is not there after ``timeout`` seconds."""
        ...


class EndpointSettings:
    """What the configuration adds to every endpoint."""

    __slots__ = ("extra_routes", "mtu")

    def __init__(self, *, mtu: int = 1500, extra_routes: tuple[Network, ...] = ()) -> None:
        self.mtu = mtu
        self.extra_routes = extra_routes


def eni_link(eni: EniRecord, mtu: int) -> EniLink:
    """Raises KernelError if the ENI has never been seen in metadata, so its gateway is unknown."""
    if eni.gateway is None:
        raise KernelError(f"gateway of {eni.eni_id} is unknown: metadata has not shown this ENI yet")
    return EniLink(mac=eni.mac, gateway=eni.gateway, gateway_v6=eni.gateway_v6, mtu=mtu)


def endpoint_of(
    attachment: AttachmentRecord,
    eni: EniRecord,
    settings: EndpointSettings,
    *,
    fast: bool | None = None,
    hooked: bool = True,
) -> Endpoint:
    """``fast`` and ``hooked`` as for ``Endpoint``."""
    return Endpoint(
        host_link=attachment.host_link,
        ifname=attachment.key.ifname,
        container_id=attachment.key.container_id,
        eni=eni_link(eni, settings.mtu),
        ipv4=attachment.ipv4,
        ipv6=attachment.ipv6,
        mtu=settings.mtu,
        extra_routes=settings.extra_routes,
        fast=fast,
        hooked=hooked,
    )
