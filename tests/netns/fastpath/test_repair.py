"""What a foreign hand does to rows, programs, qdiscs and pins: CHECK says it, repair mends it or tells it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_network

import numpy as np
import pytest

from datapath import namespace
from datapath.acceleration import bpf_call
from datapath.acceleration.bpf_call import TcxHook
from datapath.acceleration.companion import Companion, Prefixes
from datapath.acceleration.rows import UplinkName, UplinkRow, address_bytes
from datapath.acceleration.shortcut import AsSeen
from datapath.acceleration.stack_prefixes import Compared
from datapath.acceleration.tc import Side
from datapath.difference import Difference, ObjectKind
from datapath.ebpf import libbpf
from datapath.ebpf.table import Rows, Table
from datapath.errors import KernelError
from tests.linux import ENI_HOOK
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1, eni_link
from tests.netns.fastpath.node import FastNode, Tenant
from tests.netns.fastpath.test_mend import GONE, companion, name, pods, present, tc

__all__ = ["companion", "pods"]

Pair = tuple[Tenant, Tenant]
by_tcx = pytest.mark.skipif(ENI_HOOK != "tcx", reason="no tcx before Linux 6.6")
HOOKS = {"ingress": (Side.INGRESS, TcxHook.INGRESS), "egress": (Side.EGRESS, TcxHook.EGRESS)}


@contextmanager
def table(companion: Companion, map_name: str) -> Iterator[Table]:
    yield companion.fast._loaded.table(map_name)


def edit(companion: Companion, map_name: str, key: bytes, change: Callable[[Rows], None]) -> None:
    with table(companion, map_name) as found:
        at = np.frombuffer(key, found.key)
        row = found.get(at)
        assert row is not None
        row = row.copy()
        change(row)
        found.put(at, row)


def index(pod: Tenant) -> bytes:
    return pod.applied.host_ifindex.to_bytes(4, "little")


def slot(companion: Companion, pod: Tenant) -> int:
    with table(companion, "pods") as found:
        row = found.get(np.frombuffer(index(pod), found.key))
        assert row is not None
        return int(row["slot"][0])


def told(companion: Companion, pod: Tenant) -> tuple[Difference, ...]:
    return companion.check(pod.endpoint, pod.applied)


def at_eni(node: FastNode, side: str) -> list[str]:
    with namespace.entered(node.world.node):
        numbers = bpf_call.programs_at(node.enis[ENI1.name], HOOKS[side][1])
    return [bpf_call.program_name(one) for one in numbers]


def settle(node: FastNode, companion: Companion, *tenants: Tenant) -> None:
    """Whatever the first round after another process finds is not the test's."""
    companion.node_ready(1)
    for _ in range(2):
        companion.mend(present(node, *tenants))
    assert companion.mend(present(node, *tenants)) == []
    assert [told(companion, one) for one in tenants] == [()] * len(tenants)


def test_a_broken_eni_keeps_nothing_from_being_mended(
    node: FastNode, pods: Pair, companion: Companion
) -> None:
    settle(node, companion, *pods)
    one, other = pods
    companion.fast.drop_endpoint(other.applied.host_ifindex)
    os.unlink(companion.fast.directory / "endpoints")
    ghost = replace(eni_link(ENI1), mac="02:00:00:00:00:99")
    companion.mend(present(node, *pods, enis={GONE: ghost}))
    assert list(companion.last.refused) == [f"fast path of ENI {ghost.mac}"]
    companion.eni_leaves(GONE)
    assert told(companion, one) == told(companion, other) == ()
    assert (companion.fast.directory / "endpoints").exists()


@pytest.mark.parametrize("version", [4, 6])
def test_each_address_has_its_row(node: FastNode, pods: Pair, companion: Companion, version: int) -> None:
    settle(node, companion, *pods)
    key = address_bytes(pods[0].address(version))
    with table(companion, "endpoints") as found:
        found.remove(np.frombuffer(key, found.key))
    assert len(told(companion, pods[0])) == 1
    assert told(companion, pods[1]) == ()
    assert len(companion.mend(present(node, *pods))) == 1
    settle(node, companion, *pods)


