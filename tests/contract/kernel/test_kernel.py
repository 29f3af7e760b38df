"""What the use cases may count on, whatever the mode and whoever is behind the port."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control.model.errors import AddressInUse, KernelError, UplinkBroken
from control.model.ids import Mac
from datapath.endpoint import AppliedSlave, AppliedVeth, EndpointKey, Mode, Presence
from tests.contract.kernel.conftest import THREE, Site
from tests.contract.kernel.tiny import TINY
from tests.netns.datapath.own_eni import own
from tests.netns.datapath.world import ENI1, ENI2, eni_link, shared

THERE, GONE = Presence.THERE, Presence.GONE
MODES = pytest.mark.parametrize("mode", list(THREE), ids=list(map(str, THREE)))


def told(site: Site, *endpoints: object) -> list[Presence]:
    found = site.kernel.live([one.id for one in endpoints])  # type: ignore[attr-defined]
    return [found[one.key].presence for one in endpoints]  # type: ignore[attr-defined]


@MODES
def test_made_checked_and_taken_down(site: Site, mode: str) -> None:
    endpoint, netns = site.pod(mode)
    assert told(site, endpoint) == [GONE]
    assert site.kernel.check(endpoint, netns) != ()
    site.kernel.setup(endpoint, netns)
    assert site.kernel.check(endpoint, netns) == ()
    assert told(site, endpoint) == [THERE]
    site.kernel.teardown(endpoint, netns)
    assert told(site, endpoint) == [GONE]
    assert site.kernel.check(endpoint, netns) != ()
    assert site.kernel.carriers() == ()


@MODES
def test_twice_is_once(site: Site, mode: str) -> None:
    endpoint, netns = site.pod(mode)
    assert site.kernel.setup(endpoint, netns) == site.kernel.setup(endpoint, netns)
    for _ in range(2):
        site.kernel.teardown(endpoint, None)
    assert site.kernel.carriers() == ()


def test_what_it_made_is_told_by_kind_of_device(site: Site) -> None:
    veth = site.kernel.setup(*site.pod(Mode.POLICY_ROUTE))
    slave = site.kernel.setup(*site.pod(Mode.MACVLAN, ENI2))
    assert isinstance(veth, AppliedVeth)
    assert isinstance(slave, AppliedSlave)
    assert slave.pod_mac == ENI2.mac
    assert veth.pod_mac not in (veth.host_mac, ENI1.mac)


@MODES
def test_a_live_pods_addresses_are_nobody_elses(site: Site, mode: str) -> None:
    endpoint, netns = site.pod(mode)
    site.kernel.setup(endpoint, netns)
    second, other = site.pod(mode, ipv4=endpoint.ipv4, ipv6=endpoint.ipv6)
    with pytest.raises(AddressInUse):
        site.kernel.setup(second, other)
    assert told(site, endpoint, second) == [THERE, GONE]
    assert site.kernel.check(endpoint, netns) == ()


@pytest.mark.parametrize("mode", [Mode.POLICY_ROUTE, TINY])
def test_an_eni_is_shared_or_a_pods_own(site: Site, mode: str) -> None:
    sharing, netns = site.pod(mode)
    site.kernel.setup(sharing, netns)
    with pytest.raises(AddressInUse):
        site.kernel.setup(*site.pod(Mode.MACVLAN))
    site.kernel.teardown(sharing, netns)
    alone, own_netns = site.pod(Mode.MACVLAN)
    site.kernel.setup(alone, own_netns)
    with pytest.raises(UplinkBroken):
        site.kernel.setup(*site.pod(mode))
    site.kernel.prepare_uplink(shared(eni_link(ENI1)))  # as each look at the ENI does
    assert site.kernel.check(alone, own_netns) == ()
    site.kernel.teardown(alone, own_netns)
    site.kernel.setup(*site.pod(mode))


def test_a_mode_refuses_the_other_modes_uplink(site: Site) -> None:
    endpoint, netns = site.pod(Mode.MACVLAN)
    with pytest.raises(KernelError):
        site.kernel.setup(replace(endpoint, uplink=shared(eni_link(ENI1))), netns)
    endpoint, netns = site.pod(Mode.POLICY_ROUTE)
    with pytest.raises(KernelError):
        site.kernel.setup(replace(endpoint, uplink=own(ENI1)), netns)
    assert site.kernel.carriers() == ()


@MODES
def test_late_teardown_of_another_sandbox(site: Site, mode: str) -> None:
    endpoint, netns = site.pod(mode)
    site.kernel.setup(endpoint, netns)
    site.kernel.teardown(replace(endpoint, container_id="an earlier one"), None)
    assert told(site, endpoint) == [THERE]
    assert site.kernel.check(endpoint, netns) == ()


@MODES
def test_unrecorded_pods_are_carriers_until_taken_down(site: Site, mode: str) -> None:
    endpoint, netns = site.pod(mode)
    site.kernel.setup(endpoint, netns)
    assert site.repair() == ()
    (carrier,) = site.kernel.carriers()
    assert carrier.is_of(*endpoint.key)
    assert not carrier.is_of(endpoint.container_id, "net1")
    assert carrier.addresses == set(endpoint.addresses())
    assert carrier.enis == {ENI1.mac}
    assert carrier.mode == mode
    assert site.kernel.take_down(replace(carrier.id, key=EndpointKey("another", endpoint.ifname))) == ()
    assert told(site, endpoint) == [THERE]
    assert set(site.kernel.take_down(carrier.id)) == set(endpoint.addresses())
    assert site.kernel.take_down(carrier.id) == ()
    assert told(site, endpoint) == [GONE]


@pytest.mark.parametrize("mode", [Mode.POLICY_ROUTE, TINY])
def test_two_modes_beside_each_other(site: Site, mode: str) -> None:
    one, first = site.pod(mode)
    other, second = site.pod(Mode.MACVLAN, ENI2)
    site.kernel.setup(one, first)
    site.kernel.setup(other, second)
    assert site.repair(one, other) == ()
    assert told(site, one, other) == [THERE, THERE]
    found = {carrier.container_id for carrier in site.kernel.carriers()}
    assert found == {one.container_id, other.container_id}
    site.kernel.teardown(one, None)
    assert told(site, one, other) == [GONE, THERE]
    assert site.kernel.check(other, second) == ()


def test_waiting_for_a_device(site: Site) -> None:
    assert asyncio.run(site.kernel.link_appears(Mac(ENI1.mac), timeout=5))


def test_forgotten_enis_carry_nobody_new(site: Site) -> None:
    site.kernel.forget_eni(Mac(ENI1.mac))
    site.kernel.forget_eni(Mac(ENI1.mac))
    with pytest.raises(KernelError):
        site.kernel.setup(*site.pod(Mode.POLICY_ROUTE))
    site.kernel.prepare_uplink(shared(eni_link(ENI1)))
    site.kernel.setup(*site.pod(Mode.POLICY_ROUTE))
