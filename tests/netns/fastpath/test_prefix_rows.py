"""The rows of prefixes in a real map: written as differences, compared whole, and nobody waits for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from datapath.acceleration import stack_prefixes
from datapath.acceleration.path import FastPath
from datapath.acceleration.rows import host_prefix_bytes, prefix_bytes
from datapath.acceleration.stack_prefixes import StackPrefixes
from datapath.ebpf import libbpf
from datapath.errors import KernelError
from datapath.netlink.wire import Address
from tests.netns.fastpath.node import FastNode

NODE = ip_address("10.0.0.10")
RANGE = ip_network("172.21.0.0/20")


def services(count: int) -> frozenset[Address]:
    """No two of which make a shorter prefix."""
    return frozenset(IPv4Address("10.96.0.0") + 2 * number for number in range(count))


@pytest.fixture
def fast(node: FastNode) -> Iterator[FastPath]:
    node.fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=services(1000))
    yield node.fast
    node.fast.set_stack_prefixes(node=[])


def rows(fast: FastPath) -> StackPrefixes:
    return fast._tables.stack_prefixes


def keys(fast: FastPath) -> set[bytes]:
    shape = fast._loaded.map_shape("stack_prefixes")
    return set(libbpf.map_keys(fast.map_fd("stack_prefixes"), shape.key_size))


def wanted(hosts: frozenset[Address]) -> set[bytes]:
    return {prefix_bytes(RANGE), host_prefix_bytes(NODE), *map(host_prefix_bytes, hosts)}


def test_the_map_holds_what_was_told(fast: FastPath) -> None:
    assert keys(fast) == wanted(services(1000))
    assert fast.stack_prefix_count == 1002


def test_a_service_more_or_less_is_one_row(fast: FastPath) -> None:
    for hosts in (services(1001), services(1000), services(1000) - {IPv4Address("10.96.0.8")}):
        before = rows(fast).written
        fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=hosts)
        assert rows(fast).written - before == 1
        assert keys(fast) == wanted(hosts)


def test_what_has_not_changed_is_not_written(fast: FastPath) -> None:
    before = rows(fast).written
    for _ in range(3):
        fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=services(1000))
    assert rows(fast).written == before


def test_a_service_at_an_address_of_the_node_leaves_the_nodes_row(fast: FastPath) -> None:
    fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=services(10) | {NODE})
    assert host_prefix_bytes(NODE) in keys(fast)
    fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=services(10))
    assert keys(fast) == wanted(services(10))
    fast.set_stack_prefixes(service=[RANGE], node=[], hosts=services(10) | {NODE})
    assert host_prefix_bytes(NODE) in keys(fast)
    assert not fast.compare_stack_prefixes()


def test_what_another_hand_did_is_found_and_put_right(fast: FastPath) -> None:
    fd = fast.map_fd("stack_prefixes")
    lost, altered = (host_prefix_bytes(IPv4Address(one)) for one in ("10.96.0.8", "10.96.0.10"))
    foreign = prefix_bytes(ip_network("203.0.113.0/24"))
    service = libbpf.map_lookup(fd, lost, 4)
    assert service is not None
    libbpf.map_delete(fd, lost)
    libbpf.map_update(fd, altered, bytes(4))
    libbpf.map_update(fd, foreign, service)
    found = fast.compare_stack_prefixes()
    assert (found.missing, found.altered, found.foreign) == (1, 1, 1)
    assert keys(fast) == wanted(services(1000))
    assert libbpf.map_lookup(fd, altered, 4) == service
    assert not fast.compare_stack_prefixes()


def test_a_kernel_without_batches_for_tries_is_read_key_by_key(
    fast: FastPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(fd: int, shape: libbpf.MapShape) -> tuple[bytes, bytes]:
        return libbpf._dump_by_key(fd, shape)

    monkeypatch.setattr(libbpf, "map_dump", without)
    assert not fast.compare_stack_prefixes()
    libbpf.map_delete(fast.map_fd("stack_prefixes"), prefix_bytes(RANGE))
    assert fast.compare_stack_prefixes().missing == 1


def test_more_than_fit_are_refused_and_fewer_are_told_again(fast: FastPath) -> None:
    with pytest.raises(KernelError):
        fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=services(66_000))
    fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=services(3))
    assert keys(fast) == wanted(services(3))


def test_rows_of_an_earlier_process_are_taken_over_by_their_difference(node: FastNode) -> None:
    node.fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=services(500))
    node.close()
    node.open()
    fast = node.fast
    before = rows(fast).written
    fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=services(501))
    assert keys(fast) == wanted(services(501))
    assert rows(fast).written - before <= 510, "what it had is not written again, but for what opening wrote"
    fast.set_stack_prefixes(node=[])


def test_who_comes_while_another_writes_does_not_wait_and_is_not_forgotten(
    fast: FastPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the event loop's repair comes while a thread writes sixty thousand rows."""
    writing, go_on = threading.Event(), threading.Event()
    update = libbpf.map_update_batch

    def slow(*arguments: int | bytes) -> None:
        writing.set()
        assert go_on.wait(30)
        update(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(libbpf, "map_update_batch", slow)
    other = ip_address("10.0.0.11")
    thread = threading.Thread(
        target=fast.set_stack_prefixes,
        kwargs={"service": [RANGE], "node": [NODE], "hosts": services(2000)},
    )
    thread.start()
    assert writing.wait(30)
    fast.set_stack_prefixes(service=[RANGE], node=[other], hosts=services(2000))  # it would wait for ever
    go_on.set()
    thread.join(30)
    assert keys(fast) == (wanted(services(2000)) - {host_prefix_bytes(NODE)}) | {host_prefix_bytes(other)}


def test_pods_rows_are_written_between_slices(fast: FastPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is not held from the first slice to the last."""
    taken: list[bool] = []

    def drop() -> None:
        fast.drop_endpoint(424242)
        taken.append(True)

    update = libbpf.map_update_batch

    def counted(*arguments: int | bytes) -> None:
        update(*arguments)  # type: ignore[arg-type]
        thread = threading.Thread(target=drop)
        thread.start()
        waiting.append(thread)

    waiting: list[threading.Thread] = []
    monkeypatch.setattr(libbpf, "map_update_batch", counted)
    fast.set_stack_prefixes(service=[RANGE], node=[NODE], hosts=services(1000 + 4 * stack_prefixes.SLICE))
    for thread in waiting:
        thread.join(30)
    assert len(waiting) == 4
    assert len(taken) == 4
