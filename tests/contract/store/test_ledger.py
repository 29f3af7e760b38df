"""What every ledger promises, the one on disk and the one in memory alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from control.model.errors import LedgerError
from control.model.ids import (
    AttachmentKey,
    ClientToken,
    EniId,
    Mac,
    PodKey,
    SecurityGroupId,
    VSwitchId,
)
from control.model.modes import EniKind, NetworkMode, Uplink, UplinkKind
from control.model.records import (
    AddressRecord,
    AddressState,
    AttachmentRecord,
    AttachmentState,
    Changes,
    EniRecord,
    EniState,
    Ledger,
    Operation,
    OperationKind,
    Snapshot,
)
from control.store.ledger import SqliteLedger
from control.store.memory import MemoryLedger

KEY = AttachmentKey("c" * 64, "eth0")
ENI = EniRecord(
    EniId("eni-1"),
    Mac("00:16:3e:00:00:01"),
    VSwitchId("vsw-1"),
    IPv4Address("10.0.16.4"),
    EniState.SERVING,
    12.5,
    IPv4Network("10.0.16.0/20"),
    IPv4Address("10.0.31.253"),
    IPv6Network("2001:db8:10:1::/64"),
    IPv6Address("2001:db8:10:1:ffff:ffff:ffff:fffd"),
    "why",
    EniKind.MEMBER,
    EniId("eni-trunk"),
    1234,
    (SecurityGroupId("sg-1"), SecurityGroupId("sg-2")),
)
ADDRESS = AddressRecord(
    IPv6Address("2001:db8:10:1::5"),
    ENI.eni_id,
    AddressState.ASSIGNED,
    3.0,
    KEY,
    "uid",
    IPv6Network("2001:db8:10:1::/80"),
)
ATTACHMENT = AttachmentRecord(
    KEY,
    PodKey("default", "web-0"),
    "uid",
    "/run/netns/x",
    "cali1",
    Uplink(UplinkKind.TRUNK_MEMBER, ENI.eni_id, 1234),
    IPv4Address("10.0.16.5"),
    None,
    AttachmentState.READY,
    4.0,
    NetworkMode.VLAN,
    3.5,
)
OPERATION = Operation(
    ClientToken("t-1"),
    OperationKind.CREATE_ENI,
    5.0,
    None,
    VSwitchId("vsw-1"),
    (SecurityGroupId("sg-1"), SecurityGroupId("sg-2")),
    6,
    2,
    (IPv4Address("10.0.16.9"),),
)
ALL = Changes(enis=(ENI,), addresses=(ADDRESS,), attachments=(ATTACHMENT,), operations=(OPERATION,))


@pytest.fixture(params=["sqlite", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    made: Ledger = SqliteLedger(tmp_path / "l.db") if request.param == "sqlite" else MemoryLedger()
    yield made
    made.close()


def test_empty_ledger_loads_empty(ledger: Ledger) -> None:
    assert ledger.load() == Snapshot()


def test_every_field_of_every_record_comes_back(ledger: Ledger) -> None:
    ledger.write(ALL)
    ledger.remember("boot_id", "b-1")
    ledger.remember("boot_id", "b-2")
    assert ledger.load() == Snapshot((ENI,), (ADDRESS,), (ATTACHMENT,), (OPERATION,), {"boot_id": "b-2"})


@pytest.mark.parametrize("mode", NetworkMode)
def test_every_mode_and_kind_comes_back(ledger: Ledger, mode: NetworkMode) -> None:
    attachments = tuple(
        replace(ATTACHMENT, key=AttachmentKey(kind, "net1"), mode=mode, uplink=Uplink(kind, ENI.eni_id, 7))
        for kind in UplinkKind
    )
    enis = tuple(replace(ENI, eni_id=EniId(kind), kind=kind) for kind in EniKind)
    ledger.write(Changes(attachments=attachments, enis=enis))
    assert set(ledger.load().attachments) == set(attachments)
    assert set(ledger.load().enis) == set(enis)


def test_put_replaces_by_key_and_drop_of_the_absent_is_nothing(ledger: Ledger) -> None:
    ledger.write(ALL)
    gone = Changes(
        gone_enis=(ENI.eni_id, EniId("eni-none")),
        gone_addresses=(ADDRESS.address, IPv4Address("1.2.3.4")),
        gone_attachments=(KEY,),
        gone_operations=(OPERATION.token,),
    )
    ledger.write(ALL)
    ledger.write(gone)
    ledger.write(gone)
    assert ledger.load() == Snapshot()


def test_survives_sigkill_of_its_process(tmp_path: Path) -> None:
    """A commit that ``write`` has returned from is there after the process was killed."""
    path = tmp_path / "l.db"
    child = (
        "import os, signal, sys, pathlib\n"
        "from tests.contract.store.test_ledger import ALL, SqliteLedger\n"
        "SqliteLedger(pathlib.Path(sys.argv[1])).write(ALL)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", child, str(path)], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    ledger = SqliteLedger(path)
    assert ledger.load().attachments == (ATTACHMENT,)
    ledger.close()


def test_second_daemon_on_the_same_file_is_refused(tmp_path: Path) -> None:
    first = SqliteLedger(tmp_path / "l.db")
    with pytest.raises(LedgerError, match="another terwayd"):
        SqliteLedger(tmp_path / "l.db")
    first.close()


@pytest.mark.parametrize("kept", [0, 20, 600, 4096, 0.25, 0.5, 0.9])
def test_cut_ledger_is_moved_aside_and_a_new_one_begun(tmp_path: Path, kept: float) -> None:
    """Cut at any place: a node without a ledger serves, and the kernel says what is in use."""
    path = tmp_path / "l.db"
    first = SqliteLedger(path)
    for n in range(300):
        first.write(Changes(addresses=(replace(ADDRESS, address=IPv4Address(n)),)))
    first.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    second = SqliteLedger(path)
    assert second.load() == Snapshot()
    second.write(Changes(addresses=(ADDRESS,)))
    second.close()
    assert SqliteLedger(path).load().addresses == (ADDRESS,)
    aside = tmp_path / "l.db.damaged-1"
    assert aside.exists() == bool(kept)
    assert bool(second.moved_aside) == bool(kept)


def test_failed_write_changes_nothing(tmp_path: Path, make_readonly: Callable[[SqliteLedger], None]) -> None:
    ledger = SqliteLedger(tmp_path / "l.db")
    ledger.write(Changes(enis=(ENI,)))
    make_readonly(ledger)
    with pytest.raises(LedgerError):
        ledger.write(ALL)
    assert ledger.load() == Snapshot(enis=(ENI,))
    ledger.close()


@pytest.fixture
def make_readonly() -> Callable[[SqliteLedger], None]:
    """Make the next write fail in its middle, as a full disk does: a trigger refuses attachments."""

    def refuse(ledger: SqliteLedger) -> None:
        ledger._db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON attachment BEGIN SELECT RAISE(FAIL, 'disk full'); END"
        )

    return refuse
