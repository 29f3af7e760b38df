"""Set-up and teardown: repeated, late, out of order, in parallel, and failing half-way."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from datapath import namespace, sysctl
from datapath.endpoint import Endpoint
from datapath.errors import AddressTaken, KernelError, NameTaken
from datapath.modes.policy_route import host_side
from datapath.node_datapath import NodeDatapath
from datapath.pod import inside as pod_side
from datapath.pod import names
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import (
    ENI1,
    ENI2,
    OUTSIDE,
    Card,
    World,
    eni_link,
    policy_route,
    shared,
    veth,
    witness,
)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_setup_twice_is_once(world: World, mode: NodeDatapath) -> None:
    pod = world.namespace()
    endpoint = world.endpoint()
    first = mode.setup(endpoint, pod)
    node, inside = world.snapshot(world.node), world.snapshot(pod)
    assert mode.setup(endpoint, pod) == first
    assert world.snapshot(world.node) == node
    assert world.snapshot(pod) == inside
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_repeated_setup_does_not_believe_a_mac_that_somebody_set(world: World, mode: NodeDatapath) -> None:
    """The pod would go on sending to it when the next repair has put back ours."""
    pod = world.namespace()
    endpoint = world.endpoint()
    made = veth(mode.setup(endpoint, pod))
    inside = world.snapshot(pod)
    with witness(world.node) as reader:
        reader.link("set", index=made.host_ifindex, address="02:00:00:00:be:ef")
    assert mode.setup(endpoint, pod) == made
    mode.repair([endpoint])
    assert world.snapshot(pod) == inside
    assert mode.check(endpoint, pod) == ()
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


def test_repeated_setup_mends(world: World, mode: NodeDatapath) -> None:
    pod = world.namespace()
    endpoint = world.endpoint()
    made = veth(mode.setup(endpoint, pod))
    with witness(pod) as reader:
        (index,) = reader.link_lookup(ifname="eth0")
        reader.flush_addr(index=index)
        reader.addr("add", index=index, address="10.9.9.9", prefixlen=32)
    with witness(world.node) as reader:
        reader.rule("del", priority=2048, src=f"{endpoint.ipv4}/32")
        reader.link("set", index=made.host_ifindex, state="down")
    assert mode.check(endpoint, pod) != ()
    assert mode.setup(endpoint, pod) == made
    assert mode.check(endpoint, pod) == ()
    assert not any("10.9.9.9" in one for one in world.snapshot(pod)["addresses"])


def test_teardown_leaves_nothing(world: World, mode: NodeDatapath) -> None:
    pod = world.namespace()
    endpoint = world.endpoint()
    before, inside = world.snapshot(world.node), world.snapshot(pod)
    mode.setup(endpoint, pod)
    mode.teardown(endpoint, pod)
    mode.flush()
    assert world.snapshot(world.node) == before
    assert world.snapshot(pod)["links"] == inside["links"]


def test_teardown_is_in_force_on_return(world: World, mode: NodeDatapath) -> None:
    """Before the reaper has deleted the link, the pod is cut off already and its name is free."""
    pod = world.namespace()
    endpoint = world.endpoint()
    before = world.snapshot(world.node)
    mode.setup(endpoint, pod)
    mode.teardown(endpoint, pod)
    after = world.snapshot(world.node)
    assert endpoint.host_link not in after["links"]
    for kind in ("routes", "rules", "neighbours"):
        assert after[kind] == before[kind], kind


def test_teardown_twice_without_namespace_and_of_the_unknown(world: World, mode: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    endpoint, unknown = world.endpoint(), world.endpoint(ENI2)
    mode.teardown(unknown, None)
    mode.setup(endpoint, world.namespace())
    mode.teardown(endpoint, None)
    mode.teardown(endpoint, None)
    mode.flush()
    assert world.snapshot(world.node) == before


def test_teardown_after_the_namespace_is_gone(world: World, mode: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    endpoint = world.endpoint()
    with World.passing() as pod:
        made = veth(mode.setup(endpoint, pod))
    world.await_gone(world.node, made.host_ifindex)
    assert world.snapshot(world.node)["rules"] != before["rules"]
    mode.teardown(endpoint, None)
    assert world.snapshot(world.node) == before


def test_late_teardown_of_an_old_sandbox(world: World, mode: NodeDatapath) -> None:
    old = world.endpoint()
    new = replace(old, container_id="new", ipv4=world.endpoint().ipv4)
    old_pod, new_pod = world.namespace(), world.namespace()
    mode.setup(old, old_pod)
    mode.setup(new, new_pod)
    mode.teardown(old, old_pod)
    mode.flush()
    assert mode.check(new, new_pod) == ()
    assert exchange(new_pod, world.router, OUTSIDE) == str(new.ipv4)
    rules = world.snapshot(world.node)["rules"]
    assert not any(f"{old.ipv4}/" in one for one in rules)


def test_new_sandbox_with_the_same_address(world: World, mode: NodeDatapath) -> None:
    """As of a StatefulSet: the late DEL knows the address that the new sandbox has now."""
    old = world.endpoint()
    new = replace(old, container_id="new")
    mode.setup(old, world.namespace())
    pod = world.namespace()
    mode.setup(new, pod)
    mode.teardown(old, None)
    assert mode.check(new, pod) == ()
    moved = replace(old, container_id="third", host_link="califfffffffff0")
    mode.teardown(new, None)
    mode.setup(moved, pod)
    mode.teardown(new, None)
    assert mode.check(moved, pod) == ()


def test_same_name_and_namespace_at_once(world: World, mode: NodeDatapath) -> None:
    """The doomed eth0 holds the name in the pod's namespace until it is deleted."""
    pod = world.namespace()
    endpoint = world.endpoint()
    for number in range(3):
        again = replace(endpoint, container_id=f"sandbox-{number}")
        mode.setup(again, pod)
        assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
        mode.teardown(again, pod)


