"""How a call asks for prefixes, or names some: Ipv4Prefix.N, Ipv4PrefixCount, and their IPv6 twins.

Documented: 1 to 10 of them in one call, by count or by name and never both, /28 and /80. Inferred: a call
that asks for addresses and for prefixes of one family is refused (upstream's client never sends one and calls
it invalid); InvalidParameter for what is no standard CIDR of that length.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from lab.cloud import errors
from lab.cloud.actions.parameters import Parameters, has_zone
from lab.cloud.addresses import BLOCK_LENGTH
from lab.cloud.model import Network
from lab.cloud.prefixes import PrefixAsk

_MOST = 10


def asked(p: Parameters, version: int) -> PrefixAsk:
    """Raises InvalidParameter."""
    name = _name(version)
    count, named = p.integer(f"{name}Count", low=1, high=_MOST), listed(p, version)
    if count is not None and named:
        raise errors.invalid_parameter(f"{name}Count", "prefixes are given by name too")
    return PrefixAsk(version, count or 0, named)


def listed(p: Parameters, version: int) -> tuple[Network, ...]:
    name = _name(version)
    texts = p.listing(name)
    if len(texts) > _MOST:
        raise errors.invalid_parameter(name, f"at most {_MOST} in one call")
    return tuple(_parse(name, text, version) for text in texts)


def refuse_mixture(ask: PrefixAsk, addresses: int) -> None:
    """``addresses`` is how many of the same family the call asks for beside."""
    if ask.total and addresses:
        raise errors.invalid_parameter(_name(ask.version), "addresses are asked for in the same call")


def text(blocks: Sequence[Network]) -> list[str]:
    return [str(block) for block in blocks]


def _name(version: int) -> str:
    return f"Ipv{version}Prefix"


def _parse(name: str, value: str, version: int) -> Network:
    kind = IPv4Network if version == 4 else IPv6Network
    if has_zone(value):
        raise errors.invalid_parameter(name, f"{value!r} has a zone")
    try:
        found = kind(value)
    except ValueError as exc:
        raise errors.invalid_parameter(name, str(exc)) from None
    if found.prefixlen != BLOCK_LENGTH[version]:
        raise errors.invalid_parameter(name, f"{value!r} is no /{BLOCK_LENGTH[version]}")
    return found
