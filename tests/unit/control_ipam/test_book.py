"""Choice, cooldown and the way back: what a pod is given, and what it is never given."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from control.ipam import transitions
from control.ipam.allocator import Allocation, AllocationRequest, allocation
from control.ipam.book import Book
from control.ipam.choose import choose
from control.ipam.witness import differs, judge
from control.model.ids import Address, AttachmentKey, EniId, Mac, PodKey, VSwitchId
from control.model.modes import shared_eni
from control.model.policies import EniPolicy
from control.model.records import (
    AddressRecord,
    AddressState,
    AttachmentRecord,
    AttachmentState,
    Changes,
    Ended,
    EniRecord,
    EniState,
    Snapshot,
)

ONE, TWO = EniId("eni-1"), EniId("eni-2")
COOLDOWN = 30.0


def _eni(eni_id: EniId, state: EniState = EniState.SERVING) -> EniRecord:
    return EniRecord(eni_id, Mac("00:16:3e:00:00:01"), VSwitchId("vsw"), IPv4Address("10.0.0.1"), state, 0.0)


def _free(text: str, eni: EniId = ONE, since: float = 0.0) -> AddressRecord:
    address: Address = IPv6Address(text) if ":" in text else IPv4Address(text)
    return AddressRecord(address, eni, AddressState.FREE, since)


def _book(*records: AddressRecord) -> Book:
    return Book(Snapshot(enis=(_eni(ONE), _eni(TWO)), addresses=records), cooldown=COOLDOWN)


def _pick(
    book: Book, *, now: float = 100.0, uid: str = "u", policy: EniPolicy = EniPolicy.MOST_IPS
) -> str | None:
    chosen = _choose(book, now=now, uid=uid, policy=policy)
    return str(chosen.ipv4) if chosen else None


def _choose(
    book: Book, *, now: float, uid: str = "u", ipv6: bool = False, policy: EniPolicy = EniPolicy.MOST_IPS
) -> Allocation | None:
    key, pod = AttachmentKey("container", "eth0"), PodKey("default", "web")
    request = AllocationRequest(key, pod, uid, ipv6=ipv6)
    return choose(book, request, book.serving(), now=now, policy=policy)


def _take(book: Book, text: str, *, container: str, uid: str = "u", now: float = 100.0) -> AttachmentRecord:
    record = AttachmentRecord(
        AttachmentKey(container, "eth0"),
        PodKey("default", "web"),
        uid,
        "/run/netns/x",
        "cali0",
        shared_eni(ONE),
        IPv4Address(text),
        None,
        AttachmentState.ADDING,
        now,
    )
    book.apply(transitions.reserve(book, record))
    return record


def test_fullest_eni_serves_first_and_least_ips_spreads() -> None:
    book = _book(_free("10.0.0.2"), _free("10.0.0.3"), _free("10.0.1.2", TWO))
    assert _pick(book) == "10.0.0.2"
    assert _pick(book, policy=EniPolicy.LEAST_IPS) == "10.0.1.2"


def test_an_eni_that_does_not_serve_gives_nothing() -> None:
    book = _book(_free("10.0.0.2"))
    for state in (EniState.FROZEN, EniState.ATTACHING, EniState.RELEASING):
        book.apply(Changes(enis=(_eni(ONE, state),)))
        assert _pick(book) is None


def test_both_families_come_from_one_eni() -> None:
    book = _book(_free("10.0.0.2"), _free("10.0.0.3"), _free("10.0.1.2", TWO), _free("2001:db8::2", TWO))
    chosen = _choose(book, now=1.0, ipv6=True)
    assert chosen == allocation(TWO, IPv4Address("10.0.1.2"), IPv6Address("2001:db8::2"))


def test_released_address_cools_before_another_pod_gets_it() -> None:
    """An address reused while peers still hold connections to it reaches the wrong pod: aws 3634."""
    book = _book(_free("10.0.0.2"))
    record = _take(book, "10.0.0.2", container="a")
    book.apply(transitions.finish_delete(book, record, 200.0, Ended.DELETED))
    assert _pick(book, now=200.0 + COOLDOWN - 1, uid="other") is None
    assert [str(r.address) for r in book.cooling(201.0)] == ["10.0.0.2"]
    assert _pick(book, now=200.0 + COOLDOWN, uid="other") == "10.0.0.2"
    assert book.cooling(200.0 + COOLDOWN) == ()


def test_the_same_pod_may_have_its_address_back_at_once() -> None:
    book = _book(_free("10.0.0.2"), _free("10.0.0.3"))
    record = _take(book, "10.0.0.3", container="a", uid="me")
    book.apply(transitions.finish_delete(book, record, 200.0, Ended.DELETED))
    assert _pick(book, now=201.0, uid="me") == "10.0.0.3"
    assert _pick(book, now=201.0, uid="other") == "10.0.0.2"


def test_cooling_addresses_thaw_in_order_though_one_was_taken_back() -> None:
    """The head of the queue may be a stale entry of an address that was taken and released again."""
    book = _book(_free("10.0.0.2"), _free("10.0.0.3"))
    first = _take(book, "10.0.0.2", container="a", uid="me")
    second = _take(book, "10.0.0.3", container="b", uid="you")
    book.apply(transitions.finish_delete(book, first, 200.0, Ended.DELETED))
    book.apply(transitions.finish_delete(book, second, 201.0, Ended.DELETED))
    again = _take(book, "10.0.0.2", container="c", uid="me", now=210.0)
    book.apply(transitions.finish_delete(book, again, 220.0, Ended.DELETED))
    assert _pick(book, now=201.0 + COOLDOWN, uid="third") == "10.0.0.3"


def test_failed_add_gives_the_address_back_without_cooling() -> None:
    book = _book(_free("10.0.0.2"))
    record = _take(book, "10.0.0.2", container="a")
    assert _pick(book, uid="other") is None
    book.apply(transitions.unreserve(book, record, 200.0))
    assert _pick(book, uid="other") == "10.0.0.2"
    assert not book.attachments


def test_new_sandbox_takes_the_place_of_the_old_one_of_the_same_pod() -> None:
    book = _book(_free("10.0.0.2"))
    old = _take(book, "10.0.0.2", container="old")
    new = replace(old, key=AttachmentKey("new", "eth0"), since=150.0)
    book.apply(transitions.reserve(book, new))
    book.apply(transitions.commit(book, new, 160.0, replaces=(old,)))
    assert [a.key.container_id for a in book.of_pod(old.pod)] == ["new"]
    owner = book.addresses[IPv4Address("10.0.0.2")].owner
    assert owner is not None
    assert owner.container_id == "new"


def test_failed_second_sandbox_gives_the_address_back_to_the_running_one() -> None:
    book = _book(_free("10.0.0.2"))
    old = replace(_take(book, "10.0.0.2", container="old"), state=AttachmentState.READY)
    book.apply(transitions.commit(book, old, 120.0))
    new = replace(old, key=AttachmentKey("new", "eth0"), state=AttachmentState.ADDING, since=150.0)
    for end in (transitions.unreserve, partial(transitions.finish_delete, ended=Ended.DELETED)):
        book.apply(transitions.reserve(book, new))
        book.apply(end(book, new, 200.0))
        record = book.addresses[IPv4Address("10.0.0.2")]
        assert (record.owner, record.state) == (old.key, AddressState.ASSIGNED)
        assert list(book.attachments) == [old.key]


def test_held_address_is_nobodys_whatever_its_record_says() -> None:
    """Not the next pod's, not the cooled one's, and not its last owner's."""
    book = _book(_free("10.0.0.2"), _free("10.0.0.3"))
    address = IPv4Address("10.0.0.2")
    assert book.hold(frozenset({address})) == frozenset()
    assert _pick(book, uid="other") == "10.0.0.3"
    record = _take(book, "10.0.0.2", container="a", uid="me", now=100.0)
    book.apply(transitions.finish_delete(book, record, 200.0, Ended.DELETED))
    assert _pick(book, now=210.0, uid="me") == "10.0.0.3"
    assert _pick(book, now=200.0 + COOLDOWN, uid="other") == "10.0.0.3"
    assert book.hold(frozenset()) == {address}
    assert _pick(book, now=200.0 + COOLDOWN, uid="me") == "10.0.0.2"
    assert address in book.usable(ONE, 4, 200.0 + COOLDOWN)


