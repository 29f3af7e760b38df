"""The kernel's word on who is there: three-valued, and what cannot be looked at is never gone."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from datapath import namespace
from datapath.endpoint import Endpoint, EndpointKey, Presence
from datapath.errors import KernelError
from datapath.node_datapath import NodeDatapath
from datapath.pod import reaper
from datapath.pod.reach import NamespaceReach, PathReused
from tests.netns.datapath.own_eni import OwnPod, links, macvlan_pod, presence
from tests.netns.datapath.test_repair import upstream_pod
from tests.netns.datapath.world import ENI1, World, policy_route, witness
from tests.netns.fastpath.node import until

_libc = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534
THERE, GONE, UNKNOWN = Presence.THERE, Presence.GONE, Presence.UNKNOWN


@pytest.fixture
def endpoint(world: World, mode: NodeDatapath) -> Endpoint:
    made = world.endpoint(ENI1)
    mode.setup(made, world.namespace())
    return made


@pytest.fixture
def pod(world: World, mode: NodeDatapath, tmp_path: Path) -> OwnPod:
    made = macvlan_pod(world, tmp_path)
    mode.setup(made.endpoint, made.netns)
    return made


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """EMFILE for whoever opens something."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def nobodys_eyes() -> Iterator[None]:
    """Files are opened with the rights of nobody: EACCES. Of this thread, and of those that it starts."""
    _libc.setfsuid(NOBODY)
    try:
        yield
    finally:
        _libc.setfsuid(0)


# By host links


def seen(mode: NodeDatapath, endpoint: Endpoint) -> Presence:
    return mode.live([endpoint.id])[endpoint.key].presence


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, THERE),
        ({"ifname": "mine0"}, THERE),
        ({"address": "02:00:00:00:00:77"}, THERE),
        ({"IFLA_IFALIAS": "somebody"}, THERE),
        ({"ifname": "mine0", "IFLA_IFALIAS": "somebody"}, THERE),
        ({"ifname": "mine0", "address": "02:00:00:00:00:77"}, UNKNOWN),
        ({"IFLA_IFALIAS": "", "address": "02:00:00:00:00:77"}, UNKNOWN),
        ({"IFLA_IFALIAS": "somebody", "address": "02:00:00:00:00:77"}, GONE),
    ],
)
def test_a_host_link_that_somebody_has_changed(
    world: World, mode: NodeDatapath, endpoint: Endpoint, changes: dict[str, str], told: Presence
) -> None:
    """What has neither our MAC nor our alias is anybody's; but that is no proof, where it has the name."""
    with witness(world.node) as reader:
        index = reader.link_lookup(ifname=endpoint.host_link)[0]
        if changes:
            reader.link("set", index=index, state="down")
            reader.link("set", index=index, **changes)
    assert seen(mode, endpoint) is told


def test_upstreams_pod_is_not_gone(world: World, mode: NodeDatapath) -> None:
    """Its link has neither our MAC nor an alias, until the first repair."""
    made, pod = world.endpoint(ENI1, version_6=False), world.namespace()
    upstream_pod(world, made, pod)
    assert seen(mode, made) is UNKNOWN
    mode.repair([made])
    assert seen(mode, made) is THERE


def test_a_host_link_goes_with_its_pod(mode: NodeDatapath, endpoint: Endpoint) -> None:
    assert seen(mode, endpoint) is THERE
    other = replace(endpoint.id, key=EndpointKey("another", "eth0"))
    second = replace(endpoint.id, key=EndpointKey(endpoint.container_id, "net1"), host_link="cali1")
    told = mode.live([endpoint.id, other, second])
    assert [one.presence for one in told.values()] == [THERE, GONE, GONE]
    mode.teardown(endpoint, None)
    assert seen(mode, endpoint) is GONE


def test_links_that_cannot_be_listed(world: World, mode: NodeDatapath, endpoint: Endpoint) -> None:
    fresh = NodeDatapath(world.node)
    with no_more_descriptors():
        told = fresh.live([endpoint.id])[endpoint.key]
    fresh.close()
    assert told.presence is UNKNOWN
    assert "Too many open files" in told.why
    assert seen(mode, endpoint) is THERE


