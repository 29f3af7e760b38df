"""Restart of the daemon, reboot of the node, and what sandboxes made anew find."""

from __future__ import annotations

import signal

from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_V6
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, kernel, reaches, settled, state, until


def test_restart_keeps_every_pod_and_asks_the_cloud_once(node: Bench) -> None:
    node.start()
    pods = [node.pod(f"web-{i}") for i in range(4)]
    settled(node.node)
    node.lab.cloud.reset_calls()
    node.node.stop_agent(signal.SIGKILL)
    assert reaches(pods[0], str(pods[1].ipv4)), "packets flow while the agent is down"
    node.start()
    told = assert_agree(node.lab, node.node)
    assert {a["ipv4"] for a in told["attachments"]} == {str(p.ipv4) for p in pods}
    assert node.lab.cloud.calls() == {"DescribeNetworkInterfaces": 1}


def test_restart_repairs_what_was_removed_meanwhile(node: Bench) -> None:
    """Rules of others' daemons were seen to be deleted by systemd-networkd: aws 3309, cilium 18706.

    Without eBPF, as the fast path needs no rules.
    """
    node.node.start_agent(["-bpf", "off"])
    pod = node.pod("web")
    node.node.stop_agent()
    removal = (
        "from pyroute2 import IPRoute\n"
        "with IPRoute() as n:\n"
        "    for r in n.get_rules(family=2):\n"
        "        if r.get_attr('FRA_PRIORITY') in (512, 2048): n.rule('del', family=2, "
        "priority=r.get_attr('FRA_PRIORITY'), table=r.get_attr('FRA_TABLE'), "
        "**({'src': r.get_attr('FRA_SRC'), 'src_len': 32} if r.get_attr('FRA_SRC') else {}))\n"
    )
    node.node.python(removal)
    assert str(pod.ipv4) not in kernel(node.lab, node.node).rules
    assert not reaches(pod, str(OUTSIDE_ADDRESS))
    node.node.start_agent(["-bpf", "off"])
    assert_agree(node.lab, node.node)
    assert reaches(pod, str(OUTSIDE_ADDRESS))


def test_reboot_gives_each_pod_its_address_again(node: Bench) -> None:
    node.start()
    pods = [node.pod(f"web-{i}") for i in range(3)]
    before = {p.key: p.addresses for p in pods}
    node.node.reboot()
    node.start()
    told = state(node.node)
    assert {a["state"] for a in told["attachments"]} == {"lost"}
    assert not kernel(node.lab, node.node).links
    pods[0].remove()  # the runtime deletes an old sandbox before it makes the new one, or after
    again: list[LabPod] = [p.recreate() for p in pods]
    for old in pods[1:]:
        old.remove()
    assert {p.key: p.addresses for p in again} == before
    assert_agree(node.lab, node.node)
    assert all(reaches(p, str(OUTSIDE_ADDRESS)) and reaches(p, str(OUTSIDE_ADDRESS_V6)) for p in again)
    assert not node.drops()


def test_pod_that_vanished_with_the_reboot_is_collected_on_two_witnesses(node: Bench) -> None:
    node.start()
    pod = node.pod("web")
    node.node.reboot()
    node.start()
    node.advance(400)
    assert state(node.node)["attachments"], "Kubernetes still has the pod"
    pod.delete_object()

    def collected() -> list[object]:
        node.advance(400)
        rows: list[object] = state(node.node)["attachments"]
        return rows

    until(collected, lambda rows: rows == [])
    assert_agree(node.lab, node.node)


def test_sandbox_made_anew_keeps_the_address_and_the_late_delete_does_not_touch_it(node: Bench) -> None:
    node.start()
    old = node.pod("web")
    new = old.recreate()
    assert new.addresses == old.addresses
    old.stop()
    old.remove()
    assert_agree(node.lab, node.node)
    assert reaches(new, str(OUTSIDE_ADDRESS))
    assert kernel(node.lab, node.node).links.popitem()[1] == new.container_id