def test_old_sandbox_in_the_same_namespace(world: World, mode: NodeDatapath) -> None:
    pod = world.namespace()
    old = world.endpoint()
    new = replace(old, container_id="new")
    mode.setup(old, pod)
    mode.setup(new, pod)
    assert mode.check(new, pod) == ()


def test_own_host_link_with_its_peer_elsewhere(world: World, mode: NodeDatapath) -> None:
    """The sandbox was given a new namespace under the same id."""
    endpoint = world.endpoint()
    mode.setup(endpoint, world.namespace())
    pod = world.namespace()
    mode.setup(endpoint, pod)
    assert mode.check(endpoint, pod) == ()


def test_taken_interface_name(world: World, mode: NodeDatapath) -> None:
    pod = world.namespace()
    with witness(pod) as reader:
        reader.link("add", ifname="eth0", kind="veth", peer="other")
    before, inside = world.snapshot(world.node), world.snapshot(pod)
    with pytest.raises(NameTaken, match="eth0") as caught:
        mode.setup(world.endpoint(), pod)
    assert caught.value.errno == errno.EEXIST
    assert world.snapshot(world.node) == before
    assert world.snapshot(pod) == inside


def test_taken_name_spares_the_running_sandbox(world: World, mode: NodeDatapath) -> None:
    running, pod = world.namespace(), world.namespace()
    old = world.endpoint()
    mode.setup(old, running)
    with witness(pod) as reader:
        reader.link("add", ifname="eth0", kind="veth", peer="other")
    with pytest.raises(NameTaken):
        mode.setup(replace(old, container_id="new"), pod)
    assert mode.check(old, running) == ()


