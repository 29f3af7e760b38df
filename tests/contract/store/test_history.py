"""The past is bounded: what is noisy pushes out its own past, and nobody else's."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from control.model.ids import AttachmentKey, EniId, PodKey
from control.model.modes import NetworkMode
from control.model.records import (
    HISTORY_AT_MOST,
    HISTORY_BATCH,
    HISTORY_OF_ADDRESS,
    HISTORY_OF_FAILED,
    HISTORY_OF_POD,
    Changes,
    Ended,
    HistoryRecord,
    Ledger,
)
from control.store import history
from control.store.ledger import SqliteLedger
from control.store.memory import MemoryLedger

ONE = HistoryRecord(
    IPv4Address("10.0.16.5"),
    PodKey("default", "web-0"),
    "uid-1",
    AttachmentKey("c" * 64, "eth0"),
    NetworkMode.MACVLAN,
    EniId("eni-1"),
    10.5,
    20.25,
    Ended.REPLACED,
)


@pytest.fixture(params=["sqlite", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    made: Ledger = SqliteLedger(tmp_path / "l.db") if request.param == "sqlite" else MemoryLedger()
    yield made
    made.close()


def test_every_field_comes_back_by_address_by_pod_and_by_eni(ledger: Ledger) -> None:
    six = replace(ONE, address=IPv6Address("2001:db8::5"), since=0.0)
    other = replace(ONE, address=IPv4Address("10.0.16.6"), pod=PodKey("default", "db"), eni_id=EniId("eni-2"))
    ledger.write(Changes(history=(ONE, six, other)))
    assert ledger.history(ONE.address) == (ONE,)
    assert ledger.history(PodKey("default", "web-0")) == (ONE, six)
    assert ledger.history(EniId("eni-2")) == (other,)
    for unknown in (IPv4Address("1.2.3.4"), PodKey("default", "web"), EniId("eni-3")):
        assert ledger.history(unknown) == ()


def _ends_with(found: list[str], told: list[str], least: int) -> None:
    """The last that were told of, at least so many, and few more."""
    assert least <= len(found) < least + HISTORY_BATCH
    assert found == told[-len(found) :]


def test_a_pod_whose_sandboxes_crash_pushes_out_its_own_past_alone(ledger: Ledger) -> None:
    quiet = replace(ONE, pod=PodKey("default", "quiet"))
    ledger.write(Changes(history=(quiet,)))
    for n in range(1000):
        ledger.write(Changes(history=(replace(ONE, uid=f"uid-{n}"),)))
    found = ledger.history(ONE.address)
    assert found[0] == quiet
    _ends_with([r.uid for r in found[1:]], [f"uid-{n}" for n in range(1000)], HISTORY_OF_POD)


def test_an_address_that_is_used_often_pushes_out_no_other_ones_past(ledger: Ledger) -> None:
    quiet = replace(ONE, address=IPv4Address("10.0.16.6"))
    ledger.write(Changes(history=(quiet,)))
    for n in range(500):
        ledger.write(Changes(history=(replace(ONE, pod=PodKey("default", f"job-{n}")),)))
    assert ledger.history(quiet.address) == (quiet,)
    found = ledger.history(ONE.address)
    _ends_with([r.pod.name for r in found], [f"job-{n}" for n in range(500)], HISTORY_OF_ADDRESS)


def test_a_node_on_which_every_add_fails_keeps_who_really_had_an_address(ledger: Ledger) -> None:
    """Fifty pods are tried again every ten seconds, each on an address after the other."""
    ledger.write(Changes(history=(ONE,)))
    for n in range(200):
        pod = PodKey("default", f"crash-{n % 50}")
        ledger.write(Changes(history=(replace(ONE, pod=pod, uid=f"uid-f{n}", ended=Ended.FAILED),)))
    found = ledger.history(ONE.address)
    assert found[0] == ONE
    _ends_with([r.uid for r in found[1:]], [f"uid-f{n}" for n in range(200)], HISTORY_OF_FAILED)


def test_there_is_a_bound_in_all(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    assert HISTORY_AT_MOST >= 256 * HISTORY_OF_ADDRESS
    monkeypatch.setattr(history, "HISTORY_AT_MOST", 100)
    records = tuple(replace(ONE, address=IPv4Address(n)) for n in range(130))
    for start in range(0, 130, 13):
        ledger.write(Changes(history=records[start : start + 13]))
    assert ledger.history(ONE.eni_id) == records[30:]


def test_it_is_counted_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart, and a write that failed, do not make the bound forget what is there."""
    monkeypatch.setattr(history, "HISTORY_AT_MOST", 100)
    records = tuple(replace(ONE, address=IPv4Address(n)) for n in range(130))
    first = SqliteLedger(tmp_path / "l.db")
    first.write(Changes(history=records[:90]))
    first.close()
    second = SqliteLedger(tmp_path / "l.db")
    second.write(Changes(history=records[90:]))
    assert second.history(ONE.eni_id) == records[30:]
    second.close()


