"""Nodes go from the release before to this one, back as docs/install.md has it, and here again.

Pods of either release call Services meanwhile. Of the connections some are idle until the server speaks, and
some never stop; none is missed, and what one release has made the other one takes away.
"""

from __future__ import annotations

import os
import select
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from datapath import namespace
from lab.client import Lab
from lab.cni_call import CniError
from lab.sandbox import LabPod
from lab.spec import LabSpec
from tests.e2e import cluster_images
from tests.e2e.benches import bench, sandbox
from tests.e2e.conftest import Bench
from tests.e2e.service_site import VIPS, Site, site
from tests.e2e.services import PORT, TARGET
from tests.e2e.test_fastpath import asked
from tests.e2e.test_link_names import interface
from tests.e2e.witnesses import assert_agree, cloud_enis, reaches, until
from tests.netns.fastpath.conversation import PATIENCE

BEFORE = "0625225"
"""The last commit of the release before."""
MUCH = 1 << 20
_BLOCK = bytes(32768)
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@pytest.fixture(scope="module")
def before() -> Iterator[Path]:
    """The source tree of the release before, its C parts compiled, where a node sees it."""
    with tempfile.TemporaryDirectory(dir=cluster_images.ROOT / ".cache", prefix="before-") as scratch:
        tree = Path(scratch) / "tree"
        try:
            cluster_images.source(tree, BEFORE)
        except cluster_images.NoHistoryError as exc:
            pytest.skip(str(exc))
        _named_as_now(tree)
        yield tree


def _named_as_now(tree: Path) -> None:
    """The lab starts an agent by the name of its module, which was another one then."""
    module = tree / "control" / "agent"
    if not module.exists():
        module.mkdir()
        (module / "__init__.py").write_text("")
        (module / "main.py").write_text(
            "import sys\nfrom control.daemon.main import main\nsys.exit(main())\n"
        )


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    """Two nodes of this release whose kube-proxy writes nftables."""
    with Lab.start(LabSpec(nodes=()), name="e2e-before") as lab, site(lab) as made, made.written("nft"):
        yield made


@dataclass(frozen=True, slots=True)
class Connection:
    """``client`` has called a Service, ``server`` is its backend's end."""

    name: str
    client: socket.socket
    server: socket.socket

    def server_speaks(self) -> None:
        for source, sink in ((self.server, self.client), (self.client, self.server)):
            source.send(self.name.encode())
            assert sink.recv(len(_BLOCK)) == self.name.encode()


class Bulk:
    """Bytes both ways for as long as the block lasts."""

    def __init__(self, connection: Connection) -> None:
        self.name = connection.name
        self.came = [0, 0]
        self.ended = ""
        self._ends = (connection.client, connection.server)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._move)

    def __enter__(self) -> Bulk:
        for end in self._ends:
            end.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def goes_on(self) -> None:
        wanted = [came + MUCH for came in self.came]

        def there() -> bool:
            assert not self.ended, f"{self.name}: {self.ended}"
            return all(now > then for now, then in zip(self.came, wanted, strict=True))

        until(there, bool)

    def _move(self) -> None:
        while not self._enough.wait(0.002):
            for number, end in enumerate(self._ends):
                readable, writable, _ = select.select([end], [end], [], 0)
                try:
                    self.came[number] += len(end.recv(MUCH)) if readable else 0
                    if writable:
                        end.send(_BLOCK)
                except OSError as exc:
                    self.ended = str(exc)
                    return


@dataclass(frozen=True, slots=True)
class Calls:
    """Of one pod to the Services behind ``x`` and ``b``, by IPv4 and IPv6."""

    idle: list[Connection]
    bulk: list[Bulk]

    def unharmed(self) -> None:
        for one in self.idle:
            one.server_speaks()
        for other in self.bulk:
            other.goes_on()


class Servers:
    """What listens in ``x`` and ``b``."""

    def __init__(self, served: Site, stack: ExitStack) -> None:
        self._served = served
        self._listeners = {}
        for version in VIPS:
            for who in ("x", "b"):
                listener = stack.enter_context(_opened(served.fds[who], version, "tcp"))
                listener.bind((str(served.address(who, version)), TARGET))
                listener.listen()
                self._listeners[who, version] = listener

    def answer(self, caller: socket.socket, service: str, version: int, kind: str) -> socket.socket:
        """The backend's end of what ``caller`` has called."""
        who = {"here": "x", "there": "b"}[service]
        if kind == "tcp":
            made = self._listeners[who, version].accept()[0]
        else:
            made = _opened(self._served.fds[who], version, kind)
            made.bind((str(self._served.address(who, version)), TARGET))
            caller.send(b"hello")
            made.connect(made.recvfrom(16)[1])
        made.settimeout(PATIENCE)
        return made


