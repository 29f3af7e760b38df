"""The result of an ADD in every version of the specification, and what becomes of it in a chain.

One value, ``Result``, holds all that any version has; ``encode`` leaves out what the version asked for does
not know, and ``parse`` reads a prevResult of any of them. The versions differ in little:

- before 1.0.0 each of ``ips`` says ``"version": "4"`` or ``"6"``;
- ``mtu``, ``socketPath`` and ``pciID`` of an interface, and ``mtu``, ``advmss``, ``priority``, ``table`` and
  ``scope`` of a route are new in 1.1.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)

from cni.errors import CniError, Code, incompatible
from cni.fields import FieldError, Fields, Network, parse_network
from cni.version import CniVersion

Address = IPv4Address | IPv6Address
AddressWithPrefix = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Interface:
    """One network device. ``sandbox`` is the namespace's path, "" for a device of the node."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = 0
    """0: not said."""
    socket_path: str = ""
    pci_id: str = ""


@dataclass(frozen=True, slots=True)
class Ip:
    """``interface`` is an index into ``Result.interfaces``, None if not said."""

    address: AddressWithPrefix
    gateway: Address | None = None
    interface: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """``extra`` holds the 1.1.0 keys (mtu, advmss, priority, table, scope) that were said."""

    dst: Network
    gw: Address | None = None
    extra: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Dns:
    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Ip, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns = Dns()


def of_pod(pod: Interface, host: Interface | None, ips: tuple[Ip, ...]) -> Result:
    """Our own part of a result: the pod's device first, then its peer on the node if it has one.

    The pod's is first because many consumers read ``interfaces[0]`` only, and upstream lists no other; the
    peer is there for chained plugins (bandwidth looks for it). ``ips`` are all the pod's device's.
    """
    interfaces = (pod,) if host is None else (pod, host)
    return Result(interfaces, tuple(replace(ip, interface=0) for ip in ips))


def merge(before: Result, ours: Result) -> Result:
    """What a chained plugin answers: everything from before, then ours, whose indices move up."""
    shift = len(before.interfaces)
    moved = tuple(
        ip if ip.interface is None else replace(ip, interface=ip.interface + shift) for ip in ours.ips
    )
    return Result(
        before.interfaces + ours.interfaces,
        before.ips + moved,
        before.routes + ours.routes,
        before.dns if before.dns != Dns() else ours.dns,
    )


def encode(result: Result, version: CniVersion) -> bytes:
    """One JSON object and a newline, as ``version`` has it."""
    body: dict[str, object] = {
        "cniVersion": str(version),
        "interfaces": [_interface(item, version) for item in result.interfaces],
        "ips": [_ip(item, version) for item in result.ips],
    }
    if result.routes:
        body["routes"] = [_route(item, version) for item in result.routes]
    body["dns"] = _said(
        nameservers=list(result.dns.nameservers),
        domain=result.dns.domain,
        search=list(result.dns.search),
        options=list(result.dns.options),
    )
    return json.dumps(body).encode() + b"\n"


def _said(**keys: object) -> dict[str, object]:
    return {key: value for key, value in keys.items() if value}


def _interface(item: Interface, version: CniVersion) -> dict[str, object]:
    body: dict[str, object] = {"name": item.name} | _said(mac=item.mac, sandbox=item.sandbox)
    if version.at_least(CniVersion.V1_1_0):
        body |= _said(mtu=item.mtu, socketPath=item.socket_path, pciID=item.pci_id)
    return body


def _ip(item: Ip, version: CniVersion) -> dict[str, object]:
    body: dict[str, object] = {"address": str(item.address)}
    if not version.at_least(CniVersion.V1_0_0):
        body["version"] = str(item.address.version)
    if item.gateway is not None:
        body["gateway"] = str(item.gateway)
    if item.interface is not None:
        body["interface"] = item.interface
    return body


def _route(item: Route, version: CniVersion) -> dict[str, object]:
    body: dict[str, object] = {"dst": str(item.dst)}
    if item.gw is not None:
        body["gw"] = str(item.gw)
    if version.at_least(CniVersion.V1_1_0):
        body |= dict(item.extra)
    return body


_ROUTE_EXTRA = ("mtu", "advmss", "priority", "table", "scope")


def parse(prev_result: Mapping[str, object], asked: CniVersion) -> Result:
    """A prevResult, in the version it names or, if it names none, in ``asked``.

    Raises CniError CONFIG for what is no result, and INCOMPATIBLE_VERSION for one older than 0.3.0.
    """
    fields = Fields(prev_result, "prevResult.")
    try:
        _check_version(fields.text("cniVersion", str(asked)))
        result = Result(
            tuple(_read_interface(item) for item in fields.inners("interfaces")),
            tuple(_read_ip(item) for item in fields.inners("ips")),
            tuple(_read_route(item) for item in fields.inners("routes")),
            _read_dns(fields.inner("dns")),
        )
        _check_indices(result, fields)
    except FieldError as exc:
        raise CniError(Code.CONFIG, "invalid prevResult", str(exc)) from exc
    return result


def _check_version(named: str) -> None:
    if named not in tuple(CniVersion):
        raise incompatible(named, for_what="a prevResult")


def _check_indices(result: Result, fields: Fields) -> None:
    for ip in result.ips:
        if ip.interface is not None and ip.interface >= len(result.interfaces):
            raise fields.error("ips", f"interface below {len(result.interfaces)}, the number of interfaces")


def _read_interface(fields: Fields) -> Interface:
    return Interface(
        name=fields.text("name"),
        mac=fields.text("mac"),
        sandbox=fields.text("sandbox"),
        mtu=fields.integer("mtu", 0),
        socket_path=fields.text("socketPath"),
        pci_id=fields.text("pciID"),
    )


def _read_ip(fields: Fields) -> Ip:
    index = fields.integer("interface", -1, low=-1)  # Go writes -1 for "not said", too
    text = fields.text("address")
    if parse_network(text) is None:
        raise fields.error("address", "an address with its prefix length, 10.0.0.1/24")
    return Ip(ip_interface(text), _read_address(fields, "gateway"), index if index >= 0 else None)


def _read_route(fields: Fields) -> Route:
    dst = parse_network(fields.text("dst"))
    if dst is None:
        raise fields.error("dst", "a CIDR")
    extra = tuple((key, fields.integer(key, 0)) for key in _ROUTE_EXTRA if fields.value(key) is not None)
    return Route(dst, _read_address(fields, "gw"), extra)


def _read_dns(fields: Fields) -> Dns:
    return Dns(
        fields.texts("nameservers"), fields.text("domain"), fields.texts("search"), fields.texts("options")
    )


def _read_address(fields: Fields, key: str) -> Address | None:
    text = fields.text(key)
    if not text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        raise fields.error(key, "an IP address") from None