def test_a_row_of_a_later_release_spoils_neither_the_others_nor_the_ledger(tmp_path: Path) -> None:
    """It has a word that this release does not know. The ledger is not written anew for that, nor lost."""
    path = tmp_path / "l.db"
    ledger = SqliteLedger(path)
    ledger.write(Changes(history=(ONE, replace(ONE, uid="strange"), replace(ONE, uid="last"))))
    ledger.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE history SET ended = 'evicted' WHERE uid = 'strange'")
    ledger = SqliteLedger(path)
    assert [r.uid for r in ledger.history(ONE.address)] == ["uid-1", "last"]
    assert ledger.missing() == ""
    ledger.begin_anew(ledger.load())
    assert [r.uid for r in ledger.history(ONE.address)] == ["uid-1", "last"]
    ledger.close()


def _longest(n: int) -> HistoryRecord:
    """Of a pod with the longest names that Kubernetes takes."""
    return replace(
        ONE,
        address=IPv6Address(f"2001:db8:ffff:ffff:ffff:ffff:ffff:{1 + n % 400:x}"),
        pod=PodKey("n" * 63, f"{n:0253d}"),
        uid=f"{n:036d}",
        eni_id=EniId(f"eni-{n % 7:020d}"),
    )


def test_ten_thousand_pods_with_the_longest_names_take_a_bounded_file(tmp_path: Path) -> None:
    """On a node with more addresses than most types have. The log goes into the file every 1,000 pages."""
    path = tmp_path / "l.db"
    ledger = SqliteLedger(path)
    assert HISTORY_AT_MOST < 10_000
    for start in range(0, 10_000, 50):
        ledger.write(Changes(history=tuple(map(_longest, range(start, start + 50)))))
    half = path.stat().st_size
    for start in range(10_000, 14_000, 50):
        ledger.write(Changes(history=tuple(map(_longest, range(start, start + 50)))))
    addresses = [IPv6Address(f"2001:db8:ffff:ffff:ffff:ffff:ffff:{1 + n:x}") for n in range(400)]
    of_each = [len(ledger.history(address)) for address in addresses]
    assert max(of_each) <= HISTORY_OF_ADDRESS + HISTORY_BATCH - 1
    assert sum(of_each) <= HISTORY_AT_MOST
    assert ledger.history(addresses[13_999 % 400])[-1] == _longest(13_999), "the newest is there"
    assert path.stat().st_size <= max(half, 8 << 20), "what is let go is used again"
    assert path.with_name("l.db-wal").stat().st_size <= 8 << 20
    ledger.close()
    assert path.stat().st_size <= 8 << 20


def test_an_address_that_moves_between_enis_is_told_with_each(ledger: Ledger) -> None:
    """Given back, and had again on another ENI: each row has the ENI of its time."""
    moved = replace(ONE, eni_id=EniId("eni-2"), since=30.0, until=40.0, uid="uid-2")
    back = replace(ONE, since=50.0, until=60.0, uid="uid-3")
    for record in (ONE, moved, back):
        ledger.write(Changes(history=(record,)))
    assert [(r.eni_id, r.uid) for r in ledger.history(ONE.address)] == [
        ("eni-1", "uid-1"),
        ("eni-2", "uid-2"),
        ("eni-1", "uid-3"),
    ]
    assert ledger.history(EniId("eni-2")) == (moved,)


def test_the_order_is_that_of_the_ends_and_not_of_a_clock(ledger: Ledger) -> None:
    """A wall clock that was set back between two lives of the agent."""
    later = replace(ONE, since=5000.0, until=6000.0, uid="before the clock was set back")
    earlier = replace(ONE, since=100.0, until=200.0, uid="after it")
    for record in (later, earlier):
        ledger.write(Changes(history=(record,)))
    assert ledger.history(ONE.address) == (later, earlier)