def test_an_address_that_leads_to_another_pod_takes_nothing_from_it(
    node: FastNode, pods: Pair, companion: Companion
) -> None:
    settle(node, companion, *pods)
    one, other = pods
    with table(companion, "endpoints") as found:
        row = found.get(np.frombuffer(address_bytes(one.address(4)), found.key))
        assert row is not None
        found.put(np.frombuffer(address_bytes(other.address(4)), found.key), row)
    companion.mend(present(node, *pods))
    settle(node, companion, *pods)
    with node.counting_by(companion.fast, "fast_local") as grown:
        exchange(one.netns, other.netns, other.address(4))
    assert grown["fast_local"] == 2


@pytest.mark.parametrize("wrong", [0, 1, 99_999, "the other's"])
def test_a_slot_is_one_pods(node: FastNode, pods: Pair, companion: Companion, wrong: int | str) -> None:
    """Also one that is beyond the map: nobody may fall over it meanwhile."""
    settle(node, companion, *pods)
    number = slot(companion, pods[1]) if isinstance(wrong, str) else wrong

    def change(row: Rows) -> None:
        row["slot"] = number

    edit(companion, "pods", index(pods[0]), change)
    companion.fast.endpoint_counters(), companion.fast.refusals()
    companion.mend(present(node, *pods))
    companion.mend(present(node, *pods))
    settle(node, companion, *pods)
    assert 0 < slot(companion, pods[0]) != slot(companion, pods[1])


def test_of_a_pod_whose_notes_were_cleared_every_flow_is_asked(
    node: FastNode, pods: Pair, companion: Companion
) -> None:
    settle(node, companion, *pods)
    number = slot(companion, pods[0])

    def change(row: Rows) -> None:
        row[:] = np.zeros_like(row)

    edit(companion, "flow_owners", number.to_bytes(4, "little"), change)
    assert told(companion, pods[0])
    companion.mend(present(node, *pods))
    settle(node, companion, *pods)
    with table(companion, "flow_owners") as found:
        row = found.get(np.frombuffer(number.to_bytes(4, "little"), found.key))
        assert row is not None
        assert row["noted"].all()
        assert int(row["blind_until"][0])


def test_a_pod_that_a_hand_calls_down_is_up_again(node: FastNode, pods: Pair, companion: Companion) -> None:
    """Also where the round has seen nothing of its link that was not known."""
    there = {one.applied.host_ifindex: True for one in pods} | dict.fromkeys(node.enis.values(), True)
    settle(node, companion, *pods)
    seen = replace(present(node, *pods), carriers=there)
    assert companion.mend(seen) == []
    down = companion.fast.names.flags["ENDPOINT_DOWN"]

    def change(row: Rows) -> None:
        row["flags"] |= np.uint32(down)

    edit(companion, "pods", index(pods[0]), change)
    edit(companion, "endpoints", address_bytes(pods[0].address(4)), change)
    edit(companion, "endpoints", address_bytes(pods[0].address(6)), change)
    companion.mend(seen)
    with table(companion, "pods") as found:
        row = found.get(np.frombuffer(index(pods[0]), found.key))
    assert row is not None
    assert not int(row["flags"][0]) & down


@pytest.mark.parametrize("field", ["flow_epoch", "flow_timeouts", "home_ifindex"])
def test_settings_of_the_programs_come_back(
    node: FastNode, pods: Pair, companion: Companion, field: str
) -> None:
    """With another epoch no record of a flow is found, and what the stack carries would change its way."""
    settle(node, companion, *pods)
    key = bytes(4)

    def change(row: Rows) -> None:
        row[field] += 3

    with table(companion, "settings") as found:
        before = found.get(np.frombuffer(key, found.key))
    edit(companion, "settings", key, change)
    told = companion.mend(present(node, *pods))
    assert told == [Difference(ObjectKind.ROW, "map settings", f"{field} set otherwise by somebody")]
    with table(companion, "settings") as found:
        after = found.get(np.frombuffer(key, found.key))
    assert before is not None
    assert after is not None
    assert before.tobytes() == after.tobytes()


