"""Who had an address: every way in which an attachment ends is told, in the words of the question."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control.agent.introspection import past
from control.model.clock import SystemClock
from control.model.errors import KernelError, RequestError
from control.model.records import Ended
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_holds import run


def ended(rig: Rig, text: str) -> list[tuple[Any, ...]]:
    rows = past.history(rig.journal, past.subject(text))
    return [(row["pod"], row["sandbox"], row["ended"]) for row in rows]


def test_each_end_has_its_word() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        first = (await rig.add("web-0")).record
        second = (await rig.add("web-0", container="c-second")).record
        assert first.ipv4 == second.ipv4, "the same pod takes its address along"
        rig.kernel.broken = "netlink"
        with pytest.raises(KernelError):
            await rig.add("web-0", container="c-third")
        rig.kernel.broken = ""
        await rig.delete("web-0", container="c-second")
        told = [
            ("default/web-0", "c-web-0", Ended.REPLACED),
            ("default/web-0", "c-third", Ended.FAILED),
            ("default/web-0", "c-second", Ended.DELETED),
        ]
        for text in (str(first.ipv4), "default/web-0", str(first.eni_id)):
            assert ended(rig, text) == told
        again = (await rig.add("web-1")).record
        (present,) = [r for r in past.history(rig.journal, again.eni_id) if r["until"] is None]
        assert (present["pod"], present["since"], present["mode"]) == (
            "default/web-1",
            again.made,
            again.mode,
        )
        rig.attachments.end(rig.journal.book.attachments[again.key])
        assert ended(rig, "default/web-1") == [("default/web-1", "c-web-1", Ended.COLLECTED)]

    run(scenario())


def test_times_are_those_of_its_use() -> None:
    async def scenario() -> None:
        rig = Rig(max_pool=0)
        rig.clock.advance(100)
        began = rig.clock.now()
        record = (await rig.add("web-0")).record
        rig.clock.advance(1000)
        await rig.delete("web-0")
        (row,) = past.history(rig.journal, past.subject(str(record.ipv4)))
        assert began <= row["since"] < began + 100
        assert row["until"] - row["since"] >= 1000

    run(scenario())


@pytest.mark.parametrize("text", ["", "web-0", "/web-0", "default/", "10.0.16", "sg-1"])
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="neither an address, nor NAMESPACE/POD, nor an ENI's id"):
        past.subject(text)


def test_a_clock_that_was_set_back_tells_no_end_before_its_beginning() -> None:
    """The machine was set back an hour while no agent ran; what is told stays a time of use, and is JSON."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        rig.clock.advance(3600)
        gone = (await rig.add("gone")).record
        kept = (await rig.add("kept")).record
        await rig.delete("gone")
        rig.clock = SystemClock()
        new = await rig.restarted()
        assert new.clock.now() < kept.made
        await new.delete("kept")
        again = (await new.add("again")).record
        told = [row for r in (gone, kept, again) for row in past.history(new.journal, r.addresses()[0])]
        for row in told:
            assert row["until"] is None or row["since"] <= row["until"], row
        assert json.loads(json.dumps(told)) == told
        assert list(told[0]) == [
            "address",
            "since",
            "until",
            "ended",
            "pod",
            "uid",
            "sandbox",
            "interface",
            "mode",
            "eni",
        ], "programs read it"
        assert [list(row) for row in told] == [list(told[0])] * len(told)

    run(scenario())
