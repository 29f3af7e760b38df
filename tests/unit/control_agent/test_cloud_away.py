"""A cloud that does not answer: one call finds that out for all, and a pod is told when that call ends."""

from __future__ import annotations

import pytest

from control.aliyun.actions import Action
from control.aliyun.errors import Refusal, Transport
from control.model.errors import Cause, PoolExhausted
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_use_cases import run

_WRITES = (Action.ASSIGN_IPV4, Action.CREATE_ENI)
_SILENT = Refusal(transport=Transport.CONNECT_TIMEOUT)
_BROKEN = Refusal(transport=Transport.BROKEN)
_NOBODY = Refusal(code="InvalidAccessKeyId.NotFound", status=404)


@pytest.mark.parametrize(
    ("refusal", "cause"),
    [(_SILENT, Cause.TIMEOUT), (_BROKEN, Cause.UNREACHABLE), (_NOBODY, Cause.CREDENTIALS)],
    ids=["silent", "broken", "unknown key"],
)
def test_the_other_enis_are_not_tried_one_after_the_other(refusal: Refusal, cause: Cause) -> None:
    """Ten seconds of patience with each of three ENIs: the kubelet heard nothing for a minute."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        for i in range(17):
            await rig.add(f"web-{i}")
        await rig.settle()
        assert len(rig.journal.book.enis) == 2
        before = sum(rig.cloud.count(action) for action in _WRITES)
        for action in _WRITES:
            rig.cloud.fail_with(action, refusal, times=99)
        with pytest.raises(PoolExhausted, match=r"next try in 5 s") as failure:
            await rig.add("more")
        assert failure.value.cause is cause
        assert sum(rig.cloud.count(action) for action in _WRITES) - before == 1
        rig.cloud._faults.clear()
        rig.clock.advance(6)
        await rig.add("more")
        await rig.settle()
        rig.assert_agree()

    run(scenario())


def test_what_is_refused_on_one_eni_is_asked_of_another() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("first")
        rig.cloud.fail(Action.ASSIGN_IPV4, "Operation.Conflict")
        await rig.add("second")
        await rig.settle()
        assert len(rig.journal.book.enis) == 2
        rig.assert_agree()

    run(scenario())