def test_frozen_address_stays_frozen_when_its_pod_goes() -> None:
    book = _book(_free("10.0.0.2"))
    record = _take(book, "10.0.0.2", container="a")
    book.apply(transitions.freeze_addresses([book.addresses[IPv4Address("10.0.0.2")]], 150.0))
    book.apply(transitions.finish_delete(book, record, 200.0, Ended.DELETED))
    assert book.addresses[IPv4Address("10.0.0.2")].state is AddressState.FROZEN
    assert _pick(book, now=999.0) is None


def test_one_witness_alone_neither_frees_nor_hands_out() -> None:
    records = [_free("10.0.0.2"), replace(_free("10.0.0.3"), state=AddressState.FROZEN)]
    known, frozen, stranger = (IPv4Address(f"10.0.0.{i}") for i in (2, 3, 4))
    everything: frozenset[Address] = frozenset({known, frozen, stranger})
    nothing: frozenset[Address] = frozenset()
    assert not judge(records, everything, nothing)
    assert not judge(records, frozenset({known, frozen}), frozenset({known, stranger}))
    assert judge(records, nothing, nothing).freeze == (records[0],)
    both = judge(records, everything, everything)
    assert (both.thaw, both.adopt, both.freeze) == ((records[1],), (stranger,), ())


def test_addresses_are_compared_as_numbers_not_as_text() -> None:
    """A collector that compared IPv6 text freed healthy workloads: calico 5044."""
    record = _free("2001:db8::2")
    same: frozenset[Address] = frozenset({IPv6Address("2001:0db8:0:0:0:0:0:0002")})
    assert not differs([record], same)
    assert not judge([record], same, same)
