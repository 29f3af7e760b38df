"""Matches and targets of xtables in all of their revisions."""

from __future__ import annotations

import struct

import pytest

from datapath.firewall import extension
from datapath.firewall.rule import Act, StackOnly, What

INVALID, NEW, DNAT = 1, 1 << 3, 1 << 7


def conntrack(revision: int, states: int, *, asked: int = 1, inverted: int = 0) -> bytes:
    form = "=146xHHB" if revision == 1 else "=146xHHH"
    return struct.pack(form, asked, inverted, states)


@pytest.mark.parametrize("revision", [1, 2, 3])
def test_states_that_only_the_stack_gives(revision: int) -> None:
    for states, proved in (
        (INVALID, True),
        (DNAT, True),
        (INVALID | DNAT, True),
        (NEW, False),
        (NEW | INVALID, False),
    ):
        found = extension.match("conntrack", revision, conntrack(revision, states))
        assert found == ((StackOnly(),) if proved else ())
    for other in (
        conntrack(revision, INVALID, inverted=1),
        conntrack(revision, INVALID, asked=0),
        conntrack(revision, INVALID)[:100],
        b"",
    ):
        assert extension.match("conntrack", revision, other) == ()


def test_a_revision_of_the_future_proves_nothing() -> None:
    assert extension.match("conntrack", 4, conntrack(3, INVALID)) == ()
    assert extension.match("quantum", 0, b"") == ()


def test_state_of_old() -> None:
    """There bit 6 is UNTRACKED."""
    assert extension.match("state", 0, struct.pack("=I", INVALID)) == (StackOnly(),)
    assert extension.match("state", 0, struct.pack("=I", 1 << 6)) == ()


def test_kinds_of_addresses() -> None:
    local, unicast = 1 << 2, 1 << 1
    assert extension.match("addrtype", 0, struct.pack("=HHII", 0, local, 0, 0)) == (StackOnly(),)
    assert extension.match("addrtype", 0, struct.pack("=HHII", 0, local, 0, 1)) == ()
    assert extension.match("addrtype", 1, struct.pack("=HHI", 0, local, 0)) == (StackOnly(),)
    assert extension.match("addrtype", 1, struct.pack("=HHI", 0, local, 1)) == (StackOnly(),)
    assert extension.match("addrtype", 1, struct.pack("=HHI", 0, local, 2)) == ()
    assert extension.match("addrtype", 1, struct.pack("=HHI", 0, local | unicast, 0)) == ()
    assert extension.match("addrtype", 1, struct.pack("=HHI", local, 0, 0)) == ()


def test_targets() -> None:
    assert extension.target("MARK") == ()
    assert extension.target("NFQUEUE") == (Act(What.QUEUE, "xtables target NFQUEUE"),)
    assert extension.target("TCPMSS") == (Act(What.CHANGE, "xtables target TCPMSS"),)
    assert extension.target("WHATEVER") == (Act(What.UNKNOWN, "xtables target WHATEVER"),)
