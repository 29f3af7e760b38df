"""Names of host links: one per interface, whatever pods and interfaces are called, and whoever named it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from lab.client import Lab
from tests.e2e.benches import Answer, Sandbox, bench, conf, sandbox
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, reaches, settled

LEDGER = "/var/lib/cni/terway/terway.db"


@pytest.fixture
def node(lab: Lab) -> Iterator[Bench]:
    with bench(lab, max_pool_size=5) as made:
        made.start()
        yield made


def interface(of: Sandbox, ifname: str) -> Sandbox:
    """Another interface of the same sandbox, as Multus asks for it."""
    return replace(of, attachment=replace(of.attachment, ifname=ifname))


def names(answer: Answer) -> str:
    """The host link of a result."""
    assert answer.code == 0, answer.stdout
    return str(next(one["name"] for one in answer.json["interfaces"] if one["name"].startswith("cali")))


def link_of(made: Bench, name: str) -> str:
    """What ``ip`` says of the link, its alias included."""
    return made.node.exec(["ip", "-d", "link", "show", "dev", name], check=True).stdout


def upstreams(namespace: str, pod: str, ifname: str) -> str:
    """The name as upstream and earlier releases computed it."""
    seed = f"{namespace}.{pod}{'' if ifname == 'eth0' else ifname}"
    return "cali" + hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()[:11]


def test_net1_of_web_is_not_eth0_of_webnet1(node: Bench) -> None:
    with sandbox(node, "web") as web, sandbox(node, "webnet1") as other:
        second = interface(web, "net1")
        added = [each.call("ADD") for each in (web, second, other)]
        assert len({names(one) for one in added}) == 3
        assert names(added[0]) == upstreams(node.node.name, "web", "eth0"), "Felix finds pods by this name"
        for one, container in zip(added, (web, web, other), strict=True):
            assert container.attachment.container_id in link_of(node, names(one))
        assert second.call("DEL").code == 0
        assert other.call("CHECK", stdin=checked(added[2])).code == 0
        assert reaches(other.fd(), str(node.node.address))
    assert_agree(node.lab, node.node)


def checked(answer: Answer) -> str:
    return conf("0.4.0", prevResult=answer.json)


@contextmanager
def of_an_earlier_release(made: Bench, first: Answer, old: str) -> Iterator[None]:
    """The interface of ``first`` under the name that an earlier release would have given it."""
    made.node.stop_agent()
    for words in (["down"], ["name", old], ["up"]):
        device = old if words == ["up"] else names(first)
        made.node.exec(["ip", "link", "set", "dev", device, *words], check=True)
    with closing(sqlite3.connect(made.node.directory.outside(LEDGER))) as ledger, ledger:
        ledger.execute("UPDATE attachment SET host_link=? WHERE host_link=?", (old, names(first)))
    made.start()
    settled(made.node)
    yield


def test_a_link_that_an_earlier_release_named_is_found_kept_and_taken_down(node: Bench) -> None:
    with sandbox(node, "web") as web, sandbox(node, "webnet1") as other:
        assert web.call("ADD").code == 0
        second = interface(web, "net1")
        first = second.call("ADD")
        old = upstreams(node.node.name, "web", "net1")
        assert old == upstreams(node.node.name, "webnet1", "eth0"), "the two collide there"
        with of_an_earlier_release(node, first, old):
            assert second.call("CHECK", stdin=checked(first)).code == 0
            added = other.call("ADD")
            assert names(added) not in (old, names(first))
            assert web.attachment.container_id in link_of(node, old)
            assert reaches(other.fd(), str(node.node.address))
            assert second.call("CHECK", stdin=checked(first)).code == 0
            assert second.call("DEL").code == 0
            assert node.node.exec(["ip", "link", "show", "dev", old]).returncode != 0
            assert reaches(other.fd(), str(node.node.address))
    assert_agree(node.lab, node.node)
