"""A ledger that is lost, cut, emptied, old or another node's: running pods keep their network and addresses.

Each test loses it while the agent is down, as a disk, a hand or a restored image does, and lets the agent
have its time: pool syncs, watches and collections of ten minutes go by on the clock.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from _pytest.mark import ParameterSet

from control.agent.state.faults import FaultPoint
from control.store.schema import SCHEMA_VERSION, version_of
from lab import cni_call
from lab.client import Lab
from lab.cni_call import CniError
from lab.nodes.agent import Wait
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.test_faults import restarted_on_death
from tests.e2e.witnesses import assert_agree, cloud_enis, kernel, reaches, settled, state, until

T = TypeVar("T")
DIRECTORY = "var/lib/cni/terway"
_INTENT = "(token, kind, since, eni_id, security_groups, ipv4_count, ipv6_count, addresses)"
PODS = 18
"""More than one ENI has room for."""


@pytest.fixture
def made(lab: Lab) -> Iterator[Bench]:
    with bench(lab, ip_stack="dual", ip_pool_sync_period="30s", ip_cool_down="0s") as one:
        yield one


def _directory(made: Bench) -> Path:
    return Path(f"/proc/{made.node.pid}/root", DIRECTORY)


def _lose(made: Bench, how: str) -> None:
    directory = _directory(made)
    file = directory / "terway.db"
    match how:
        case "directory":
            shutil.rmtree(directory)
        case "wal":
            (directory / "terway.db-wal").unlink()
        case "emptied":
            (directory / "terway.db-wal").unlink(missing_ok=True)
            file.write_bytes(b"")
        case "cut":
            assert not (directory / "terway.db-wal").exists()
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _unvouched(made: Bench, *pods: LabPod) -> None:
    """Their kubelet has not said yet what addresses they have: nobody tells whose sandboxes they are."""
    for pod in pods:
        made.lab.kubernetes.report_pod(pod.record.namespace, pod.record.name, {"podIP": None, "podIPs": None})


def _story(made: Bench) -> dict[str, dict[str, object]]:
    """What is recorded of each sandbox, but for the time."""
    rows = state(made.node)["attachments"]
    return {row["container_id"]: {name: row[name] for name in row if name != "since"} for row in rows}


def _time_goes_by(made: Bench, minutes: int = 10) -> None:
    for _ in range(minutes * 2):
        made.advance(30)
        settled(made.node)


def _assert_unharmed(made: Bench, pods: list[LabPod]) -> None:
    """Every pod's traffic, and its addresses in the cloud, on ENIs that are attached."""
    addresses = [str(a) for pod in pods for a in pod.addresses]
    assert len(addresses) == len(set(addresses)), "an address was given twice"
    shown = cloud_enis(made.lab, made.node)
    assert set(addresses) <= {a for e in shown.values() if e["status"] == "InUse" for a in e["addresses"]}
    assert [pod.key for pod in pods if not reaches(pod, str(OUTSIDE_ADDRESS))] == []
    first = pods[0]
    assert [pod.key for pod in pods[1:] if not reaches(first, str(pod.ipv4))] == []
    assert not made.drops()


def short_and_long(values: Iterable[T], *long: T) -> list[ParameterSet]:
    """Values of a parameter; ``long`` are left to --long, as tests/contract/store has each by itself."""
    return [pytest.param(one, marks=pytest.mark.long if one in long else ()) for one in values]


LOST = [(how, bpf) for how in ("directory", "wal", "emptied", "cut") for bpf in ("on", "off")]
SHORT = {("directory", "on"), ("wal", "off"), ("emptied", "on"), ("cut", "off")}
"""Each way to lose it, with the fast path or without."""


