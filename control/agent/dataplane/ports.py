"""The kernel as the use cases see it, and how records become endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from control.model.errors import KernelError
from control.model.ids import Address, AttachmentKey, EniId, Mac
from control.model.modes import UplinkKind, is_built
from control.model.records import AttachmentRecord, EniRecord
from datapath.difference import Difference
from datapath.endpoint import (
    Applied,
    Carrier,
    Endpoint,
    EndpointId,
    EndpointKey,
    EniLink,
    Network,
    OwnEni,
    SharedEni,
    Sighting,
    Uplink,
)


class NodeKernel(Protocol):
    """One node's kernel objects. Failures are ``control.model.errors.KernelError`` or RequestError."""

    def setup(self, endpoint: Endpoint, netns: int) -> Applied:
        """Raises AddressInUse if a running pod carries one of the addresses."""
        ...

    def check(self, endpoint: Endpoint, netns: int | None) -> tuple[Difference, ...]: ...
    def teardown(self, endpoint: Endpoint, netns: int | None) -> None: ...
    def prepare_uplink(self, uplink: SharedEni) -> None:
        """Make an ENI ready for pods; one that a pod has for itself is left to that."""
        ...

    def forget_eni(self, mac: Mac) -> None: ...
    async def repair(self, endpoints: Sequence[Endpoint]) -> tuple[Difference, ...]:
        """Bring the host's side of all endpoints in order; says what was not. Others are served meanwhile."""
        ...

    def foreign_hands(self) -> tuple[Difference, ...]:
        """What others have done that no repair undoes, as of the last one, with what helps."""
        ...

    def carriers(self, *, lately: bool = False) -> tuple[Carrier, ...]:
        """Every live link that a pod may be behind, recorded or not, with what it carries.

        ``lately``: as the last ``repair`` saw them, if that will do: nobody came or went since.
        """
        ...

    def take_down(self, who: EndpointId, netns: int | None = None) -> tuple[Address, ...]:
        """Remove a pod of which nothing else is known; the addresses that it carried.

        Also one of a mode that only another release has.
        """
        ...

    def live(self, asked: Iterable[EndpointId]) -> Mapping[EndpointKey, Sighting]:
        """The kernel's word on each. Never raises: what cannot be looked at is UNKNOWN, and never GONE."""
        ...

    async def link_appears(self, mac: Mac, *, timeout: float) -> bool:
        """Wait for a device with this MAC; False if it is not there after ``timeout`` seconds."""
        ...


class HomeKernel(Protocol):
    """Of the node's own link."""

    def home_addresses(self, primary_mac: Mac) -> tuple[Address, ...]:
        """Global addresses on the primary ENI's link, as the kernel lists them. Raises KernelError."""
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


def shared_eni(eni: EniRecord, mtu: int) -> SharedEni:
    """As endpoints have it. Raises KernelError as ``eni_link``."""
    return SharedEni(eni.eni_id, eni_link(eni, mtu))


def endpoint_of(
    attachment: AttachmentRecord,
    eni: EniRecord,
    settings: EndpointSettings,
    *,
    fast: bool | None = None,
    hooked: bool = True,
) -> Endpoint:
    """``fast`` and ``hooked`` as for ``Endpoint``. Raises KernelError, also for what is ``not_built``."""
    return Endpoint(
        host_link=attachment.host_link,
        ifname=attachment.key.ifname,
        container_id=attachment.key.container_id,
        mode=attachment.mode.value,
        uplink=_uplink(attachment, eni_link(eni, settings.mtu)),
        ipv4=attachment.ipv4,
        ipv6=attachment.ipv6,
        mtu=settings.mtu,
        extra_routes=settings.extra_routes,
        netns=attachment.netns,
        fast=fast,
        hooked=hooked,
    )


def not_built(attachment: AttachmentRecord) -> str:
    """Why this release does nothing for the pod but take it down; "" if it set the pod up, or could have."""
    if is_built(attachment.mode, attachment.uplink):
        return ""
    return (
        f"pod {attachment.pod} was made in mode {attachment.mode} on a {attachment.uplink.kind}, which this "
        "release of terwayd has not: it runs as it is, and is neither checked nor mended; delete the pod, or "
        "go back to the release that made it"
    )


def id_of(attachment: AttachmentRecord, eni: EniRecord | None) -> EndpointId:
    """``eni`` None: the ledger has lost it."""
    key = EndpointKey(attachment.key.container_id, attachment.key.ifname)
    mac = "" if eni is None else eni.mac
    mode, addresses = attachment.mode.value, attachment.addresses()
    return EndpointId(key, mode, attachment.host_link, attachment.netns, mac, addresses)


def sightings(
    kernel: NodeKernel, attachments: Iterable[AttachmentRecord], enis: Mapping[EniId, EniRecord]
) -> dict[AttachmentKey, Sighting]:
    """The kernel's word on each attachment. ``enis`` by id, as far as they are known."""
    asked = {one.key: id_of(one, enis.get(one.eni_id)) for one in attachments}
    seen = kernel.live(asked.values())
    return {key: seen[one.key] for key, one in asked.items()}


def _uplink(attachment: AttachmentRecord, eni: EniLink) -> Uplink:
    kind, name = attachment.uplink.kind, attachment.uplink.id
    if kind is UplinkKind.SHARED_ENI:
        return SharedEni(name, eni)
    if kind is UplinkKind.OWN_ENI:
        return OwnEni(name, eni)
    raise KernelError(not_built(attachment))
