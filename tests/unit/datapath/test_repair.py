"""Steps of repair, from observations that are written down here."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from socket import AF_INET

from datapath.endpoint import Carrier, Endpoint, EniLink, Mode, SharedEni
from datapath.modes.policy_route import layout
from datapath.modes.policy_route.node import EniState, PreparedEni
from datapath.modes.policy_route.observed import Observed, carriers, is_pod_rule, owns, paired
from datapath.modes.policy_route.plan import no_pod_rule
from datapath.modes.policy_route.repair import Step, back_in_place, eni_steps, node_steps, steps
from datapath.modes.policy_route.settings import HOST_LINK
from datapath.netlink import wire
from datapath.netlink.link import Devconf, Link
from datapath.netlink.neighbour import Neighbour
from datapath.netlink.route import MAIN, Route
from datapath.netlink.rule import Rule
from datapath.netlink.wire import Kind
from datapath.pod import names

MAC = "00:16:3e:00:00:11"
ENI = EniLink(MAC, IPv4Address("10.0.0.253"))
POD = Endpoint(
    host_link="cali0",
    ifname="eth0",
    container_id="c1",
    mode=Mode.POLICY_ROUTE,
    uplink=SharedEni("eni-1", ENI),
    ipv4=IPv4Address("10.0.0.5"),
)
SINGLE = ip_network("10.0.0.5/32")
LINK = Link(
    7, "cali0", names.host_mac("c1", "eth0"), 1500, True, True, "veth", "c1", 0, 2, lower_elsewhere=True
)
ROUTE = Route(SINGLE, 7, layout.TABLE_PODS)
RULE = Rule(AF_INET, 2048, 1003, source=SINGLE)
NEIGHBOUR = Neighbour(IPv4Address("10.0.0.5"), names.pod_mac("c1", "eth0"), 7)
GOOD = Observed((LINK,), (), (ROUTE,), (), (RULE,), (NEIGHBOUR,))
ENIS = {MAC: 3}


def found(observed: Observed, *endpoints: Endpoint) -> list[Step]:
    return steps(observed, endpoints, ENIS, {})


def words(made: list[Step]) -> list[tuple[str, str]]:
    return [(one.difference.what, one.difference.found) for one in made]


def test_good_state_needs_nothing() -> None:
    assert found(GOOD, POD) == []


def test_missing_objects() -> None:
    made = found(replace(GOOD, routes=(), rules=(), neighbours=()), POD)
    assert {what.split()[0] for what, _ in words(made)} == {"route", "rule", "neighbour"}
    assert {state for _, state in words(made)} == {"absent"}
    assert {request.kind for one in made for request in one.requests} == {
        Kind.NEWROUTE,
        Kind.NEWRULE,
        Kind.NEWNEIGH,
    }


def test_route_that_leads_elsewhere_is_named() -> None:
    astray = replace(ROUTE, oif=9)
    made = found(replace(GOOD, routes=(astray,)), POD)
    assert words(made) == [("route 10.0.0.5/32 dev cali0 table 512", "10.0.0.5/32 dev 9 table 512")]


def test_host_link_gone_or_anothers_is_left_to_setup() -> None:
    gone = replace(GOOD, links=(), routes=(), neighbours=())
    assert [one.requests[0].kind for one in found(gone, POD)] == [Kind.DELRULE]
    assert found(GOOD, replace(POD, container_id="c2")) == []


def test_address_that_the_pod_does_not_have() -> None:
    other = replace(ROUTE, destination=ip_network("10.0.0.6/32"))
    (step,) = found(replace(GOOD, routes=(ROUTE, other)), POD)
    assert step.requests[0].kind == Kind.DELROUTE


def test_stale_rules_of_the_dead_go_and_of_the_living_stay() -> None:
    stale = Rule(AF_INET, 2048, 1009, source=ip_network("10.0.0.9/32"))
    assert words(found(replace(GOOD, rules=(RULE, stale)), POD)) == [
        ("rule 2048: from 10.0.0.9/32 lookup 1009", "left behind: no pod has this address")
    ]
    assert found(GOOD) == []


def test_rules_of_an_unrecorded_link_stay_whatever_is_left_of_it() -> None:
    """Its routes were flushed, or it is down: neighbours, the fast path, or the mere link speak for it."""
    assert found(replace(GOOD, routes=())) == []
    flushed = replace(GOOD, routes=(), neighbours=())
    assert steps(flushed, [], ENIS, {7: frozenset({IPv4Address("10.0.0.5")})}) == []
    assert found(flushed) == []
    renamed = replace(GOOD, links=(), neighbours=(), others=(replace(LINK, name="eth7"),))
    assert found(renamed) == []


def test_carriers() -> None:
    eni = Link(3, "eni1", MAC, 1500, True, True)
    (carrier,) = carriers(replace(GOOD, others=(eni,)), {})
    assert carrier == Carrier("cali0", LINK.mac, "c1", frozenset({IPv4Address("10.0.0.5")}), frozenset({MAC}))
    gone = replace(GOOD, links=(), others=(eni,))
    assert carriers(gone, {7: frozenset({IPv4Address("10.0.0.5")})}) == (), "a row of a link that is gone"


def test_link_left_aside_comes_back() -> None:
    aside = replace(GOOD, links=(replace(LINK, name=names.aside_name(7)),))
    assert words(list(back_in_place(aside, [POD]))) == [("link cali0", f"named {names.aside_name(7)}")]
    taken = replace(GOOD, links=(*aside.links, replace(LINK, index=8, alias="c2")))
    assert list(back_in_place(taken, [POD])) == []


def test_unknown_eni_leaves_the_rule_alone() -> None:
    assert steps(replace(GOOD, rules=()), [POD], {}, {}) == []


def test_upstreams_pod_gets_no_neighbour_that_would_be_wrong() -> None:
    theirs = replace(LINK, alias="", mac="ca:fe:00:00:00:01")
    main = Route(SINGLE, 7, MAIN)
    observed = replace(GOOD, links=(theirs,), routes=(), upstream_routes=(main,), neighbours=())
    kinds = [request.kind for one in found(observed, POD) for request in one.requests]
    assert kinds == [Kind.SETLINK, Kind.NEWROUTE, Kind.DELROUTE]


def test_down_and_wrong_mtu() -> None:
    states = dict(words(found(replace(GOOD, links=(replace(LINK, up=False, mtu=1400),)), POD)))
    assert states == {"link cali0": "down", "link cali0 mtu 1500": "mtu 1400"}


def test_what_a_pod_may_do_to_the_node_is_shut_off_again() -> None:
    assert found(replace(GOOD, links=(replace(LINK, families=settings(HOST_LINK.ipv4)),)), POD) == []
    open_again = settings({**HOST_LINK.ipv4, Devconf.RP_FILTER: 0})
    (step,) = found(replace(GOOD, links=(replace(LINK, families=open_again),)), POD)
    assert step.difference.found == "not shut off"


def settings(values: Mapping[Devconf, int]) -> bytes:
    """As the kernel tells a link's settings: all in a row."""
    row = [0] * 33
    for number, value in values.items():
        row[number - 1] = value
    return wire.nested(AF_INET, wire.attribute(1, struct.pack("=33i", *row)))


