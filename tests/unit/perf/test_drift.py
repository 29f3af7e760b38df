"""An outage is between questions with an answer; the table says which flows had one."""

from __future__ import annotations

from ipaddress import IPv4Address

from perf.drift.catalogue import CATALOGUE
from perf.drift.table import HEAD, harmed, lines, row
from perf.drift.traffic import Flow, Loss, Path, loss, silent
from perf.drift.trial import Result

PATH = Path("same node", 4, -1, IPv4Address("10.0.0.1"))
ITEM = CATALOGUE["host-link-down"]
FINE, DEAD = Loss(0.0, 0, 20), Loss(1.5, 20, 20)


def flow(answers: str) -> Flow:
    """A question a second from second 10 on; "." has an answer, "x" none."""
    made = Flow(PATH, lasting=True, sent=[10.0 + number for number in range(len(answers))])
    made.answered = {number for number, one in enumerate(answers) if one == "."}
    return made


def test_the_longest_outage_is_from_the_first_unanswered_to_the_next_answered() -> None:
    assert loss(flow("..x.xxx..x."), 10.0, 21.0) == Loss(3.0, 5, 11)


def test_an_outage_that_goes_on_ends_with_the_time() -> None:
    assert loss(flow("..xxx"), 10.0, 16.5) == Loss(4.5, 3, 5)


def test_what_was_asked_before_or_after_does_not_count() -> None:
    assert loss(flow("xx...xx"), 12.0, 15.0) == Loss(0.0, 0, 3)


def test_who_is_silent() -> None:
    assert silent({"a": True, "b": False}) == ["b"]


def test_flows_are_told_shortly() -> None:
    both = {"same node v4": DEAD, "same node v4, new": DEAD, "from host v4": FINE, "from host v4, new": FINE}
    assert harmed(both) == "same node v4"
    assert harmed({**both, "same node v4": FINE}) == "same node v4 (new ones)"
    assert harmed({**both, "same node v4, new": FINE}) == "same node v4 (those that last)"
    assert harmed(dict.fromkeys(both, DEAD)) == "all"
    assert harmed(dict.fromkeys(both, FINE)) == ""


def test_a_row_says_what_a_restart_did_about_what_stayed() -> None:
    losses = {"same node v4": DEAD}
    back = Result(ITEM, 12.34, 12.5, None, losses)
    assert row(back, 70.0) == ("host-link-down", "link", "12.3 s", "1.50 s", "all", "20 of 20", "")
    assert row(Result(ITEM, 12.34, None, None, losses), 70.0)[2] == "12.3 s, its flows not"
    stayed = Result(ITEM, None, None, None, losses)
    assert (row(stayed, 70.0)[2], row(stayed, 70.0)[6]) == ("not within 70 s", "no")
    assert row(Result(ITEM, None, None, 1.0, losses), 70.0)[6] == "yes"


def test_a_table_in_markdown() -> None:
    result = Result(ITEM, 1.0, 1.0, None, {"same node v4": FINE})
    text = list(lines("kernel x", [result], [("other", "a\nreason")], 70.0, markdown=True))
    assert text[0] == "Kernel x."
    assert text[2] == f"| {' | '.join(HEAD)} |"
    assert text[-2:] == ["1 of 1 as they were within 70 s", "other: could not be tried: a reason"]
