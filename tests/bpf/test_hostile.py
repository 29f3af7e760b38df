"""Every attack of the list ends at pod_egress with its reason, whether or not the fast path is on."""

from __future__ import annotations

import pytest

from tests.bpf.bench import NODE, Bench, device_mac, pod_mac
from tests.bpf.differential import RETURNED, model_of
from tests.bpf.model import Arrival
from tests.bpf.traffic import runnable
from tests.e2e.hostile_frames import Attack, Stance, attacks


def stance(node: Bench) -> Stance:
    def addresses(name: str) -> dict[int, object]:
        return {one.version: one for one in node.pods[name].addresses}

    return Stance(
        mac=pod_mac("a"),
        host_mac=device_mac("a"),
        own=addresses("a"),  # type: ignore[arg-type]
        victim=addresses("b"),  # type: ignore[arg-type]
        victim_mac=pod_mac("b"),
        target=addresses("c"),  # type: ignore[arg-type]
        node={4: NODE[0], 6: NODE[2]},
    )


def hits(node: Bench, attack: Attack) -> tuple[str, str, int]:
    found = node.run("pod_egress", "a", attack.frame)
    assert found.packet == attack.frame
    return found.verdict, found.reason, found.returned


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_every_attack_ends_with_its_reason(node: Bench, on: bool) -> None:
    tried = [one for one in attacks(stance(node)) if runnable(one.frame)]
    assert len(tried) > 150
    model, pod = model_of(node), node.pods["a"].host_ifindex
    before = node.fast.endpoint_counters()[pod].dropped_packets
    node.fast.switch(on)
    try:
        wrong = {
            one.id: found
            for one in tried
            if (found := hits(node, one)) != ("drop", one.reason, RETURNED["drop"])
        }
    finally:
        node.fast.switch(True)
    assert not wrong
    assert node.fast.endpoint_counters()[pod].dropped_packets == before + len(tried)
    judged = {one.id: model.judge(Arrival("pod_egress", pod, one.frame)).reason for one in tried}
    assert judged == {one.id: one.reason for one in tried}
