from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cni.errors import CniError, Code
from cni.result import Dns, Interface, Ip, Result, Route, encode, merge, of_pod, parse
from cni.version import SUPPORTED, CniVersion

OURS = of_pod(
    Interface("eth0", "00:16:3e:00:00:01", "/var/run/netns/cni-1", 1500),
    Interface("cali0123456789a", "00:16:3e:00:00:02", mtu=1500),
    (
        Ip(ip_interface("10.0.16.5/20"), ip_address("10.0.31.253")),
        Ip(ip_interface("2001:db8:10:1::5/64"), ip_address("2001:db8:10:1:ffff:ffff:ffff:fffd")),
    ),
)
POD_1_0 = {"name": "eth0", "mac": "00:16:3e:00:00:01", "sandbox": "/var/run/netns/cni-1"}
HOST_1_0 = {"name": "cali0123456789a", "mac": "00:16:3e:00:00:02"}
IP4 = {"address": "10.0.16.5/20", "gateway": "10.0.31.253", "interface": 0}
IP6 = {
    "address": "2001:db8:10:1::5/64",
    "gateway": "2001:db8:10:1:ffff:ffff:ffff:fffd",
    "interface": 0,
}

BEFORE = Result(
    (Interface("br0"), Interface("eth1", "aa:aa:aa:aa:aa:aa", "/ns", 9000, "/sock", "0000:00:01.0")),
    (Ip(ip_interface("192.168.0.2/24"), interface=1), Ip(ip_interface("192.168.0.3/24"))),
    (
        Route(ip_network("0.0.0.0/0"), ip_address("192.168.0.1")),
        Route(ip_network("fd00::/8"), extra=(("mtu", 1400), ("priority", 0), ("table", 5))),
    ),
    Dns(("10.96.0.10",), "cluster.local", ("svc",), ("ndots:5",)),
)


def body(result: Result, version: CniVersion) -> dict[str, object]:
    text = encode(result, version)
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == 1
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        *(
            (
                version,
                {
                    "interfaces": [POD_1_0, HOST_1_0],
                    "ips": [IP4 | {"version": "4"}, IP6 | {"version": "6"}],
                },
            )
            for version in ("0.3.0", "0.3.1", "0.4.0")
        ),
        ("1.0.0", {"interfaces": [POD_1_0, HOST_1_0], "ips": [IP4, IP6]}),
        (
            "1.1.0",
            {"interfaces": [POD_1_0 | {"mtu": 1500}, HOST_1_0 | {"mtu": 1500}], "ips": [IP4, IP6]},
        ),
    ],
)
def test_our_result_in_every_version(version: str, expected: dict[str, object]) -> None:
    assert body(OURS, CniVersion(version)) == {"cniVersion": version, "dns": {}} | expected


def test_without_a_host_link_and_without_a_gateway() -> None:
    result = of_pod(Interface("eth0"), None, (Ip(ip_interface("10.0.0.1/32")),))
    assert body(result, CniVersion.V1_0_0) == {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "10.0.0.1/32", "interface": 0}],
        "dns": {},
    }


def test_merge_passes_everything_through_and_moves_our_indices() -> None:
    merged = merge(BEFORE, OURS)
    assert merged.interfaces == BEFORE.interfaces + OURS.interfaces
    assert merged.ips[:2] == BEFORE.ips
    assert [ip.interface for ip in merged.ips] == [1, None, 2, 2]
    assert merged.routes == BEFORE.routes
    assert merged.dns == BEFORE.dns
    assert merge(Result(), OURS) == OURS


def test_everything_of_1_1_0_survives() -> None:
    found = body(BEFORE, CniVersion.V1_1_0)
    assert found["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "192.168.0.1"},
        {"dst": "fd00::/8", "mtu": 1400, "table": 5, "priority": 0},
    ]
    assert found["dns"] == {
        "nameservers": ["10.96.0.10"],
        "domain": "cluster.local",
        "search": ["svc"],
        "options": ["ndots:5"],
    }
    assert parse(found, CniVersion.V1_1_0) == BEFORE


@pytest.mark.parametrize("theirs", SUPPORTED)
@pytest.mark.parametrize("asked", SUPPORTED)
def test_previous_result_of_any_version_in_any_version(theirs: CniVersion, asked: CniVersion) -> None:
    received = body(BEFORE, theirs)
    chained = body(merge(parse(received, asked), OURS), asked)
    again = parse(chained, asked)
    assert [interface.name for interface in again.interfaces] == ["br0", "eth1", "eth0", "cali0123456789a"]
    assert [ip.address for ip in again.ips] == [ip.address for ip in BEFORE.ips + OURS.ips]
    assert again.dns == BEFORE.dns
    ips = chained["ips"]
    assert isinstance(ips, list)
    versions = [ip.get("version") for ip in ips]
    expected = [None] * 4 if asked.at_least(CniVersion.V1_0_0) else ["4", "4", "4", "6"]
    assert versions == expected
    both = theirs.at_least(CniVersion.V1_1_0) and asked.at_least(CniVersion.V1_1_0)
    assert again.interfaces[1].mtu == (9000 if both else 0)
    assert again.interfaces[1].pci_id == ("0000:00:01.0" if both else "")


def test_previous_result_as_go_writes_it() -> None:
    """No version of its own, null lists, index -1, an empty dns."""
    found = parse(
        {
            "interfaces": None,
            "ips": [{"address": "10.0.0.1/24", "interface": -1, "gateway": None, "version": "4"}],
            "routes": None,
            "dns": {},
        },
        CniVersion.V0_4_0,
    )
    assert found == Result(ips=(Ip(ip_interface("10.0.0.1/24")),))


@pytest.mark.parametrize(
    ("prev", "named"),
    [
        ({"interfaces": {}}, "prevResult.interfaces is {}"),
        ({"interfaces": [{"name": 1}]}, "prevResult.interfaces[0].name is 1"),
        ({"ips": [{"address": "10.0.0.1"}]}, 'prevResult.ips[0].address is "10.0.0.1"'),
        ({"ips": [{"address": "x/24"}]}, 'prevResult.ips[0].address is "x/24"'),
        ({"ips": [{}]}, "prevResult.ips[0].address is null"),
        ({"ips": [{"address": "10.0.0.1/24", "gateway": "x"}]}, 'prevResult.ips[0].gateway is "x"'),
        ({"ips": [{"address": "10.0.0.1/24", "interface": 0}]}, "interface below 0"),
        ({"ips": [{"address": "10.0.0.1/24", "interface": "0"}]}, "prevResult.ips[0].interface is"),
        ({"routes": [{"dst": "default"}]}, 'prevResult.routes[0].dst is "default"'),
        ({"routes": [{"dst": "0.0.0.0/0", "mtu": "x"}]}, "prevResult.routes[0].mtu is"),
        ({"dns": []}, "prevResult.dns is []"),
        ({"cniVersion": 1}, "prevResult.cniVersion is 1"),
    ],
)
def test_bad_previous_result(prev: dict[str, object], named: str) -> None:
    with pytest.raises(CniError) as caught:
        parse(prev, CniVersion.V1_0_0)
    assert caught.value.code == Code.CONFIG
    assert named in caught.value.details


def test_previous_result_of_a_version_that_is_not_spoken() -> None:
    with pytest.raises(CniError) as caught:
        parse({"cniVersion": "0.2.0", "ip4": {}}, CniVersion.V0_4_0)
    assert caught.value.code == Code.INCOMPATIBLE_VERSION
