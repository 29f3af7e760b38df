"""Which addresses of a Service are translated, and the set of all of them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from control.kube.services import ServiceCache, Translated, parse_address, parse_service
from control.model.ids import Address

_RANGES = (ip_network("10.96.0.0/12"), ip_network("fd00:96::/112"))


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(ip_address(text) for text in texts)


def all_of(*texts: str) -> frozenset[Address]:
    return frozenset(addresses(*texts))


def service(spec: Any, *ingress: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": "web"},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": list(ingress)}},
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (service({"clusterIP": "10.96.0.9"}), ()),
        (service({"clusterIP": "172.21.0.9"}), ("172.21.0.9",)),
        (service({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:97::9"]}), ("fd00:97::9",)),
        (service({"clusterIPs": ["172.21.0.9", "fd00:96::9"]}), ("172.21.0.9",)),
        (
            service({"clusterIP": "10.96.0.9", "externalIPs": ["198.51.100.7", "2001:db8::7"]}),
            ("198.51.100.7", "2001:db8::7"),
        ),
        (service({"clusterIP": "10.96.0.9", "externalIPs": ["10.96.0.8"]}), ("10.96.0.8",)),
        (
            service(
                {"clusterIP": "10.96.0.9", "type": "LoadBalancer"},
                {"ip": "203.0.113.9"},
                {"ip": "203.0.113.10", "ipMode": "VIP"},
                {"ip": "203.0.113.11", "ipMode": "Proxy"},
                {"hostname": "balancer.example.com"},
            ),
            ("203.0.113.9", "203.0.113.10"),
        ),
        (
            service({"clusterIP": "10.96.0.9", "externalIPs": ["203.0.113.9"]}, {"ip": "203.0.113.9"}),
            ("203.0.113.9",),
        ),
        (service({"clusterIP": "None", "externalIPs": ["198.51.100.7"]}, {"ip": "203.0.113.9"}), ()),
        (service({"clusterIPs": ["None"], "externalIPs": ["198.51.100.7"]}), ()),
        (service({"clusterIP": "", "externalIPs": ["198.51.100.7"]}), ()),
        (service({"type": "ExternalName", "clusterIP": "172.21.0.9", "externalIPs": ["198.51.100.7"]}), ()),
        (service({"clusterIP": "172.21.0.9", "externalIPs": ["nonsense", "010.001.0.07"]}),
         ("172.21.0.9", "10.1.0.7")),
        ({"metadata": {"namespace": "default", "name": "web"}}, ()),
        ({"metadata": {"namespace": "default", "name": "web"}, "spec": None, "status": None}, ()),
    ],
)  # fmt: skip
def test_what_is_translated(value: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert parse_service(value, _RANGES) == Translated("default/web", addresses(*expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("010.000.00.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:0::1", "2001:db8::1"),
        ("0.0.0.0", "0.0.0.0"),
        ("", None),
        ("10.0.0", None),
        ("10.0.0.", None),
        ("10.0.0.256", None),
        ("balancer.example.com", None),
    ],
)
def test_addresses_as_kube_proxy_reads_them(text: str, expected: str | None) -> None:
    assert parse_address(text) == (None if expected is None else ip_address(expected))


def test_set_before_the_first_list() -> None:
    cache = ServiceCache()
    assert cache.addresses is None
    cache.replace((), 1)
    assert cache.addresses == frozenset()


def test_address_stays_until_the_last_service_leaves_it() -> None:
    cache = ServiceCache()
    cache.replace((Translated("a/x", addresses("1.1.1.1", "2.2.2.2")), Translated("a/y", ())), 1)
    cache.put(Translated("a/y", addresses("1.1.1.1")), 2)
    cache.remove(Translated("a/x", ()), 3)
    assert cache.addresses == all_of("1.1.1.1")
    cache.put(Translated("a/y", addresses("3.3.3.3")), 4)
    assert cache.addresses == all_of("3.3.3.3")
    cache.remove(Translated("a/y", addresses("3.3.3.3")), 5)
    cache.remove(Translated("a/y", addresses("3.3.3.3")), 6)
    assert cache.addresses == frozenset()
    assert cache.position == 6


def test_list_replaces_everything() -> None:
    cache = ServiceCache()
    cache.replace((Translated("a/x", addresses("1.1.1.1")),), 9)
    cache.replace((Translated("a/y", addresses("2.2.2.2")),), 4)
    assert cache.addresses == all_of("2.2.2.2")
    assert cache.position == 4, "a new server counts anew"
    cache.remove(Translated("a/x", addresses("1.1.1.1")), 5)
    assert cache.addresses == all_of("2.2.2.2")


def test_what_was_read_does_not_change() -> None:
    cache = ServiceCache()
    cache.replace((Translated("a/x", addresses("1.1.1.1")),), 1)
    before = cache.addresses
    cache.put(Translated("a/x", ()), 2)
    assert before == all_of("1.1.1.1")


def test_only_changes_are_told() -> None:
    cache = ServiceCache()
    seen: list[frozenset[Address] | None] = []
    cache.on_change = lambda: seen.append(cache.addresses)
    cache.replace((Translated("a/x", addresses("1.1.1.1")),), 1)
    cache.put(Translated("a/x", addresses("1.1.1.1")), 2)
    cache.put(Translated("a/y", ()), 3)
    cache.advance(9)
    assert seen == [all_of("1.1.1.1")]
    assert cache.position == 9
    cache.put(Translated("a/x", addresses("1.1.1.2")), 10)
    assert seen[1:] == [all_of("1.1.1.2")]