def test_verbs_without_a_descriptor_left(world: World, mode: NodeDatapath, endpoint: Endpoint) -> None:
    """Each refuses as for any other reason, and what stands stands."""
    before = world.snapshot(world.node)
    fresh, other, pod = NodeDatapath(world.node), world.endpoint(ENI1), world.namespace()
    with no_more_descriptors():
        for verb in (
            lambda: fresh.setup(other, pod),
            lambda: mode.setup(other, pod),
            lambda: fresh.check(endpoint, None),
            lambda: fresh.teardown(endpoint, None),
            lambda: fresh.repair([endpoint]),
        ):
            with pytest.raises(KernelError, match="Too many open files"):
                verb()
    fresh.close()
    assert world.snapshot(world.node) == before
    assert mode.repair([endpoint]) == ()


def test_the_reaper_outlives_a_lack_of_descriptors(
    world: World, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it would wait for ever, and that is the agent's event loop."""

    def refuses(_netns: int | None) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    fresh = NodeDatapath(world.node)  # whose reaper has not begun
    with monkeypatch.context() as patch:
        patch.setattr(reaper, "Socket", refuses)
        fresh.teardown(endpoint, None)
        with pytest.raises(KernelError, match="Too many open files"):
            fresh.flush()
    fresh.flush()
    assert policy_route(fresh).observe().doomed == ()
    fresh.close()


def test_no_thread_to_be_had(
    world: World, mode: NodeDatapath, endpoint: Endpoint, pod: OwnPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    fresh = NodeDatapath(world.node)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        assert presence(mode, pod) is UNKNOWN
        fresh.teardown(endpoint, None)
        fresh.flush()
    assert presence(mode, pod) is THERE, "nothing hangs"
    fresh.repair([])
    fresh.flush()
    assert policy_route(fresh).observe().doomed == ()
    fresh.close()


# By namespaces and ENIs


def test_a_path_that_is_gone_is_no_proof(mode: NodeDatapath, pod: OwnPod) -> None:
    assert presence(mode, pod) is THERE
    pod.path.unlink()
    assert presence(mode, pod) is UNKNOWN


def test_a_path_that_is_anothers_now(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    other = world.namespace()
    pod.path.unlink()
    pod.path.symlink_to(f"/proc/{os.getpid()}/fd/{other}")
    assert presence(mode, pod) is UNKNOWN
    mode.teardown(pod.endpoint, pod.netns)
    assert presence(mode, pod) is GONE


def test_a_slave_that_the_pod_has_hidden(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    """In a namespace of its own making."""
    with witness(pod.netns) as reader:
        index = reader.link_lookup(ifname="eth0")[0]
        reader.link("set", index=index, net_ns_fd=world.namespace())
    assert presence(mode, pod) is UNKNOWN
    assert [one.container_id for one in mode.carriers()] == [pod.endpoint.container_id]


def test_a_slave_that_the_pod_has_deleted(mode: NodeDatapath, pod: OwnPod) -> None:
    with witness(pod.netns) as reader:
        reader.link("del", index=reader.link_lookup(ifname="eth0")[0])
    assert presence(mode, pod) is GONE
    assert mode.carriers() == ()


def test_what_may_not_be_entered(mode: NodeDatapath, pod: OwnPod, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with nobodys_eyes():
        told = mode.live([pod.endpoint.id])[pod.key]
    assert told.presence is UNKNOWN
    assert "ermi" in told.why, told.why
    assert presence(mode, pod) is THERE


def test_what_may_be_opened_and_not_entered(
    mode: NodeDatapath, pod: OwnPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace of a user namespace in which the agent has no rights: setns(2) is refused."""
    enter = namespace._set

    def refused(fd: int) -> None:
        if namespace.identity(fd) == namespace.identity(pod.netns):
            raise KernelError("enter a namespace", errno=errno.EPERM, object="its user namespace")
        enter(fd)

    with monkeypatch.context() as patch:
        patch.setattr(namespace, "_set", refused)
        told = mode.live([pod.endpoint.id])[pod.key]
        carriers = [one.container_id for one in mode.carriers()]
    assert told.presence is UNKNOWN
    assert carriers == [pod.endpoint.container_id], "its ENI and address stay its own"
    assert presence(mode, pod) is THERE


def test_no_descriptors_left(mode: NodeDatapath, pod: OwnPod) -> None:
    with no_more_descriptors():
        told = mode.live([pod.endpoint.id])[pod.key]
    assert told.presence is UNKNOWN
    assert "Too many open files" in told.why
    assert presence(mode, pod) is THERE


def test_what_is_no_namespace(mode: NodeDatapath, pod: OwnPod) -> None:
    """What a runtime's file looks like to who has not got its mounts."""
    pod.path.unlink()
    pod.path.touch()
    assert presence(mode, pod) is UNKNOWN


def test_a_directory_that_is_not_there(world: World, mode: NodeDatapath, tmp_path: Path) -> None:
    """Nor mounted into the agent's container, perhaps: even an ENI without a slave frees nobody then."""
    (tmp_path / "run").mkdir()
    made = macvlan_pod(world, tmp_path / "run")
    mode.setup(made.endpoint, made.netns)
    made.path.unlink()
    (tmp_path / "run").rmdir()
    assert presence(mode, made) is UNKNOWN
    with witness(made.netns) as reader:
        reader.link("del", index=reader.link_lookup(ifname="eth0")[0])
    assert presence(mode, made) is UNKNOWN


def test_a_mount_that_hangs(mode: NodeDatapath, pod: OwnPod, monkeypatch: pytest.MonkeyPatch) -> None:
    """One opening hangs, and nobody with it: a FIFO without a writer is opened for as long as one likes."""
    monkeypatch.setattr("datapath.pod.reach.OPEN_TIMEOUT", 0.05)
    pod.path.unlink()
    os.mkfifo(pod.path)
    for _ in range(3):
        told = mode.live([pod.endpoint.id])[pod.key]
        assert told.presence is UNKNOWN
        assert "hangs" in told.why
    assert len([one for one in threading.enumerate() if one.name == "open-netns"]) == 1
    os.close(os.open(pod.path, os.O_WRONLY))
    until(lambda: not any(one.name == "open-netns" for one in threading.enumerate()), "still hanging")
    pod.path.unlink()
    pod.path.symlink_to(f"/proc/{os.getpid()}/fd/{pod.netns}")
    assert presence(mode, pod) is THERE


def test_a_namespace_that_ends_by_itself(world: World, mode: NodeDatapath, tmp_path: Path) -> None:
    with world.passing() as netns:
        made = macvlan_pod(world, tmp_path)
        made.path.unlink()
        made.path.symlink_to(f"/proc/{os.getpid()}/fd/{netns}")
        mode.setup(made.endpoint, netns)
        assert presence(mode, made) is THERE
    until(lambda: presence(mode, made) is GONE, "the slave is still there")
    mode.teardown(made.endpoint, None)
    assert mode.repair([]) == ()


def test_a_path_is_opened_as_the_namespace_it_was(world: World, pod: OwnPod) -> None:
    reach = NamespaceReach()
    with reach.opened(str(pod.path), namespace.identity(pod.netns)) as fd:
        assert namespace.identity(fd) == namespace.identity(pod.netns)
    with pytest.raises(PathReused), reach.opened(str(pod.path), namespace.identity(world.node)):
        pass


def test_looking_leaves_nothing_behind(world: World, mode: NodeDatapath, pod: OwnPod) -> None:
    """To ask an ENI whether it has a slave, one is made for a moment."""
    mode.teardown(pod.endpoint, pod.netns)
    mode.flush()
    before = set(links(world.node))
    for _ in range(5):
        assert presence(mode, pod) is GONE
    mode.flush()
    assert set(links(world.node)) == before