@pytest.mark.parametrize(
    ("how", "bpf"), [pytest.param(*one, marks=() if one in SHORT else pytest.mark.long) for one in LOST]
)
def test_lost_ledger_costs_no_running_pod_anything(made: Bench, how: str, bpf: str) -> None:
    def start() -> None:
        made.node.start_agent(["-bpf", bpf], env={"TERWAY_TEST_CLOCK": "1"})

    start()
    pods = [made.pod(f"web-{n}") for n in range(PODS)]
    settled(made.node)
    before = _story(made)
    assert len(before) == PODS
    made.node.stop_agent(signal.SIGKILL if how == "wal" else signal.SIGTERM)
    _lose(made, how)
    start()
    made.advance(60)
    until(lambda: _story(made), lambda story: story == before)
    assert not settled(made.node)["unrecorded"]
    for pod in pods:
        pod.check()
    new = [made.pod(f"new-{n}") for n in range(5)]
    _time_goes_by(made)
    _assert_unharmed(made, [*pods, *new])
    made.node.stop_agent(signal.SIGKILL)
    start()
    _time_goes_by(made, 3)
    _assert_unharmed(made, [*pods, *new])
    assert_agree(made.lab, made.node)
    for pod in (*pods, *new):
        made.lab.delete_pod(pod)
    assert not state(made.node)["unrecorded"]
    until(lambda: kernel(made.lab, made.node).rules, lambda rules: not rules)
    _time_goes_by(made, 3)
    until(
        lambda: len(kernel(made.lab, made.node).macs) - len(state(made.node)["enis"]), lambda more: more == 1
    )
    assert_agree(made.lab, made.node)


UNREADABLE = {
    "a file for the directory": "check that /var/lib/cni/terway is a directory that terwayd may write",
    "a directory for the file": "check that /var/lib/cni/terway is a directory that terwayd may write",
    "an empty disk that is read-only": "/var/lib/cni/terway is read-only: mount it writable",
}


def _make_unreadable(made: Bench, how: str, elsewhere: Path) -> None:
    """``elsewhere`` then has the ledger as it was."""
    directory = _directory(made)
    shutil.copytree(directory, elsewhere)
    match how:
        case "a file for the directory":
            shutil.rmtree(directory)
            directory.write_text("")
        case "a directory for the file":
            (directory / "terway.db").unlink()
            (directory / "terway.db").mkdir()
        case "an empty disk that is read-only":
            mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", f"/{DIRECTORY}"]
            made.node.exec(mount, check=True)


def _make_readable(made: Bench, how: str, elsewhere: Path) -> None:
    directory = _directory(made)
    if how == "an empty disk that is read-only":
        made.node.exec(["umount", f"/{DIRECTORY}"], check=True)
        return
    aside = directory.with_name("aside")
    shutil.copytree(elsewhere, aside)
    directory.rename(directory.with_name("before"))
    aside.rename(directory)


def _content(made: Bench) -> str:
    return made.node.exec(
        ["find", f"/{DIRECTORY}", "-name", "terway.db", "-exec", "md5sum", "{}", "+"]
    ).stdout


@pytest.mark.parametrize("how", short_and_long(UNREADABLE, "a directory for the file"))
def test_a_ledger_that_cannot_be_read_ends_no_agent(made: Bench, how: str, tmp_path: Path) -> None:
    """Pods run and are deleted, everybody says what to do, and the file is left as it is."""
    made.start()
    steady, leaving = made.pod("steady"), made.pod("leaving")
    settled(made.node)
    made.node.stop_agent()
    _make_unreadable(made, how, tmp_path / "copy")
    before = _content(made)
    made.node.start_agent(env={"TERWAY_TEST_CLOCK": "1"}, wait=Wait.SOCKET)
    until(lambda: made.node.agent_get("/readyz"), lambda told: told[0] == 503 and UNREADABLE[how] in told[1])
    leaving.stop()
    leaving.remove()
    assert list(kernel(made.lab, made.node).links.values()) == [steady.container_id]
    with pytest.raises(CniError, match="terwayd is not ready yet") as refused:
        made.pod("refused")
    assert UNREADABLE[how] in str(refused.value)
    assert reaches(steady, str(OUTSIDE_ADDRESS))
    assert "terway_ledger_writable 0.0" in made.node.agent_get("/metrics")[1]
    assert _content(made) == before
    _make_readable(made, how, tmp_path / "copy")
    made.advance(60)
    until(lambda: made.node.agent_pid, lambda pid: pid is None)
    assert "the ledger /var/lib/cni/terway/terway.db can be read again" in made.node.agent_log()
    made.start()
    made.lab.kubernetes.delete_pod(made.node.name, leaving.record.name)
    made.lab.kubernetes.delete_pod(made.node.name, "refused")
    made.advance(400)
    until(lambda: state(made.node)["attachments"], lambda rows: len(rows) == 1)
    _assert_unharmed(made, [steady, made.pod("new")])
    assert_agree(made.lab, made.node)