def test_node_rule_and_doomed_links() -> None:
    doomed = replace(LINK, name="doomed7")
    kept, left = no_pod_rule(AF_INET, "eni1"), no_pod_rule(AF_INET, "eni9")
    observed = replace(GOOD, doomed=(doomed,), eni_rules=(kept, left))
    assert words(node_steps(observed, {AF_INET}, ["eni1"])) == [
        ("address 169.254.1.1/32 dev lo", "absent"),
        ("rule 512: from all lookup 512", "absent"),
        ("rule 1024: from all iif eni9 unreachable", "left behind: no ENI of ours has this name"),
        ("link doomed7", "left behind: its pod is gone"),
    ]


def test_eni_table() -> None:
    prepared = PreparedEni(ENI, 3, "eni1", (IPv4Address("10.0.0.10"),))
    link = Link(3, "eni1", MAC, 1500, True, True)
    assert eni_steps(prepared, EniState(link, prepared.objects())) == []
    assert [what for what, _ in words(eni_steps(prepared, EniState(link, ())))] == [
        "address 10.0.0.10/32 dev eni1",
        "route unreachable 0.0.0.0/8 table 1003",
        "route unreachable 169.254.0.0/16 table 1003",
        "route unreachable 240.0.0.0/4 table 1003",
        "route 0.0.0.0/0 via 10.0.0.253 dev eni1 table 1003",
        "rule 1024: from all iif eni1 unreachable",
    ]
    renamed = replace(link, name="ens6")
    assert words(eni_steps(prepared, EniState(renamed, prepared.objects()))) == [
        ("rule 1024: from all iif ens6 unreachable", "absent")
    ]
    assert eni_steps(prepared, EniState(None, ())) == []
    (down,) = eni_steps(prepared, EniState(replace(link, up=False), prepared.objects()))
    assert down.difference.found == "down"


def test_owning() -> None:
    assert owns(POD, LINK)
    assert owns(POD, replace(LINK, alias=""))
    assert owns(POD, replace(LINK, alias="somebody's")), "its MAC tells"
    assert owns(POD, replace(LINK, mac="ca:fe:00:00:00:01")), "its alias tells"
    assert not owns(POD, replace(LINK, alias="c2", mac=names.host_mac("c2", "eth0")))
    assert not owns(POD, replace(LINK, alias="", mac="ca:fe:00:00:00:01"))


def test_ends_of_a_pair() -> None:
    inside = Link(2, "eth0", "", 1500, True, True, "veth", "", 0, 7, lower_elsewhere=True)
    assert paired(LINK, inside)
    assert not paired(LINK, replace(inside, index=3))
    assert not paired(LINK, replace(inside, lower_elsewhere=False))


def test_whose_rules() -> None:
    ours = [RULE, Rule(AF_INET, 512, 512), Rule(AF_INET, 512, MAIN, destination=SINGLE)]
    theirs = [
        replace(RULE, plain=False),
        replace(RULE, table=77),
        replace(RULE, priority=2049),
        replace(RULE, source=ip_network("10.0.0.0/24")),
        replace(RULE, destination=SINGLE),
        Rule(AF_INET, 512, MAIN, source=SINGLE),
        Rule(AF_INET, 512, 600),
    ]
    assert all(map(is_pod_rule, ours))
    assert not any(map(is_pod_rule, theirs))
