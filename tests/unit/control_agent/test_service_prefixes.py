"""What the node knows of Services: from the API server, from the ledger, and from the release before."""

from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from control.agent.dataplane import service_prefixes
from control.agent.dataplane.service_prefixes import FACT, SINCE, Destinations, ServicePrefixes
from control.agent.state.journal import Journal
from control.kube.fake import FakeKubernetes
from control.model.clock import SystemClock
from control.model.ids import Address
from control.store.memory import MemoryLedger

RANGE = ip_network("172.21.0.0/20")


class Site:
    def __init__(self) -> None:
        self.ledger, self.kubernetes = MemoryLedger(), FakeKubernetes()
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.ledger, SystemClock(), cooldown=30.0)
        self.prefixes = ServicePrefixes(self.journal, self.kubernetes)

    def told(self, *addresses: str, ranges: tuple[str, ...] = ()) -> Destinations | None:
        self.kubernetes.on_services(lambda: None)
        self.kubernetes.put_services(map(ip_address, addresses), tuple(map(ip_network, ranges)) or None)
        asyncio.run(self.prefixes.refresh())
        return self.prefixes.known()


def some(count: int) -> frozenset[Address]:
    return frozenset(IPv4Address("10.96.0.0") + number for number in range(count))


@pytest.fixture
def site() -> Site:
    return Site()


def test_nobody_has_told(site: Site) -> None:
    asyncio.run(site.prefixes.refresh())
    assert site.prefixes.known() is None


def test_ranges_and_what_is_outside_them(site: Site) -> None:
    found = site.told("203.0.113.1", ranges=("172.21.0.0/20",))
    assert found == Destinations((RANGE,), frozenset({ip_address("203.0.113.1")}))
    site.start()
    assert site.prefixes.known() == found


def test_a_change_is_a_small_entry_beside_the_large_one(site: Site) -> None:
    site.told(*map(str, some(3000)))
    large = site.journal.facts[FACT]
    for count in (3001, 3000, 2999):
        site.told(*map(str, some(count)))
        assert site.journal.facts[FACT] is large
        assert len(site.journal.facts[SINCE]) < 100
        site.start()
        known = site.prefixes.known()
        assert known is not None
        assert known.addresses == some(count)


def test_after_many_changes_the_large_one_is_written_anew(site: Site) -> None:
    site.told(*map(str, some(1000)))
    site.told(*map(str, some(1001)))
    site.told(*map(str, some(1000 + service_prefixes.MANY + 1)))
    assert json.loads(site.journal.facts[SINCE]) == {}
    assert len(json.loads(site.journal.facts[FACT])) == 1000 + service_prefixes.MANY + 1
    site.start()
    known = site.prefixes.known()
    assert known is not None
    assert known.addresses == some(1000 + service_prefixes.MANY + 1)


def test_the_release_before_has_written_and_can_read(site: Site) -> None:
    site.ledger.remember(FACT, json.dumps(["172.21.0.0/20", "10.96.0.0/31", "203.0.113.1/32"]))
    site.start()
    found = site.prefixes.known()
    assert found is not None
    assert set(found.ranges) == {RANGE, ip_network("10.96.0.0/31")}
    assert found.addresses == {ip_address("203.0.113.1")}
    site.told("203.0.113.1", "2001:db8::1", ranges=("172.21.0.0/20",))
    assert set(map(ip_network, json.loads(site.journal.facts[FACT]))) == {
        RANGE,
        ip_network("203.0.113.1/32"),
        ip_network("2001:db8::1/128"),
    }


def test_another_range_is_written_whole(site: Site) -> None:
    site.told("203.0.113.1", ranges=("172.21.0.0/20",))
    site.told("203.0.113.1", ranges=("172.21.0.0/20", "172.22.0.0/20"))
    assert "172.22.0.0/20" in json.loads(site.journal.facts[FACT])


def test_more_than_the_map_has_room_for_are_put_together(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_prefixes, "MOST_SINGLE", 100)
    found = site.told(*map(str, some(256)))
    assert found == Destinations((ip_network("10.96.0.0/24"),))


def test_the_same_again_costs_nothing(site: Site) -> None:
    site.told("203.0.113.1")
    before = dict(site.journal.facts)
    known = site.prefixes.known()
    site.told("203.0.113.1")
    assert site.prefixes.known() is known
    assert site.journal.facts == before


def test_few_are_written_whole_as_the_release_before_reads_no_difference(site: Site) -> None:
    site.told("203.0.113.1", "203.0.113.2")
    site.told("203.0.113.2", "203.0.113.3")
    assert set(json.loads(site.journal.facts[FACT])) == {"203.0.113.2/32", "203.0.113.3/32"}


def test_a_difference_counts_for_the_list_that_it_was_made_of_alone(site: Site) -> None:
    """The release before has served meanwhile, and writes the list without looking at the difference."""
    first, second = some(3000), some(2999)
    site.told(*map(str, first))
    site.told(*map(str, second))
    assert json.loads(site.journal.facts[SINCE])["removed"]
    site.ledger.remember(FACT, json.dumps([f"{one}/32" for one in first]))
    site.start()
    known = site.prefixes.known()
    assert known is not None
    assert known.addresses == first
