"""Views applied: plug, unplug, come back, and change beside running traffic. And captures of what passes."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from pyroute2 import IPRoute

from datapath import namespace
from datapath.errors import NameTaken
from lab.fabric.capture import write_pcap
from lab.fabric.errors import NoSuchPort, PlugError
from lab.fabric.fabric import Fabric
from lab.fabric.view import FabricView
from lab.spec import RuleSpec, SecurityGroupSpec
from tests.netns.fabric import frames as f
from tests.netns.fabric.net import (
    ADDRESS,
    GATEWAY,
    MAC,
    A,
    B,
    C,
    Net,
    base_view,
    grouped_view,
    port,
    quiet_namespace,
    unused,
    wait_for,
)


def devices(netns: int) -> dict[str, str]:
    """Name to MAC of what is in a namespace, but the loopback."""
    with namespace.entered(netns), IPRoute() as netlink:
        links = [(link.get("ifname"), link.get("address")) for link in netlink.get_links()]
    return {name: address for name, address in links if name != "lo"}


def without(view: FabricView, port_id: str) -> FabricView:
    return replace(view, ports=tuple(p for p in view.ports if p.port_id != port_id))


def datagram(source: str = A, destination: str = B) -> bytes:
    packet = f.ip(ADDRESS[source, 4], ADDRESS[destination, 4], f.udp(unused(), 53, b"x"))
    return f.ether_ip(GATEWAY, MAC[source], packet)


def test_a_plugged_port_is_a_device_with_its_mac_that_is_down(net: Net) -> None:
    net.reset(without(base_view(), C))
    assert devices(net.namespaces[C]) == {}
    net.fabric.apply(base_view())
    assert devices(net.namespaces[C]) == {"eth0": MAC[C]}
    with namespace.entered(net.namespaces[C]), IPRoute() as netlink:
        link = netlink.get_links(ifname="eth0")[0]
    assert (link["state"], link.get("mtu")) == ("down", 1500)
    net.open(C)
    assert net.deliver(A, C, datagram(A, C))


def test_an_unplugged_port_is_gone_and_counts_on_when_it_comes_back(net: Net) -> None:
    net.deliver(C, B, datagram(C, B))
    before = net.fabric.counters(C)["forwarded"]
    total = net.fabric.counters()["forwarded"]
    net.reset(without(base_view(), C))
    assert devices(net.namespaces[C]) == {}
    net.expect(A, datagram(A, C), "dst_addr")
    assert net.fabric.counters(C)["forwarded"] == before
    net.reset()
    net.deliver(C, B, datagram(C, B))
    assert net.fabric.counters(C)["forwarded"] == before + 1
    assert net.fabric.counters()["forwarded"] == total + 1


def test_the_next_free_name_is_taken_as_hot_plug_does(net: Net) -> None:
    view = base_view()
    bare = replace(port(C), addresses=frozenset(), device="", owner=A)
    extra = [replace(bare, port_id=f"eni-{n}", mac=f"00:16:3e:00:01:0{n}") for n in range(2)]
    net.reset()
    net.fabric.apply(replace(view, ports=(*view.ports, *extra)))
    assert devices(net.namespaces[A]).keys() == {"eth0", "eth1", "eth2"}
    assert net.fabric.device("eni-1") == "eth2"
    net.fabric.apply(replace(view, ports=(*view.ports, extra[1])))
    assert devices(net.namespaces[A]).keys() == {"eth0", "eth2"}
    net.fabric.apply(replace(view, ports=(*view.ports, *extra)))
    assert net.fabric.device("eni-0") == "eth1"
    net.fabric.apply(view)
    assert devices(net.namespaces[A]).keys() == {"eth0"}


def test_a_port_moves_to_another_owner(net: Net) -> None:
    view = base_view()
    moved = [replace(p, owner=A, device="") if p.port_id == C else p for p in view.ports]
    net.fabric.apply(replace(view, ports=tuple(moved)))
    assert devices(net.namespaces[C]) == {}
    assert devices(net.namespaces[A]) == {"eth0": MAC[A], "eth1": MAC[C]}


def test_a_view_applied_twice_changes_nothing(net: Net) -> None:
    before = {name: net.fabric_ifindex(name) for name in MAC}
    net.fabric.apply(base_view())
    assert {name: net.fabric_ifindex(name) for name in MAC} == before


def test_a_device_that_someone_removed_comes_back(net: Net) -> None:
    before = net.fabric_ifindex(C)
    with namespace.entered(net.namespaces[C]), IPRoute() as netlink:
        netlink.link("del", index=netlink.link_lookup(ifname="eth0")[0])
    net.reset()
    assert net.fabric_ifindex(C) != before
    assert net.deliver(A, C, datagram(A, C))


def test_a_name_that_is_taken_is_said_and_all_else_is_applied(net: Net) -> None:
    view = base_view()
    taken = replace(port(C), port_id="eni-x", mac="00:16:3e:00:01:01", addresses=frozenset(), owner=A)
    nowhere = replace(taken, port_id="eni-y", owner="nobody")
    moved = [replace(p, addresses=frozenset()) if p.port_id == B else p for p in view.ports]
    with pytest.raises(PlugError, match=r"eni-y.*nobody.*eni-x.*eth0") as caught:
        net.fabric.apply(replace(view, ports=(*moved, taken, nowhere)))
    assert isinstance(caught.value.__cause__, KeyError | NameTaken)
    net.expect(A, datagram(), "dst_addr")
    with pytest.raises(NoSuchPort, match="eni-x"):
        net.fabric.capture("eni-x")


def test_views_change_beside_traffic_that_does_not_notice(net: Net) -> None:
    """Packets go one by one from A to B while another port, its addresses and all rules come and go."""
    done, failures = threading.Event(), list[Exception]()
    closed = SecurityGroupSpec("closed", inner_accept=False)
    more = SecurityGroupSpec("more", tuple(RuleSpec("ingress", ports=(n, n)) for n in range(1, 50)))
    views = [
        without(base_view(), C),
        grouped_view(closed, a=["closed"]),
        grouped_view(more, closed, a=["closed"], c=["more"]),
    ]

    def change() -> None:
        try:
            for n in range(12):
                net.fabric.apply(views[n % len(views)])
        except Exception as exc:  # noqa: BLE001 the main thread reports it
            failures.append(exc)
        finally:
            done.set()

    there = f.ether_ip(GATEWAY, MAC[A], f.ip(ADDRESS[A, 4], ADDRESS[B, 4], f.udp(unused(), 53)))
    ports = there[34:36]
    answer = f.udp(53, int.from_bytes(ports, "big"))
    back = f.ether_ip(GATEWAY, MAC[B], f.ip(ADDRESS[B, 4], ADDRESS[A, 4], answer))
    net.deliver(A, B, there)
    thread = threading.Thread(target=change)
    thread.start()
    rounds = 0
    while not done.is_set() or rounds < 100:
        assert net.deliver(A, B, there)[14:] == there[14:]
        assert net.deliver(B, A, back)[14:] == back[14:]
        rounds += 1
    thread.join()
    assert failures == []


def test_a_capture_is_a_readable_pcap_of_both_directions(net: Net) -> None:
    there, back = datagram(A, B), datagram(B, A)
    file = io.BytesIO()
    with net.fabric.capture(A) as tap:
        net.deliver(A, B, there)
        net.deliver(B, A, back)
        assert write_pcap(file, tap.frames(count=2)) == 2
    raw = file.getvalue()
    magic, major, minor, _, _, _, link = struct.unpack_from("<IHHiIII", raw)
    assert (magic, major, minor, link) == (0xA1B23C4D, 2, 4, 1)
    packets = list(records(raw[24:]))
    assert [data for _, data in packets] == [there, f.ether_ip(MAC[A], GATEWAY, back[14:])]
    assert 0 < packets[0][0] < packets[1][0]


def records(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(nanoseconds, frame) of each record."""
    while raw:
        seconds, nanoseconds, length, original = struct.unpack_from("<IIII", raw)
        assert length == original
        yield seconds * 1_000_000_000 + nanoseconds, raw[16 : 16 + length]
        raw = raw[16 + length :]