UPLINK = {
    "gateway": lambda row: row["v4"]["to"].fill(0xFE),
    "gateway-v6": lambda row: row["v6"]["to"].fill(0xFE),
    "own-v6": lambda row: row["v6"]["from"].fill(0x02),
    "mtu": lambda row: row["mtu"].fill(68),
    "device": lambda row: row["ifindex"].fill(1),
    "vlan": lambda row: row["vlan"].fill(7),
    "padding": lambda row: row["padding"].fill(1),
}
ENDPOINT = {
    "device": lambda row: row["host_ifindex"].fill(1),
    "uplink": lambda row: row["uplink"].fill(9),
    "pod-mac": lambda row: row["macs"]["to"].fill(0xFE),
    "host-mac": lambda row: row["macs"]["from"].fill(0xFE),
    "mtu": lambda row: row["mtu"].fill(68),
    "slot": lambda row: row["slot"].fill(77),
    "generation": lambda row: row["generation"].fill(77),
    "flags": lambda row: row["flags"].fill(0xFF),
    "kind": lambda row: row["device"].fill(9),
}
POD = {
    "v4": lambda row: row["v4"].fill(1),
    "v6": lambda row: row["v6"].fill(1),
    "uplink": lambda row: row["uplink"].fill(9),
    "slot": lambda row: row["slot"].fill(77),
    "mac": lambda row: row["mac"].fill(0xFE),
    "flags": lambda row: row["flags"].fill(0xFF),
}


@pytest.mark.parametrize("field", UPLINK)
def test_each_field_of_an_uplinks_row(node: FastNode, pods: Pair, companion: Companion, field: str) -> None:
    settle(node, companion, *pods)
    before = uplink_rows(companion)
    edit(companion, "uplinks", uplink_id(companion, pods[0]).to_bytes(4, "little"), UPLINK[field])
    assert uplink_rows(companion) != before, "nothing was altered"
    assert {one.kind for one in told(companion, pods[0])} == {ObjectKind.ROW}
    assert {one.kind for one in companion.mend(present(node, *pods))} >= {ObjectKind.ROW}
    settle(node, companion, *pods)
    assert uplink_rows(companion) == before


@pytest.mark.parametrize("name", [UplinkName("02:00:00:00:00:77"), UplinkName(ENI1.mac.lower(), 7)])
def test_an_uplinks_row_that_is_nobodys(
    node: FastNode, pods: Pair, companion: Companion, name: UplinkName
) -> None:
    """By the device of an ENI of ours, and by a name that no pod goes by: also one an earlier process had."""
    settle(node, companion, *pods)
    before = companion.fast.uplinks()
    companion.fast.put_uplink(UplinkRow(node.enis[ENI1.name], name.mac, None, vlan=name.vlan))
    assert companion.fast.uplinks() != before
    assert {one.kind for one in companion.mend(present(node, *pods))} == {ObjectKind.ROW}
    assert companion.fast.uplinks() == before
    settle(node, companion, *pods)


def uplink_id(companion: Companion, pod: Tenant) -> int:
    wanted = pod.endpoint.eni.mac.lower()
    return next(number for number, row in companion.fast.uplinks().items() if row.mac == wanted)


@pytest.mark.parametrize("field", ENDPOINT)
def test_each_field_of_an_addresss_row(node: FastNode, pods: Pair, companion: Companion, field: str) -> None:
    settle(node, companion, *pods)
    edit(companion, "endpoints", address_bytes(pods[0].address(4)), ENDPOINT[field])
    assert_row_mended(node, pods, companion)


@pytest.mark.parametrize("field", POD)
def test_each_field_of_a_pods_row(node: FastNode, pods: Pair, companion: Companion, field: str) -> None:
    settle(node, companion, *pods)
    edit(companion, "pods", index(pods[0]), POD[field])
    assert_row_mended(node, pods, companion)


def assert_row_mended(node: FastNode, pods: Pair, companion: Companion) -> None:
    assert {one.kind for one in told(companion, pods[0])} == {ObjectKind.ROW}
    assert {one.kind for one in companion.mend(present(node, *pods))} == {ObjectKind.ROW}
    settle(node, companion, *pods)


def test_check_gives_out_no_id(node: FastNode, pods: Pair, companion: Companion) -> None:
    """Of an ENI whose row was cleared CHECK says so, and the row is as it was found."""
    settle(node, companion, *pods)
    before = clear_uplink(companion, pods[0])
    found = [str(one) for one in told(companion, pods[0])]
    assert any("map uplinks has no such row" in one for one in found), found
    assert uplink_rows(companion) == before
    companion.mend(present(node, *pods))
    settle(node, companion, *pods)