def test_unknown_eni(world: World, mode: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    absent = replace(eni_link(ENI1), mac="00:16:3e:99:99:99")
    with pytest.raises(KernelError, match="00:16:3e:99:99:99") as caught:
        mode.setup(world.endpoint(uplink=shared(absent)), world.namespace())
    assert caught.value.errno == errno.ENODEV
    assert world.snapshot(world.node) == before


def test_vanished_eni(world: World, mode: NodeDatapath) -> None:
    """Detached after it was prepared: the kernel would send the pod's packets by eth0, so the ADD fails."""
    pod = world.namespace()
    with witness(world.node) as reader:
        (index,) = reader.link_lookup(ifname="eni2")
        reader.link("del", index=index)
    before = world.snapshot(world.node)
    with pytest.raises(KernelError, match="not by link"):
        mode.setup(world.endpoint(ENI2), pod)
    assert world.snapshot(world.node) == before
    assert world.snapshot(pod)["links"] == {"lo"}


@pytest.mark.parametrize("where", ["pod", "host", "ready"])
def test_failure_at_each_step(
    world: World, mode: NodeDatapath, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    pod = world.namespace()
    before = world.snapshot(world.node)
    targets = {
        "pod": (pod_side, "write"),
        "host": (host_side, "write"),
        "ready": (pod_side, "await_ready"),
    }
    module, name = targets[where]
    real = getattr(module, name)

    def done_then_failed(*arguments: object, **options: object) -> None:
        real(*arguments, **options)
        raise KernelError("injected", errno=errno.ENOMEM)

    endpoint = world.endpoint()
    with monkeypatch.context() as patch:
        patch.setattr(module, name, done_then_failed)
        with pytest.raises(KernelError, match="injected"):
            mode.setup(endpoint, pod)
    assert world.snapshot(world.node) == before
    assert world.snapshot(pod)["links"] == {"lo"}
    mode.setup(endpoint, pod)
    assert mode.check(endpoint, pod) == ()


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's side is written, and the pod never becomes ready."""
    monkeypatch.setattr(pod_side, "await_ready", _refused)


def _refused(*_: object) -> None:
    raise KernelError("injected", errno=errno.ENOMEM)


def test_failed_repetition_takes_nothing_from_the_running_pod(
    world: World, mode: NodeDatapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = world.namespace()
    endpoint = world.endpoint()
    mode.setup(endpoint, pod)
    node, inside = world.snapshot(world.node), world.snapshot(pod)
    with monkeypatch.context() as patch:
        failing(patch)
        with pytest.raises(KernelError, match="injected"):
            mode.setup(endpoint, pod)
    mode.flush()
    assert world.snapshot(world.node) == node
    assert world.snapshot(pod) == inside
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


@pytest.mark.parametrize("address", ["same", "another"])
@pytest.mark.parametrize("namespace", ["same", "another"])
def test_failed_second_sandbox_takes_nothing_from_the_running_one(
    world: World, mode: NodeDatapath, monkeypatch: pytest.MonkeyPatch, namespace: str, address: str
) -> None:
    """Under another container id: its ADD fails after everything was written."""
    pod = world.namespace()
    old = world.endpoint()
    other = old if address == "same" else world.endpoint()
    new = replace(old, container_id="new", ipv4=other.ipv4, ipv6=other.ipv6)
    where = pod if namespace == "same" else world.namespace()
    mode.setup(old, pod)
    node, inside = world.snapshot(world.node), world.snapshot(pod)
    with monkeypatch.context() as patch:
        failing(patch)
        with pytest.raises(KernelError, match="injected"):
            mode.setup(new, where)
    mode.flush()
    assert world.snapshot(world.node) == node
    assert world.snapshot(pod) == inside
    assert mode.check(old, pod) == ()
    assert exchange(pod, world.router, OUTSIDE) == str(old.ipv4)
    mode.setup(new, where)
    mode.flush()
    assert mode.check(new, where) == ()
    assert exchange(where, world.router, OUTSIDE) == str(new.ipv4)
    assert not any("caliold" in name for name in world.snapshot(world.node)["links"])
    if address == "another":
        assert not any(f"{old.ipv4}/" in one for one in world.snapshot(world.node)["rules"])


def test_failed_repetition_in_another_namespace_spares_the_running_pod(
    world: World, mode: NodeDatapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same container id with a namespace that is not the pod's."""
    pod = world.namespace()
    endpoint = world.endpoint()
    mode.setup(endpoint, pod)
    node, inside = world.snapshot(world.node), world.snapshot(pod)
    with monkeypatch.context() as patch:
        failing(patch)
        with pytest.raises(KernelError, match="injected"):
            mode.setup(endpoint, world.namespace())
    mode.flush()
    assert world.snapshot(world.node) == node
    assert world.snapshot(pod) == inside
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)


@pytest.mark.parametrize("eni", [ENI1, ENI2])
def test_address_of_a_running_pod_is_refused(world: World, mode: NodeDatapath, eni: Card) -> None:
    """Whatever a ledger says: the kernel is asked in the message that makes the pair."""
    running, pod = world.namespace(), world.namespace()
    old = world.endpoint(ENI1)
    mode.setup(old, running)
    before = world.snapshot(world.node)
    for taken in ({"ipv4": old.ipv4}, {"ipv6": old.ipv6}):
        with pytest.raises(AddressTaken, match="a running pod carries"):
            mode.setup(replace(world.endpoint(eni), **taken), pod)
    mode.flush()
    assert world.snapshot(world.node) == before
    assert world.snapshot(pod)["links"] == {"lo"}
    assert exchange(running, world.router, OUTSIDE) == str(old.ipv4)


def test_leftover_rules_of_the_address(world: World, mode: NodeDatapath) -> None:
    """Upstream's rule ahead of ours, and a rule to the wrong ENI: both would lead packets astray."""
    endpoint = world.endpoint(ENI1)
    address = f"{endpoint.ipv4}/32"
    with witness(world.node) as reader:
        (wrong,) = reader.link_lookup(ifname="eni2")
        reader.rule("del", priority=512, table=512)
        reader.rule("add", priority=512, dst=address, table=254)
        reader.rule("add", priority=2048, src=address, table=1000 + wrong)
    mode.repair([])
    with witness(world.node) as reader:
        reader.rule("add", priority=2048, src=address, table=1000 + wrong)
    pod = world.namespace()
    mode.setup(endpoint, pod)
    assert exchange(pod, world.router, OUTSIDE) == str(endpoint.ipv4)
    rules = [one for one in world.snapshot(world.node)["rules"] if address in one]
    assert len(rules) == 1
    assert f"lookup {1000 + wrong}" not in rules[0]


def test_parallel_setups(world: World, mode: NodeDatapath) -> None:
    before = world.snapshot(world.node)
    pods = [(world.endpoint(ENI1 if n % 2 else ENI2), world.namespace()) for n in range(50)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pod: mode.setup(*pod), pods))
        assert [found for found in pool.map(lambda pod: mode.check(*pod), pods) if found] == []
        list(pool.map(lambda pod: mode.teardown(*pod), pods))
    mode.flush()
    assert world.snapshot(world.node) == before


def test_setups_while_others_are_removed(world: World, mode: NodeDatapath) -> None:
    """Adds, removals and repairs at once: nobody takes another's objects."""
    before = world.snapshot(world.node)
    failures: list[BaseException] = []
    stop = threading.Event()

    def churn(endpoint: Endpoint, pod: int) -> None:
        for _ in range(10):
            mode.setup(endpoint, pod)
            assert mode.check(endpoint, pod) == ()
            mode.teardown(endpoint, pod)

    def repairs() -> None:
        while not stop.wait(0.002):
            mode.repair([])

    def guarded(endpoint: Endpoint) -> None:
        try:
            churn(endpoint, world.namespace())
        except BaseException as exc:
            failures.append(exc)
            raise

    repairer = threading.Thread(target=repairs)
    repairer.start()
    threads = [threading.Thread(target=guarded, args=(world.endpoint(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    repairer.join()
    assert failures == []
    mode.flush()
    assert world.snapshot(world.node) == before


def test_many_rounds_leak_nothing(world: World, mode: NodeDatapath) -> None:
    pods = [world.namespace() for _ in range(30)]
    warm = world.endpoint()
    mode.setup(warm, pods[0])
    mode.teardown(warm, pods[0])
    mode.flush()
    before, open_files = world.snapshot(world.node), descriptors()
    endpoints = [world.endpoint(ENI1 if n % 2 else ENI2) for n in range(30)]
    for _ in range(10):
        for endpoint, pod in zip(endpoints, pods, strict=True):
            mode.setup(endpoint, pod)
        for endpoint, pod in zip(endpoints, pods, strict=True):
            mode.teardown(endpoint, pod)
        mode.flush()
    assert world.snapshot(world.node) == before
    assert descriptors() == open_files


def test_crash_leaves_doomed_links_for_the_next_start(world: World) -> None:
    endpoint = world.endpoint(version_6=False)
    crashed = NodeDatapath(world.node)
    crashed.prepare(())
    crashed.prepare_uplink(shared(endpoint.eni))
    made = veth(crashed.setup(endpoint, world.namespace()))
    with witness(world.node) as reader:
        reader.link("set", index=made.host_ifindex, state="down")
        reader.link("set", index=made.host_ifindex, ifname="doomed1", group=names.GROUP_DOOMED)
    assert [one.name for one in policy_route(crashed).observe().doomed] == ["doomed1"]
    crashed.close()
    started = NodeDatapath(world.node)
    started.prepare(())
    started.flush()
    assert policy_route(started).observe().doomed == ()
    assert "doomed1" not in world.snapshot(world.node)["links"]
    started.close()


def test_a_node_that_forwards_no_more_is_no_broken_eni(world: World, mode: NodeDatapath) -> None:
    """Its event is not read yet while the ADD is served, which puts it right; the round tells of it."""
    with namespace.entered(world.node):
        sysctl.write("net/ipv4/ip_forward", "0")
    endpoint, pod = world.endpoint(ENI1), world.namespace()
    mode.setup(endpoint, pod)
    assert mode.check(endpoint, pod) == ()
    assert [one.what for one in mode.repair([endpoint])] == ["sysctl net/ipv4/conf/all/forwarding"]
    assert mode.repair([endpoint]) == ()
