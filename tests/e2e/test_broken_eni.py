"""An ENI that a hand detaches in the cloud while pods are added: none of them is refused for it.

The agent learns of it by the first ADD whose address is on that ENI. The ADD gets another ENI's address in
the same call, and the witnesses are asked at once rather than at the next round.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.client import Lab
from lab.cni_call import CniError
from lab.sandbox import LabPod
from tests.e2e.benches import bench
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, cloud_enis, kernel, reaches, settled, state, until
from tests.soak import hand

SPARE = 9
"""Addresses that idle on the ENI when it is detached: each is one that an ADD could be given."""


def _detach(made: Bench, eni_id: str) -> None:
    """By a hand at the console. On return the device is gone: until then a pod may still be put on it."""
    (mac,) = [e["mac"] for e in state(made.node)["enis"] if e["id"] == eni_id]
    hand.call(made.lab, "DetachNetworkInterface", NetworkInterfaceId=eni_id, InstanceId=made.node.instance_id)
    until(lambda: cloud_enis(made.lab, made.node)[eni_id]["status"], lambda s: s == "Available")
    until(lambda: kernel(made.lab, made.node).macs, lambda macs: mac not in macs)


def _idle_eni(made: Bench) -> str:
    (eni,) = settled(made.node)["enis"]
    return str(eni["id"])


def _adds(made: Bench, names: list[str]) -> tuple[list[LabPod], list[str]]:
    """Two at once; those that came up, and what the others were refused with."""

    def one(name: str) -> LabPod | str:
        try:
            return made.pod(name)
        except CniError as exc:
            return str(exc)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(one, names))
    return [o for o in outcomes if isinstance(o, LabPod)], [o for o in outcomes if isinstance(o, str)]


@pytest.mark.parametrize("bpf", ["on", "off"])
def test_no_add_is_refused_because_a_hand_has_detached_an_eni(lab: Lab, bpf: str) -> None:
    with bench(lab, max_pool_size=SPARE, ip_cool_down="0s") as made:
        made.node.start_agent(["-bpf", bpf], env={"TERWAY_TEST_CLOCK": "1"})
        steady = made.pod("steady")
        broken = _idle_eni(made)
        _detach(made, broken)
        pods, refused = _adds(made, [f"web-{i}" for i in range(12)])
        print(f"{len(refused)} of 12 ADDs refused")
        assert not refused
        assert all(p.ipv4 is not None and reaches(steady, str(p.ipv4)) for p in pods), "on the same node"
        (told,) = [e for e in state(made.node)["enis"] if e["id"] == broken]
        assert told["status"].startswith("frozen"), "a pod is on it: it is kept, and said"
        steady.remove()
        hand.call(lab, "DeleteNetworkInterface", NetworkInterfaceId=broken)
        made.advance(61)
        until(lambda: state(made.node)["enis"], lambda enis: all(e["id"] != broken for e in enis))
        assert_agree(lab, made.node)


def test_an_eni_that_is_attached_again_serves_by_itself(lab: Lab) -> None:
    """Its device is another one by then. No round of the agent's clock passes in between."""
    with bench(lab, max_pool_size=SPARE, ip_cool_down="0s") as made:
        made.start()
        steady = made.pod("steady")
        broken = _idle_eni(made)
        _detach(made, broken)
        other = made.pod("other")
        assert _status(made, broken).startswith("frozen")
        hand.call(lab, "AttachNetworkInterface", NetworkInterfaceId=broken, InstanceId=made.node.instance_id)
        until(lambda: _status(made, broken), lambda status: status == "serving")
        made.advance(31)  # the hold-off of one that flaps
        pods, refused = _adds(made, [f"web-{i}" for i in range(12)])
        assert not refused
        on_it = {a["pod_name"] for a in state(made.node)["attachments"] if a["eni"] == broken}
        assert on_it > {"steady"}, "the fuller ENI is filled first, and that is the one that was away"
        assert all(reaches(other, str(p.ipv4)) for p in (steady, *pods))


def _status(made: Bench, eni_id: str) -> str:
    (told,) = [e for e in state(made.node)["enis"] if e["id"] == eni_id]
    return str(told["status"])