@contextmanager
def calls(client: int, servers: Servers) -> Iterator[Calls]:
    with ExitStack() as stack:
        made = Calls([], [])
        for version, vips in VIPS.items():
            for service in ("here", "there"):
                called = str(vips[service]), PORT
                for kind in ("tcp", "udp"):
                    caller = stack.enter_context(_opened(client, version, kind))
                    caller.connect(called)
                    theirs = stack.enter_context(servers.answer(caller, service, version, kind))
                    made.idle.append(Connection(f"{kind} {service} by IPv{version}", caller, theirs))
                caller = stack.enter_context(_opened(client, version, "tcp"))
                caller.connect(called)
                theirs = stack.enter_context(servers.answer(caller, service, version, "tcp"))
                bulk = Bulk(Connection(f"bulk {service} by IPv{version}", caller, theirs))
                made.bulk.append(stack.enter_context(bulk))
        yield made


def _opened(netns: int, version: int, kind: str) -> socket.socket:
    with namespace.entered(netns):
        made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, _KINDS[kind])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(PATIENCE)
    return made


def this_release(served: Site) -> None:
    for each in served.nodes:
        each.node.stop_agent()
        each.node.install_cni()
        each.start()


def back(served: Site, before: Path) -> None:
    """The steps of an operator, as they are written down."""
    for each in served.nodes:
        each.node.exec(["terway-cli", "fastpath", "off"], check=True)
        each.node.exec(["terway-cli", "ledger", "downgrade"], check=True)
        each.node.stop_agent()
        each.node.install_cni(before / "cni" / ".output" / "terway")
        each.start(PYTHONPATH=str(before))


def fast_path(served: Site, word: str) -> None:
    for each in served.nodes:
        each.node.exec(["terway-cli", "fastpath", word], check=True)
        until(lambda: asked(each.node, "/fastpath"), lambda now: now["state"] == word)  # noqa: B023


def rows_of_rules(each: Bench) -> list[str]:
    said = "".join(each.node.exec(["ip", f, "rule"], check=True).stdout for f in ("-4", "-6"))
    return said.splitlines()


def pod_of(served: Site, name: str) -> LabPod:
    """A new pod of the first node, which reaches the others and is known to every witness."""
    each = served.nodes[0]
    made = each.pod(name)
    for address in (*served.x.addresses, *served.b.addresses):
        assert reaches(made, str(address))
    assert_agree(each.lab, each.node)
    return made


def test_up_and_back_and_up(served: Site, before: Path) -> None:
    lab = served.nodes[0].lab
    newer = pod_of(served, "newer")
    back(served, before)
    fast_path(served, "on")
    older = pod_of(served, "older")
    with ExitStack() as stack:
        servers = Servers(served, stack)
        fds = [pod.netns_fd() for pod in (older, newer)]
        for fd in fds:
            stack.callback(os.close, fd)
        going = [stack.enter_context(calls(fd, servers)) for fd in fds]

        this_release(served)
        for one in going:
            one.unharmed()
        first = rows_of_rules(served.nodes[0])
        lab.delete_pod(pod_of(served, "added-by-the-newer"))
        left = pod_of(served, "left-by-the-newer")

        back(served, before)
        for one in going:
            one.unharmed()
        lab.delete_pod(left)
        fast_path(served, "on")
        for one in going:
            one.unharmed()
        left = pod_of(served, "left-by-the-older")

        this_release(served)
        for one in going:
            one.unharmed()
        lab.delete_pod(left)
        assert sorted(rows_of_rules(served.nodes[0])) == sorted(first)
        assert all(asked(each.node, "/fastpath")["state"] == "on" for each in served.nodes)
    for each in served.nodes:
        assert_agree(lab, each.node)
        assert not each.drops()
    for pod in (older, newer):
        lab.delete_pod(pod)


def test_an_eni_whose_answer_the_release_before_never_got_serves(served: Site, before: Path) -> None:
    """It was asked for with other tags, so the cloud refuses this release's words with that token."""
    lab = served.nodes[0].lab
    with bench(lab) as made:
        made.start(PYTHONPATH=str(before))
        lab.cloud.add_fault(action="CreateNetworkInterface", instance_id=made.node.instance_id, drop="after")
        with pytest.raises(CniError):
            made.pod("early")
        made.node.stop_agent()
        assert len(cloud_enis(lab, made.node)) == 1
        lab.cloud.clear_faults()
        made.start()
        made.pod("late")
        assert len(assert_agree(lab, made.node)["enis"]) == 1


def test_interfaces_that_one_release_has_added_are_repeated_and_deleted_by_the_other(
    served: Site, before: Path
) -> None:
    """The releases name the host link of a second interface otherwise."""
    lab = served.nodes[0].lab
    with bench(lab) as made:
        made.start()
        with sandbox(made, "web") as web:
            second = interface(web, "net1")
            for environment in ({"PYTHONPATH": str(before)}, {}):
                if environment:
                    made.node.exec(["terway-cli", "ledger", "downgrade"], check=True)
                assert [one.call("ADD").code for one in (web, second)] == [0, 0]
                made.node.stop_agent()
                made.start(**environment)
                for _ in range(2):
                    repeated = second.call("ADD")
                    assert repeated.code == 0, repeated.stdout
                told = assert_agree(lab, made.node)
                assert len(told["attachments"]) == 2
                assert second.call("DEL").code == 0
                assert len(assert_agree(lab, made.node)["attachments"]) == 1
