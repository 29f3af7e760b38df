"""Nodes go from the release before to this one, back as docs/install.md has it, and here again.

Pods of either release call Services meanwhile. Of the connections some are idle until the server speaks, and
some never stop; none is missed, and what one release has made the other one takes away.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from lab.client import Lab
from lab.cni_call import CniError
from lab.sandbox import LabPod
from lab.spec import LabSpec
from tests.e2e import cluster_images
from tests.e2e.benches import bench, sandbox
from tests.e2e.conftest import Bench
from tests.e2e.service_calls import Calls, Servers, calls
from tests.e2e.service_site import VIPS, Site, site
from tests.e2e.services import PORT, TARGET
from tests.e2e.test_fastpath import asked
from tests.e2e.test_link_names import interface
from tests.e2e.witnesses import assert_agree, cloud_enis, reaches, until

BACKENDS = {"here": "x", "there": "b"}
"""Pods behind the Services that are called."""


@pytest.fixture(scope="module")
def before() -> Iterator[Path]:
    """The source tree of the release before, its C parts compiled, where a node sees it."""
    with tempfile.TemporaryDirectory(dir=cluster_images.ROOT / ".cache", prefix="before-") as scratch:
        tree = Path(scratch) / "tree"
        try:
            cluster_images.source(tree, cluster_images.BEFORE)
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


def service_calls(client: int, servers: Servers) -> AbstractContextManager[Calls]:
    """Of one pod to the Services behind ``x`` and ``b``, by IPv4 and IPv6."""
    vips = {f"{name} by IPv{v}": str(VIPS[v][name]) for v in VIPS for name in BACKENDS}
    return calls(client, vips, PORT, servers)


def servers_of(served: Site, stack: ExitStack) -> Servers:
    places = {
        f"{name} by IPv{v}": (served.fds[who], str(served.address(who, v)))
        for v in VIPS
        for name, who in BACKENDS.items()
    }
    return Servers(places, TARGET, stack)


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
        servers = servers_of(served, stack)
        fds = [pod.netns_fd() for pod in (older, newer)]
        for fd in fds:
            stack.callback(os.close, fd)
        going = [stack.enter_context(service_calls(fd, servers)) for fd in fds]

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