USELESS = {
    "no table": ("DROP TABLE attachment", "damaged"),
    "a row that says nothing": ("UPDATE attachment SET ipv4 = 'none of this world'", "damaged"),
    "a newer release": ("PRAGMA user_version = 99; UPDATE compatible SET since = 99", "newer"),
    "garbage": ("", "damaged"),
}


@pytest.mark.parametrize("how", short_and_long(USELESS, "a row that says nothing", "garbage"))
def test_what_is_no_ledger_is_set_aside_and_the_ledger_rebuilt(made: Bench, how: str, tmp_path: Path) -> None:
    made.start()
    pods = [made.pod(f"web-{n}") for n in range(3)]
    settled(made.node)
    before = _story(made)
    made.node.stop_agent()
    script, word = USELESS[how]
    directory, copy = _directory(made), tmp_path / "changed"
    shutil.copytree(directory, copy)
    if script:
        with contextlib.closing(sqlite3.connect(copy / "terway.db")) as db:
            db.executescript(script)
    else:
        (copy / "terway.db").write_text("this is no ledger\n" * 100)
    shutil.copytree(copy, directory, dirs_exist_ok=True)
    made.start()
    made.advance(60)
    until(lambda: _story(made), lambda story: story == before)
    _assert_unharmed(made, [*pods, made.pod("new")])
    assert_agree(made.lab, made.node)
    assert (directory / f"terway.db.{word}-1").exists()
    until(lambda: _events(made), lambda told: any(f"terway.db.{word}-1" in text for text in told))


def _events(made: Bench) -> list[str]:
    """What is said of the node."""
    events = made.lab.kubernetes.events("default")
    return [e["message"] for e in events if e["involvedObject"]["name"] == made.node.name]


def _file_gone(directory: Path) -> None:
    (directory / "terway.db").unlink()


def _log_gone(directory: Path) -> None:
    (directory / "terway.db-wal").unlink()


def _directory_gone(directory: Path) -> None:
    shutil.rmtree(directory)


def _moved(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))


def _replaced(directory: Path) -> None:
    """Somebody restores a copy under the agent, in the way that tar does."""
    copy = directory / "copy"
    copy.write_bytes(b"not what the agent has open" * 500)
    copy.rename(directory / "terway.db")


def _emptied(directory: Path) -> None:
    (directory / "terway.db").write_bytes(b"")
    (directory / "terway.db-wal").write_bytes(b"")


_HANDS = (_file_gone, _log_gone, _directory_gone, _moved, _replaced, _emptied)


@pytest.mark.parametrize("hand", short_and_long(_HANDS, _file_gone, _log_gone, _moved))
def test_a_ledger_that_is_lost_under_the_agent_is_written_anew(
    made: Bench, hand: Callable[[Path], None]
) -> None:
    """And with it who had an address before. A death right after it costs nothing."""
    made.start()
    pods = [made.pod(f"web-{n}") for n in range(3)]
    gone = made.pod("gone")
    made.lab.delete_pod(gone)
    settled(made.node)
    before = _story(made)
    hand(_directory(made))
    made.advance(6)
    until(lambda: _events(made), lambda told: any("written anew from memory" in text for text in told))
    late = made.pod("late")
    story = _story(made)
    assert before.items() <= story.items()
    made.node.stop_agent(signal.SIGKILL)
    made.start()
    assert _story(made) == story, "from the file, as nothing is rebuilt"
    assert "is in the ledger again" not in made.node.agent_log()
    _assert_unharmed(made, [*pods, late])
    if hand is not _emptied:
        asked = made.node.exec(["terway-cli", "history", gone.key, "--json"], check=True).stdout
        assert [row["address"] for row in json.loads(asked)] == [str(a) for a in gone.addresses]


def test_a_ledger_that_was_written_back_is_brought_up_to_date_again(made: Bench) -> None:
    """The operator has taken the step towards the release before, and stays with this one."""
    made.start()
    pods = [made.pod(f"web-{n}") for n in range(3)]
    made.node.exec(["terway-cli", "ledger", "downgrade"], check=True)
    pods.append(made.pod("late"))
    settled(made.node)
    before = _story(made)
    made.node.stop_agent(signal.SIGKILL)
    assert _schema(made) == 1
    made.start()
    assert _story(made) == before
    assert "is in the ledger again" not in made.node.agent_log(), "from the file, as nothing is rebuilt"
    _assert_unharmed(made, [*pods, made.pod("new")])
    assert_agree(made.lab, made.node)
    made.node.stop_agent()
    assert _schema(made) == SCHEMA_VERSION