def test_an_id_that_pods_name_is_no_other_enis(node: FastNode, pods: Pair, companion: Companion) -> None:
    """An ENI that comes while another's row is cleared does not become the way of that one's pods."""
    settle(node, companion, *pods)
    ids = {row.name: number for number, row in companion.fast.uplinks().items()}
    clear_uplink(companion, pods[0])
    name = UplinkName("02:00:00:00:00:77")
    companion.fast.put_uplink(UplinkRow(99, name.mac, None))
    now = {row.name: number for number, row in companion.fast.uplinks().items()}
    assert now[name] not in ids.values()
    companion.mend(present(node, *pods))
    assert ids.items() <= {row.name: number for number, row in companion.fast.uplinks().items()}.items()


def clear_uplink(companion: Companion, pod: Tenant) -> list[bytes]:
    """All zeroes in the row of the pod's ENI; what the whole map is then."""
    numbers = {row.name.mac: number for number, row in companion.fast.uplinks().items()}
    number = numbers[pod.endpoint.eni.mac.lower()]

    def zeroes(row: Rows) -> None:
        row[:] = np.zeros(1, row.dtype)

    edit(companion, "uplinks", number.to_bytes(4, "little"), zeroes)
    return uplink_rows(companion)


def uplink_rows(companion: Companion) -> list[bytes]:
    with table(companion, "uplinks") as found:
        return [row.tobytes() for row in found.dump()[1]]


@by_tcx
@pytest.mark.parametrize("side", HOOKS)
@pytest.mark.parametrize("hand", ["detached", "unpinned", "impostor"])
def test_both_links_of_an_eni(node: FastNode, pods: Pair, companion: Companion, side: str, hand: str) -> None:
    settle(node, companion, *pods)
    whole = at_eni(node, side)
    pin = node.pins / "links" / f"{side}_{node.enis[ENI1.name]}"
    if hand == "detached":
        subprocess.run(["bpftool", "link", "detach", "pinned", str(pin)], check=True)
    elif hand == "unpinned":
        pin.unlink()
    else:
        fd = libbpf.open_pinned(str(pin))
        bpf_call.link_update(fd, companion.fast.program_fd("pod_egress"))
        os.close(fd)
    if hand == "unpinned":
        assert at_eni(node, side) == whole, "it is held open, so that no packet misses it"
    assert any(side in one.found for one in told(companion, pods[0]))
    companion.mend(present(node, *pods))
    assert (at_eni(node, side), pin.exists()) == (whole, True)
    settle(node, companion, *pods)


@by_tcx
def test_what_others_have_at_an_eni_is_told_and_left(
    node: FastNode, pods: Pair, companion: Companion
) -> None:
    settle(node, companion, *pods)
    with namespace.entered(node.world.node):
        eni = node.enis[ENI1.name]
        link = bpf_call.link_create(companion.fast.program_fd("pod_egress"), eni, TcxHook.EGRESS)
    tc(
        node,
        "qdisc",
        "add",
        "dev",
        ENI1.name,
        "root",
        "tbf",
        "rate",
        "9mbit",
        "burst",
        "9kb",
        "latency",
        "9ms",
    )
    try:
        for _ in range(2):
            assert companion.mend(present(node, *pods)) == []
            assert sorted(one.what for one in companion.last.foreign) == [
                "program pod_egress (tcx egress)",
                "qdisc tbf at the root",
            ]
    finally:
        os.close(link)
    companion.mend(present(node, *pods))
    assert [one.what for one in companion.last.foreign] == ["qdisc tbf at the root"]


def test_a_clsact_in_use_by_others_stays_and_is_told(
    node: FastNode, pods: Pair, companion: Companion
) -> None:
    settle(node, companion, *pods)
    link = name(pods[0])
    program = "bpf", "da", "object-pinned", str(companion.fast.directory / "prog_eni_ingress")
    tc(node, "qdisc", "del", "dev", link, "clsact")
    tc(node, "qdisc", "add", "dev", link, "clsact")
    tc(node, "filter", "add", "dev", link, "ingress", "pref", "9", *program)
    for _ in range(3):
        companion.mend(present(node, *pods))
    assert companion.fast.attached()[pods[0].applied.host_ifindex] == "clsact"
    (foreign,) = companion.last.foreign
    assert foreign.what.startswith("filter bpf")
    assert foreign.what.endswith("priority 9 (ingress)")
    tc(node, "filter", "del", "dev", link, "ingress", "pref", "9")
    for _ in range(2):
        companion.mend(present(node, *pods))
    assert companion.fast.attached()[pods[0].applied.host_ifindex] == "block"


