"""Bytes on the netlink wire, against the layouts of linux/netlink.h."""

from __future__ import annotations

import errno
import struct
from ipaddress import ip_address

import pytest

from datapath.netlink import wire
from datapath.netlink.wire import Kind, Message, Request


def test_attribute_is_padded_and_says_its_true_length() -> None:
    assert wire.attribute(3, b"abcde") == b"\x09\0\x03\0abcde\0\0\0"
    assert wire.attribute_text(3, "eth0") == b"\x09\0\x03\0eth0\0\0\0\0"
    assert wire.attribute_u32(4, 1500) == struct.pack("=HHI", 8, 4, 1500)


def test_nested_attributes_are_read_back() -> None:
    data = wire.nested(18, wire.attribute_text(1, "veth"), wire.attribute_u32(7, 9))
    outer = wire.attributes(data)
    assert outer.keys() == {18}
    inner = wire.attributes(outer[18])
    assert (wire.text(inner[1]), wire.u32(inner[7])) == ("veth", 9)


def test_attributes_stop_at_rubbish() -> None:
    assert wire.attributes(wire.attribute_u32(1, 2) + b"\x02\0\x01\0") == {1: struct.pack("=I", 2)}
    assert wire.attributes(b"") == {}


def test_batch_asks_only_for_the_last_acknowledgement() -> None:
    requests = tuple(Request(Kind.NEWROUTE, wire.CREATE, b"abc", "add", n) for n in range(3))
    found = list(wire.messages(wire.encode(requests, 7)))
    assert [one.sequence for one in found] == [7, 8, 9]
    assert [one.body for one in found] == [b"abc"] * 3
    assert [bool(one.flags & wire.ACK) for one in found] == [False, False, True]
    assert all(one.flags & wire.CREATE and one.flags & wire.REQUEST for one in found)


def test_truncated_message_is_left_out() -> None:
    data = wire.encode((Request(Kind.NEWLINK, 0, b"12345678", "add", ""),), 1)
    assert list(wire.messages(data[:-1])) == []
    assert len(list(wire.messages(data + data[:10]))) == 1


def extended(error: int, flags: int, original: bytes, words: str) -> Message:
    body = struct.pack("=i", -error) + wire.HEADER.pack(16 + len(original), Kind.NEWROUTE, 0, 1, 0) + original
    return Message(wire.NLMSG_ERROR, flags, 1, body + wire.attribute_text(wire.NLMSGERR_ATTR_MSG, words))


@pytest.mark.parametrize("flags", [wire.NLM_F_ACK_TLVS, wire.NLM_F_ACK_TLVS | wire.NLM_F_CAPPED])
def test_extended_acknowledgement_with_and_without_the_request(flags: int) -> None:
    original = b"" if flags & wire.NLM_F_CAPPED else b"12345678"
    assert extended(errno.EINVAL, flags, original, "no such thing").error() == (errno.EINVAL, "no such thing")


def test_plain_error_and_acknowledgement() -> None:
    assert extended(errno.EPERM, 0, b"", "unseen").error() == (errno.EPERM, "")
    assert extended(0, wire.NLM_F_ACK_TLVS, b"", "a warning").error() == (0, "")


def test_addresses_and_macs() -> None:
    for text in ("10.0.0.1", "2001:db8::1"):
        assert wire.address(ip_address(text).packed) == ip_address(text)
    assert wire.mac_text(wire.mac_bytes("02:00:00:00:00:0a")) == "02:00:00:00:00:0a"
    assert str(wire.host_network(ip_address("10.0.0.1"))) == "10.0.0.1/32"
    assert str(wire.host_network(ip_address("2001:db8::1"))) == "2001:db8::1/128"