def _schema(made: Bench) -> int:
    file = made.node.directory.outside(f"/{DIRECTORY}/terway.db")
    with contextlib.closing(sqlite3.connect(file)) as db:
        return version_of(db)


def test_modes_of_the_ledger_are_taken_back(made: Bench) -> None:
    made.start()
    made.pod("web")
    directory = _directory(made)
    directory.chmod(0o777)
    for file in directory.iterdir():
        file.chmod(0o666)
    made.advance(6)

    def modes() -> set[int]:
        return {each.stat().st_mode & 0o777 for each in (directory, *directory.iterdir())}

    until(modes, lambda found: found == {0o700, 0o600})
    until(lambda: _events(made), lambda told: any("had mode 666: taken back" in text for text in told))
    assert not any("written anew" in text for text in _events(made))


def test_operator_is_told(made: Bench) -> None:
    made.start()
    pod = made.pod("web")
    made.node.stop_agent()
    _unvouched(made, pod)
    _lose(made, "directory")
    made.start()
    told = json.loads(made.node.agent_get("/mapping")[1])
    (link,) = kernel(made.lab, made.node).links
    assert told["unrecorded"] == [
        {
            "mode": "policy_route",
            "host_link": link,
            "container_id": pod.container_id,
            "addresses": sorted(map(str, pod.addresses)),
        }
    ]
    (warning,) = json.loads(made.node.agent_get("/mode")[1])["warnings"]
    assert link in warning
    assert "ip link delete" in warning
    _, metrics = made.node.agent_get("/metrics")
    assert 'terway_resource_pool_held_count{ipStack="dual",type="local"} 1.0' in metrics

    until(
        lambda: _events(made),
        lambda messages: any("the ledger does not know 1 running" in m and link in m for m in messages),
    )


def test_repeated_add_finds_the_running_sandbox(made: Bench) -> None:
    made.start()
    pods = [made.pod(f"web-{n}") for n in range(3)]
    made.node.stop_agent()
    _unvouched(made, *pods)
    _lose(made, "directory")
    made.start()
    assert len(settled(made.node)["unrecorded"]) == 3
    for pod in pods:
        result, _ = cni_call.add(made.node, pod.network, pod.attachment())
        assert [i["address"].split("/")[0] for i in result["ips"]] == [str(a) for a in pod.addresses]
    _assert_unharmed(made, pods)
    assert not state(made.node)["unrecorded"]
    assert_agree(made.lab, made.node)


@pytest.mark.parametrize("point", [FaultPoint.ADD_RESERVED, FaultPoint.ADD_APPLIED])
def test_repeated_add_that_is_cut_off_leaves_the_running_sandbox_its_network(
    made: Bench, point: FaultPoint
) -> None:
    """What stood before an ADD is not what the next start takes to its end."""
    made.start()
    pod = made.pod("web")
    made.node.stop_agent()
    _unvouched(made, pod)
    _lose(made, "directory")
    made.start(TERWAY_FAULT=point)
    settled(made.node)
    with restarted_on_death(made), pytest.raises(CniError):
        cni_call.add(made.node, pod.network, pod.attachment())
    assert list(kernel(made.lab, made.node).links.values()) == [pod.container_id]
    _assert_unharmed(made, [pod])
    assert not state(made.node)["unrecorded"], "the ADD had found it"
    assert_agree(made.lab, made.node)


def test_new_sandbox_of_a_pod_without_a_record_takes_its_place(made: Bench) -> None:
    """Its first try fails and takes nothing away: a namespace where eth0 is somebody else's."""
    made.start()
    pod, other = made.pod("web"), made.pod("other")
    made.node.stop_agent()
    _unvouched(made, pod, other)
    _lose(made, "directory")
    made.start()
    settled(made.node)
    foreign = pod.attachment()
    borrowed = type(foreign)("f" * 64, other.attachment().netns, foreign.namespace, foreign.name, foreign.uid)
    with pytest.raises(CniError):
        cni_call.add(made.node, pod.network, borrowed)
    _assert_unharmed(made, [pod, other])
    again = pod.recreate()
    assert reaches(again, str(OUTSIDE_ADDRESS))
    pod.stop()
    assert len(state(made.node)["unrecorded"]) == 1, "the other one"
    _assert_unharmed(made, [again, other])


