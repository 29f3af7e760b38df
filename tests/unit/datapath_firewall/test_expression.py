"""Expressions to steps: what is understood, and that nothing is believed that is not."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from datapath.firewall.addresses import Addresses
from datapath.firewall.expression import steps
from datapath.firewall.rule import Act, Family, From, Jump, Names, StackOnly, Step, Through, To, Version, What
from tests.unit.datapath_firewall.written import (
    DROP,
    compare,
    data,
    expression,
    load_header,
    load_meta,
    masked,
    u32,
    verdict,
)

TRANSPORT = expression("payload", u32(1, 1), u32(2, 2), u32(3, 12), u32(4, 4))
NFPROTO = load_meta(15) + compare(b"\2")


def net(text: str) -> Addresses:
    network = ip_network(text)
    return Addresses.of(network.version, [network])


def range_of(first: bytes, last: bytes, *, op: int = 0) -> bytes:
    return expression("range", u32(1, 1), u32(2, op), data(3, first), data(4, last))


def packed(text: str) -> bytes:
    return ip_address(text).packed


def read(*expressions: bytes, family: Family = Family.IP) -> tuple[Step, ...]:
    return steps(b"".join(expressions), family)


def test_source_and_destination() -> None:
    assert read(load_header(12, 4), compare(packed("10.0.0.5"))) == (From(net("10.0.0.5")),)
    assert read(load_header(16, 4), compare(packed("10.0.0.5"))) == (To(net("10.0.0.5")),)
    source, address = load_header(8, 16), packed("2001:db8::5")
    assert read(source, compare(address), family=Family.IP6) == (From(net("2001:db8::5")),)
    assert read(load_header(24, 16), compare(address), family=Family.IP6) == (To(net("2001:db8::5")),)


def test_prefixes_by_mask_and_by_bytes() -> None:
    masked_away = read(load_header(12, 4), masked(packed("255.255.240.0")), compare(packed("172.21.0.0")))
    assert masked_away == (From(net("172.21.0.0/20")),)
    twice = masked(packed("255.255.255.0")) + masked(packed("255.0.0.255"))
    assert read(load_header(12, 4), twice, compare(packed("10.0.0.0"))) == (From(net("10.0.0.0/8")),)
    assert read(load_header(12, 2), compare(b"\x0a\x01")) == (From(net("10.1.0.0/16")),)
    assert read(load_header(12, 1), compare(b"\x0a", op=1)) == (From(~net("10.0.0.0/8")),)


def test_both_addresses_in_one_comparison() -> None:
    """nft merges neighbouring fields."""
    found = read(load_header(12, 8), compare(packed("10.0.0.5") + packed("10.0.0.6")))
    assert found == (From(net("10.0.0.5")), To(net("10.0.0.6")))
    assert read(load_header(12, 8), compare(packed("10.0.0.5") + packed("10.0.0.6"), op=1)) == ()
    assert read(load_header(12, 6), compare(packed("10.0.0.5") + b"\x0a\1")) == (
        From(net("10.0.0.5")),
        To(net("10.1.0.0/16")),
    )


@pytest.mark.parametrize(
    "unproved",
    [
        (load_header(9, 1), compare(b"\x11")),
        (load_header(13, 3), compare(b"\0\0\5")),
        (load_header(12, 4), masked(packed("0.0.0.255")), compare(packed("0.0.0.5"))),
        (load_header(12, 4), masked(packed("255.0.0.0"), xor=packed("1.0.0.0")), compare(packed("10.0.0.0"))),
        (load_header(12, 4), masked(packed("255.0.0.0")), compare(packed("10.0.0.0"), op=5)),
        (load_header(12, 4), expression("byteorder", u32(1, 1), u32(2, 1)), compare(packed("10.0.0.5"))),
        (load_header(12, 4), load_meta(3), compare(packed("10.0.0.5"))),
        (TRANSPORT, compare(packed("10.0.0.5"))),
        (load_header(12, 2), range_of(b"\x0a\0", b"\x0a\1")),
        (expression("fib", u32(1, 1), u32(2, 1), u32(3, 2)), compare(b"\2\0\0\0")),
        (expression("ct", u32(2, 3), u32(1, 1)), compare(b"\1\0\0\0")),
        (load_header(12, 4), load_header(0, 4, register=8), compare(packed("10.0.0.5"))),
        (load_header(12, 4, register=9), load_meta(6), compare(packed("10.0.0.5"), register=9)),
        (load_header(12, 4), compare(packed("10.0.0.5"), register=2)),
    ],
)
def test_what_proves_nothing(unproved: tuple[bytes, ...]) -> None:
    assert read(*unproved, DROP) == (Act(What.DROP),)


def test_old_and_new_names_of_a_register() -> None:
    assert read(load_header(12, 4, register=8), compare(packed("10.0.0.5"))) == (From(net("10.0.0.5")),)
    assert read(load_header(12, 4, register=2), compare(packed("10.0.0.5"), register=12)) == (
        From(net("10.0.0.5")),
    )


def test_a_header_is_of_no_version_until_the_rule_says_so() -> None:
    rest = (load_header(12, 4), compare(packed("10.0.0.5")))
    assert read(*rest, family=Family.INET) == ()
    assert read(NFPROTO, *rest, family=Family.INET) == (Version(4), From(net("10.0.0.5")))
    ethertype = load_meta(1) + compare(b"\x08\x00")
    assert read(ethertype, *rest, family=Family.NETDEV) == (Version(4), From(net("10.0.0.5")))
    other = load_meta(15) + compare(b"\2", op=1)
    assert read(other, *rest, family=Family.INET) == ()


def test_comparisons_of_order_and_ranges() -> None:
    low, high = packed("10.0.0.1"), packed("10.0.0.9")
    first, last = int.from_bytes(low, "big"), int.from_bytes(high, "big")
    inside = Addresses.between(4, first, last)
    for op, expected in (
        (2, (0, first - 1)),
        (3, (0, first)),
        (4, (first + 1, 2**32 - 1)),
        (5, (first, 2**32 - 1)),
    ):
        assert read(load_header(12, 4), compare(low, op=op)) == (From(Addresses(4, (expected,))),)
    for op, found in ((0, inside), (1, ~inside)):
        assert read(load_header(16, 4), range_of(low, high, op=op)) == (To(found),)


def test_devices() -> None:
    exact, prefix = b"docker0".ljust(16, b"\0"), b"cali"
    assert read(load_meta(6), compare(exact)) == (Through(Names("docker0")),)
    assert read(load_meta(7), compare(exact, op=1)) == (Through(Names("docker0"), inverted=True),)
    assert read(load_meta(6), compare(prefix)) == (Through(Names("cali", prefix=True)),)


def test_connections_and_the_node_itself() -> None:
    state = expression("ct", u32(2, 0), u32(1, 1))
    invalid, none = b"\1\0\0\0", b"\0\0\0\0"
    assert read(state, masked(invalid), compare(none, op=1)) == (StackOnly(),)
    assert read(state, masked(invalid), compare(none)) == ()
    assert read(state, masked(b"\x09\0\0\0"), compare(none, op=1)) == ()
    assert read(state, compare(invalid)) == (StackOnly(),)
    for flags, kind, expected in (
        (2, 2, (StackOnly(),)),
        (2, 5, (StackOnly(),)),
        (2, 1, ()),
        (1, 2, ()),
    ):
        fib = expression("fib", u32(1, 1), u32(2, 3), u32(3, flags))
        assert read(fib, compare(bytes([kind, 0, 0, 0]))) == expected


@pytest.mark.parametrize(
    ("acting", "what"),
    [
        (verdict(0), What.DROP),
        (verdict(3 | 100 << 16), What.QUEUE),
        (expression("queue", u32(1, 100)), What.QUEUE),
        (expression("reject"), What.REJECT),
        (expression("masq"), What.MASQUERADE),
        (expression("nat", u32(1, 0)), What.SNAT),
        (expression("nat", u32(1, 1)), What.DNAT),
        (expression("redir"), What.REDIRECT),
        (expression("tproxy"), What.TPROXY),
        (expression("synproxy"), What.SYNPROXY),
        (expression("objref", u32(1, 10)), What.SYNPROXY),
        (expression("objref", u32(3, 1)), What.OBJECT_MAP),
        (expression("dup"), What.COPY),
        (expression("fwd"), What.MOVE),
        (expression("payload", u32(5, 1), u32(2, 1)), What.CHANGE),
        (expression("exthdr", u32(7, 1)), What.CHANGE),
        (expression("exthdr"), What.CHANGE),
        (expression("lookup", u32(2, 1), u32(3, 0)), What.VERDICT_MAP),
        (expression("from a later kernel"), What.UNKNOWN),
        (expression("payload"), What.UNKNOWN),
        (load_header(12, 4) + compare(b"\0", op=77), What.UNKNOWN),
    ],
)
def test_every_act_is_seen(acting: bytes, what: What) -> None:
    (found,) = read(acting)
    assert isinstance(found, Act)
    assert found.what is what


@pytest.mark.parametrize(
    "harmless",
    [
        verdict(1),
        verdict(-5),
        verdict(-1),
        expression("counter"),
        expression("log"),
        expression("limit"),
        expression("notrack"),
        expression("dynset"),
        expression("meta", u32(2, 3), u32(3, 1)),
        expression("ct", u32(2, 1), u32(4, 1)),
        expression("objref", u32(1, 1)),
        expression("lookup", u32(2, 1)),
        expression("lookup", u32(2, 1), u32(3, 1)),
        expression("exthdr", u32(1, 1)),
    ],
)
def test_what_leaves_packets_as_they_were(harmless: bytes) -> None:
    assert read(harmless) == ()
    assert read(harmless, DROP) == (Act(What.DROP),)


def test_what_is_set_elsewhere_leaves_a_register_as_it_was() -> None:
    for other in (expression("meta", u32(2, 3), u32(3, 2)), expression("ct", u32(2, 1), u32(4, 2))):
        assert read(load_header(12, 4), other, compare(packed("10.0.0.5"))) == (From(net("10.0.0.5")),)


def test_jump_and_goto() -> None:
    assert read(verdict(-3, "one")) == (Jump("one"),)
    assert read(verdict(-4, "two")) == (Jump("two"),)
