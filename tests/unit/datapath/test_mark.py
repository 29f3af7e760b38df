"""What is written on an ENI about its pod is read back, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from datapath.endpoint import EndpointKey
from datapath.modes.macvlan import mark
from datapath.modes.macvlan.mark import LONGEST, Mark
from datapath.namespace import Identity

WHOLE = Mark(
    EndpointKey("f" * 64, "eth0"),
    "00:16:3e:00:00:12",
    Identity(4, 4026532270),
    (ip_address("10.200.255.254"), ip_address("2001:db8:1111:2222:3333:4444:5555:6666")),
    "/var/run/netns/cni-01234567-89ab-cdef-0123-456789abcdef",
)


@pytest.mark.parametrize(
    "one",
    [
        WHOLE,
        replace(WHOLE, path=""),
        replace(WHOLE, path="/proc/4711/ns/net"),
        replace(WHOLE, path="/run/a directory/net ns"),
        replace(WHOLE, addresses=()),
        replace(WHOLE, path="", beside="uplink to // production"),
        replace(WHOLE, path="/proc/4711/ns/net", beside="rack 7"),
        replace(WHOLE, key=EndpointKey("c1", "interface-of-15")),
    ],
)
def test_is_read_as_it_was_written(one: Mark) -> None:
    assert mark.read(one.text()) == one
    assert len(one.text().encode()) <= LONGEST


def test_a_path_that_does_not_fit_is_left_out() -> None:
    """Whose the ENI is and which namespace it has gone to still stand."""
    long = replace(WHOLE, path="/" + "p" * 200)
    assert mark.read(long.text()) == replace(WHOLE, path="")


def test_another_hands_text_comes_before_the_path_and_is_never_cut() -> None:
    text = "uplink to production, do not touch"
    found = mark.read(replace(WHOLE, beside=text).text())
    assert found is not None
    assert (found.beside, found.path) == (text, "")
    with pytest.raises(ValueError, match="too long"):
        replace(WHOLE, beside="x" * 100).text()


@pytest.mark.parametrize(
    ("alias", "left"),
    [
        ("", ""),
        ("rack 7", "rack 7"),
        (WHOLE.text(), ""),
        (replace(WHOLE, path="", beside="rack 7").text(), "rack 7"),
        (WHOLE.text()[:90], ""),
    ],
)
def test_what_of_an_alias_is_another_hands(alias: str, left: str) -> None:
    assert mark.beside(alias) == left


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "lab port 2",
        "terway-own",
        "f" * 64,
        "terway-own c eth0 mac x:y 10.0.0.1 /path",
        "terway-own c eth0 mac 1:2 10.0.0.256 /path",
        "terway-own c eth0 mac 1 10.0.0.1",
        WHOLE.text()[:90],
    ],
)
def test_what_is_not_ours_or_was_cut_is_no_mark(alias: str) -> None:
    assert mark.read(alias) is None
