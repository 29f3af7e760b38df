"""What is held off is a metric by object and cause, and no id of an ENI is a label."""

from __future__ import annotations

from control.agent.introspection.rejection_metrics import RejectionCollector
from control.ipam.rejections import CREATION, FIRST_HOLD_OFF, Rejections, of_eni, of_uplink
from control.model.errors import Cause, CloudError, KernelError
from control.model.ids import EniId
from tests.unit.control_agent.rig import Rig


def _told(collector: RejectionCollector) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["scope"], sample.labels["cause"]): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_rejections_are_counted_while_they_last() -> None:
    table, clock = Rejections(), Rig().clock
    collector, now = RejectionCollector(table, clock), clock.now()
    assert _told(collector) == {}
    full = CloudError("full", cause=Cause.VSWITCH_FULL, action="AssignPrivateIpAddresses")
    for i in range(3):
        table.hold_off(of_eni(EniId(f"eni-{i}")), full, now)
    table.hold_off(CREATION, full, now)
    table.hold_off(of_uplink(EniId("eni-1")), KernelError("astray"), now)
    assert _told(collector) == {
        ("ENI", "VSwitchFull"): 3.0,
        ("creation of an ENI", "VSwitchFull"): 1.0,
        ("pods on ENI", "KernelRefused"): 1.0,
    }
    clock.advance(FIRST_HOLD_OFF + 1)
    assert _told(collector) == {}