def test_a_capture_shows_what_the_fabric_drops_and_keeps_its_tag(net: Net) -> None:
    tagged = f.ether(GATEWAY, MAC[A], f.VLAN, struct.pack(">HH", 100, f.IPV4) + datagram()[14:])
    with net.fabric.capture(A) as tap:
        net.expect(A, tagged, "vlan")
        assert [(frame.data, frame.to_port) for frame in tap.waiting()] == [(tagged, False)]


def test_a_capture_stops_on_an_event_and_when_the_port_goes(net: Net) -> None:
    stop = threading.Event()
    with net.fabric.capture(C) as tap:
        stop.set()
        assert list(tap.frames(stop=stop)) == []
        net.reset(without(base_view(), C))
        assert list(tap.frames()) == []


def root_state() -> str:
    """All that ``ip`` says of the machine's own namespace."""
    commands = [
        "link",
        "address",
        "route show table all",
        "-6 route show table all",
        "rule",
        "-6 rule",
        "neigh",
    ]
    said = [
        subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=True)
        for words in commands
    ]
    return "\n".join(each.stdout for each in said)


def test_the_machines_own_namespace_stays_as_it_was() -> None:
    with ExitStack() as stack:
        root = namespace.own()
        stack.callback(os.close, root)
        before = root_state()
        assert "lo" in before
        owner = quiet_namespace()
        stack.callback(os.close, owner)
        with Fabric(lambda _: owner) as fabric:
            fabric.apply(replace(base_view(), ports=(port(A),)))
            fabric.bring_up(A)
            fabric.wire(True)
            assert namespace.identity(fabric.netns) != namespace.identity(root)
            assert namespace.identity(namespace.own()) == namespace.identity(root)
        wait_for(lambda: devices(owner) == {}, "the device to go with its fabric")
        assert root_state() == before
