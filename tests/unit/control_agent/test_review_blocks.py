"""How long what was refused is left alone."""

from __future__ import annotations

from control.agent.allocation.blocks import FIRST, MOST, Blocks
from control.model.errors import Cause, CloudError

FULL = CloudError("full", cause=Cause.VSWITCH_FULL, action="AssignPrivateIpAddresses")


def test_refusals_in_a_row_wait_longer_and_one_after_a_long_peace_begins_anew() -> None:
    """Nothing clears a vSwitch's block: full for an hour last week must not cost half a minute today."""
    blocks, now = Blocks(), 1000.0
    for _ in range(10):
        blocks.add("vsw-1", FULL, now)
        now = blocks.all(now)["vsw-1"].until
    blocks.add("vsw-1", FULL, now)
    assert blocks.all(now)["vsw-1"].seconds == MOST
    later = now + 10 * MOST
    blocks.add("vsw-1", FULL, later)
    assert blocks.all(later)["vsw-1"].seconds == FIRST


def test_what_is_long_over_is_forgotten() -> None:
    """ENIs come and go: a name each, for as long as the daemon runs, would be a leak."""
    blocks = Blocks()
    for i in range(1000):
        blocks.add(f"eni-{i}", FULL, i * 10.0)
    assert len(blocks._blocks) < 50