def test_pins_come_back_as_what_serves(node: FastNode, pods: Pair, companion: Companion) -> None:
    """An impostor under a name, a directory in its place, a name that is gone, and all of them gone."""
    settle(node, companion, *pods)
    directory, before = companion.fast.directory, listing(companion)
    (directory / "pods").rename(directory / "aside")
    (directory / "uplinks").rename(directory / "pods")
    (directory / "aside").rename(directory / "uplinks")
    (directory / "settings").unlink()
    (directory / "settings").mkdir()
    (directory / "prog_eni_ingress").unlink()
    assert len(companion.mend(present(node, *pods))) == 4
    assert listing(companion) == before
    subprocess.run(["rm", "-r", str(node.pins)], check=True)
    companion.mend(present(node, *pods))
    assert listing(companion) == before
    settle(node, companion, *pods)


def listing(companion: Companion) -> dict[str, int]:
    found = {}
    for path in sorted(companion.fast.directory.parent.glob("*/*")):
        fd = libbpf.open_pinned(str(path))
        found[str(path)] = bpf_call.identity(fd).id
        os.close(fd)
    return found


@pytest.mark.parametrize("reading", ["uplinks", "fingerprint", "snapshot", "endpoints", "hooks"])
def test_a_map_that_cannot_be_read_ends_no_round(
    node: FastNode, pods: Pair, companion: Companion, reading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put right before is told, and what comes after is seen to."""
    settle(node, companion, *pods)
    fast, index = companion.fast, pods[0].applied.host_ifindex

    def refuse(*_: object) -> None:
        raise KernelError("read a map", errno=errno.ENOMEM)

    os.unlink(fast.directory / "endpoints")
    fast.drop_endpoint(pods[1].applied.host_ifindex)
    with monkeypatch.context() as patched:
        patched.setattr(fast, reading, refuse)
        fast.detach_pod(index)
        done = {one.what for one in companion.mend(present(node, *pods))}
    assert any("endpoints" in one for one in done), done
    assert companion.last.refused
    if reading != "hooks":
        assert companion.fast.attached()[index] == "block"
    companion.mend(present(node, *pods))
    settle(node, companion, *pods)


def test_a_fast_path_that_is_closed_between_two_steps_ends_its_mending_alone(
    node: FastNode, pods: Pair, companion: Companion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each pause: nobody who mends the node hears of it."""
    settle(node, companion, *pods)
    seen = present(node, *pods)
    steps = sum(1 for _ in companion.mending(seen, AsSeen(seen.enis)))
    assert steps > 5
    for pauses in range(1, steps):
        work = companion.mending(seen, AsSeen(seen.enis))
        for _ in range(pauses):
            next(work)
        with monkeypatch.context() as closed:
            closed.setattr(companion.fast._lock, "_shut", True)
            closed.setattr(companion, "_fast", None)
            assert list(work) == []


def test_prefixes_that_are_told_while_they_are_compared_are_in_pods_rows(
    node: FastNode, pods: Pair, companion: Companion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who compares has the turn then, and sees to it."""
    settle(node, companion, *pods)
    prefixes = companion.fast._tables.stack_prefixes
    reconcile, service = prefixes._reconcile, ip_network(f"{pods[0].address(4)}/32")

    def told_meanwhile() -> Compared:
        companion.tell(Prefixes(service=(service,)))
        return reconcile()

    with monkeypatch.context() as patched:
        patched.setattr(prefixes, "_reconcile", told_meanwhile)
        companion.compare_prefixes()
    assert told(companion, pods[0]) == ()


def test_a_flag_that_could_not_be_written_is_by_the_next_round(
    node: FastNode, pods: Pair, companion: Companion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows read as they did when nothing was to be done, and should not."""
    settle(node, companion, *pods)
    service = ip_network(f"{pods[0].address(4)}/32")

    def refuse() -> None:
        raise KernelError("write a row", errno=errno.ENOMEM)

    with monkeypatch.context() as patched, suppress(KernelError):
        patched.setattr(companion.fast._tables, "_flag_prefixed", refuse)
        companion.tell(Prefixes(service=(service,)))
    companion.tell(Prefixes(service=(service,)))
    companion.mend(present(node, *pods))
    assert told(companion, pods[0]) == ()
