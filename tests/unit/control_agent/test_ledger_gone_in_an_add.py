"""The ledger's directory is removed in the middle of an ADD: between its intent and its end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from control.model.errors import LedgerError
from control.model.records import AttachmentState
from control.store.ledger import SqliteLedger
from datapath.endpoint import Applied, Endpoint
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_holds import run
from tests.unit.control_agent.test_rebuild import story, tell_of_addresses


def _on_disk(path: Path) -> Rig:
    return Rig(ledger=SqliteLedger(path), max_pool=0)  # type: ignore[arg-type]


def _removed_in_setup(rig: Rig, directory: Path) -> None:
    setup = rig.kernel.setup

    def removes(endpoint: Endpoint, netns: int) -> Applied:
        shutil.rmtree(directory)
        rig.kernel.setup = setup  # type: ignore[method-assign]
        return setup(endpoint, netns)

    rig.kernel.setup = removes  # type: ignore[method-assign]


@pytest.mark.parametrize("mended", [True, False])
def test_the_pod_is_recorded_once(tmp_path: Path, mended: bool) -> None:
    """Mended by the running agent, or lost with it: a death before it has looked after its ledger."""

    async def scenario() -> None:
        path = tmp_path / "terway" / "l.db"
        rig = _on_disk(path)
        for n in range(3):
            await rig.add(f"web-{n}")
        _removed_in_setup(rig, path.parent)
        late = (await rig.add("late")).record
        assert not path.exists(), "the hand was there"
        if mended:
            (told,) = rig.journal.look_after()
            assert "written anew from memory" in told
        tell_of_addresses(rig)
        before = story(rig)
        rig.ledger.close()
        rig.ledger = SqliteLedger(path)  # type: ignore[assignment]
        if not mended:
            rig.ledger.remember("nothing", "of this node")
        new = await rig.restarted()
        assert story(new) == before
        assert new.journal.book.attachments[late.key].state is AttachmentState.READY
        assert not new.rebuild.going_on()
        taken = [a for r in new.journal.book.attachments.values() for a in r.addresses()]
        more = (await new.add("more")).record
        assert more.ipv4 not in taken
        assert len(taken) == len(set(taken)) == 4
        new.assert_agree()
        new.ledger.close()

    run(scenario())


def test_an_add_whose_end_cannot_be_written_leaves_nothing() -> None:
    """The disk fills up between the two writes: no pod runs whose address is free for others."""

    async def scenario() -> None:
        rig = Rig(max_pool=0)
        await rig.add("web-0")
        write, writes = rig.ledger.write, 0

        def full(changes: object) -> None:
            nonlocal writes
            writes += 1
            if writes > 1:
                raise LedgerError("full")
            write(changes)  # type: ignore[arg-type]

        await rig.add("web-1")
        await rig.delete("web-1")
        rig.clock.advance(31)
        rig.ledger.write = full  # type: ignore[method-assign]
        with pytest.raises(LedgerError):
            await rig.add("late")
        assert set(rig.kernel.pod_links().values()) == {"c-web-0"}
        rig.ledger.write = write  # type: ignore[method-assign]
        new = await rig.restarted()
        assert [r.pod.name for r in new.journal.book.attachments.values()] == ["web-0"]
        new.assert_agree()

    run(scenario())
