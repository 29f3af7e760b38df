"""The catalogue names each kind of what the agent makes, deleted and altered, and no name twice."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

import pytest

from datapath.acceleration.load import FILLED
from datapath.enforcement.guard.ruleset import TABLE
from datapath.modes.policy_route.plan import HOST_LINK_SETTINGS
from datapath.netlink.link import Devconf
from perf.drift import files, guard, hooks, links, pod, replug, routing, rows, settings
from perf.drift.catalogue import CATALOGUE, chosen, sampled
from perf.drift.item import Change, Owner, Shell, Thing
from tests.drift.not_mended import NOT_MENDED

PARTS = (links, replug, routing, settings, guard, hooks, rows, files, pod)


def test_no_name_is_there_twice() -> None:
    names = Counter(item.name for item in chain.from_iterable(part.items() for part in PARTS))
    assert [name for name, count in names.items() if count > 1] == []
    assert set(names) == set(CATALOGUE)


def test_what_is_not_mended_is_in_the_catalogue_and_the_agents() -> None:
    assert set(NOT_MENDED) <= set(CATALOGUE)
    assert all(CATALOGUE[name].owner is Owner.AGENT for name in NOT_MENDED)
    assert all(NOT_MENDED.values())


@pytest.mark.parametrize("thing", Thing)
def test_each_kind_is_taken_away_and_changed(thing: Thing) -> None:
    """A setting cannot be deleted."""
    changes = {item.change for item in CATALOGUE.values() if item.thing is thing}
    if thing is not Thing.SETTING:
        assert Change.DELETED in changes
    assert changes & {Change.ALTERED, Change.IMPOSTOR}


def test_every_map_that_the_agent_fills_loses_a_row_or_has_it_altered() -> None:
    tables = {str(getattr(item.look, "args", ("",))[0]) for item in rows.items()}
    assert set(FILLED) <= tables


def test_every_setting_of_a_host_link_is_altered() -> None:
    names = {Devconf[path.split("/")[-1].upper()] for path, _, _ in settings.HOST_LINK if "_" in path}
    assert names >= set(HOST_LINK_SETTINGS)


def test_the_guards_table_is_the_one_that_is_looked_at() -> None:
    assert all(f"inet {TABLE}" in str(item.alter) for item in guard.items())


def test_a_sample_is_the_seeds() -> None:
    items = chosen((), stack="dual", bpf="on")
    taken = sampled(items, "7", 12)
    assert taken == sampled(items, "7", 12)
    assert taken != sampled(items, "8", 12)
    assert len(taken) == 12
    assert [item for item in items if item in taken] == taken


def test_what_a_node_does_not_have_is_not_chosen() -> None:
    assert not [item for item in chosen((), stack="ipv4", bpf="off") if item.dual or item.bpf]
    assert [item.name for item in chosen(("rule-512-v?-deleted",), stack="ipv4", bpf="on")] == [
        "rule-512-v4-deleted"
    ]
    with pytest.raises(ValueError, match="no alteration"):
        chosen(("rule-513*",), stack="dual", bpf="on")


def test_lines_for_a_shell_have_no_brace_that_is_not_a_name() -> None:
    for item in CATALOGUE.values():
        if isinstance(item.alter, Shell):
            plain = re.sub(r"\{\{|\}\}", "", str(item.alter))
            assert re.fullmatch(r"(?:[^{}]|\{[a-z0-9_]+\})*", plain), item.name