def test_older_copy_of_the_ledger(made: Bench, tmp_path: Path) -> None:
    """Pods that are gone since, pods that came since, addresses that changed hands, intents of that day."""
    made.start()
    pods = [made.pod(f"web-{n}") for n in range(6)]
    settled(made.node)
    made.node.stop_agent()
    shutil.copytree(_directory(made), tmp_path / "copy")
    made.start()
    for pod in pods[:3]:
        made.lab.delete_pod(pod)
    late = [made.pod(f"late-{n}") for n in range(8)]
    settled(made.node)
    made.node.stop_agent()
    with sqlite3.connect(tmp_path / "copy" / "terway.db") as db:
        (eni,) = db.execute("SELECT eni_id FROM eni").fetchone()
        addresses = json.dumps([str(a) for pod in (*late, *pods[3:]) for a in pod.addresses])
        for kind, about in (("release_addresses", addresses), ("release_eni", "[]")):
            db.execute(
                f"INSERT INTO operation {_INTENT} VALUES (?,?,1.0,?,'[]',0,0,?)",
                (f"old-{kind}", kind, eni, about),
            )
        db.execute("UPDATE address SET state='releasing', container_id=NULL, ifname=NULL")
    shutil.rmtree(_directory(made))
    shutil.copytree(tmp_path / "copy", _directory(made))
    made.start()
    _assert_unharmed(made, [*late, *pods[3:]])
    made.advance(120)
    until(lambda: _story(made).keys(), lambda there: there >= {p.container_id for p in (*late, *pods[3:])})
    until(lambda: _events(made), lambda told: any("terway.db.older-1" in text for text in told))
    for pod in pods[:3]:
        pod.remove()
    more = [made.pod(f"more-{n}") for n in range(4)]
    _time_goes_by(made)
    _assert_unharmed(made, [*late, *pods[3:], *more])


def test_ledger_of_another_node_is_forgotten(lab: Lab, made: Bench, tmp_path: Path) -> None:
    """A disk that was copied: its intents are about the other node's ENI, which the API would carry out."""
    made.start()
    theirs = [made.pod(f"web-{n}") for n in range(3)]
    settled(made.node)
    made.node.stop_agent()
    shutil.copytree(_directory(made), tmp_path / "copy")
    made.start()
    with sqlite3.connect(tmp_path / "copy" / "terway.db") as db:
        (eni,) = db.execute("SELECT eni_id FROM eni").fetchone()
        addresses = json.dumps([str(a) for pod in theirs for a in pod.addresses])
        db.execute(
            f"INSERT INTO operation {_INTENT} VALUES ('o','release_addresses',1.0,?,'[]',0,0,?)",
            (eni, addresses),
        )
    with bench(lab, ip_stack="dual") as copy:
        _directory(copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(tmp_path / "copy", _directory(copy))
        copy.start()
        ours = copy.pod("ours")
        assert reaches(ours, str(OUTSIDE_ADDRESS))
        assert_agree(lab, copy.node)
        assert "it was moved to /var/lib/cni/terway/terway.db.other-node-1" in copy.node.agent_log()
        _assert_unharmed(made, theirs)


def test_link_of_a_running_pod_that_somebody_takes_down_keeps_its_address(made: Bench) -> None:
    """The last thing that says so is the rule: nothing leads to a link that is down."""
    made.start()
    pod = made.pod("web")
    made.node.stop_agent()
    _lose(made, "directory")
    (link,) = kernel(made.lab, made.node).links
    made.node.python(
        "from pyroute2 import IPRoute\n"
        f"with IPRoute() as n: n.link('set', index=n.link_lookup(ifname={link!r})[0], state='down')\n"
    )
    made.node.start_agent(["-bpf", "off"], env={"TERWAY_TEST_CLOCK": "1"})
    new = [made.pod(f"new-{n}") for n in range(3)]
    _time_goes_by(made)
    addresses = [a for one in (pod, *new) for a in one.addresses]
    assert len(addresses) == len(set(addresses))
    shown = {a for e in cloud_enis(made.lab, made.node).values() for a in e["addresses"]}
    assert {str(a) for a in addresses} <= shown
