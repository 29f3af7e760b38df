"""Rules to obstacles, on values."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from datapath.firewall.addresses import Addresses
from datapath.firewall.judge import Obstacle, Scope, judge
from datapath.firewall.rule import (
    Act,
    Base,
    Chain,
    Family,
    From,
    Jump,
    Names,
    Rule,
    Source,
    StackOnly,
    Step,
    Table,
    Through,
    To,
    Version,
    What,
)

POD_NET = ip_network("10.0.0.0/16")
SCOPE = Scope((POD_NET,), (ip_network("172.21.0.0/20"),), frozenset({"eth1"}))
TABLE = Table(Source.NFT, Family.INET, "t")
BASE = Chain(TABLE, "base")
ACCEPTING = Base(BASE, drops=False)
DROP = Act(What.DROP)
PODS = From(Addresses.of(4, [POD_NET]))

Book = dict[str, list[tuple[Step, ...]]]


def judged(
    book: Book, *, scope: Scope = SCOPE, base: Base = ACCEPTING
) -> tuple[tuple[Obstacle, ...], list[str]]:
    """The obstacles, and the chains that were read."""
    read: list[str] = []

    def rules(chain: Chain) -> Sequence[Rule]:
        read.append(chain.name)
        return [Rule(number, steps) for number, steps in enumerate(book[chain.name], 1)]

    return judge([base], rules, scope), read


def acts(*steps: Step, scope: Scope = SCOPE) -> bool:
    return bool(judged({"base": [steps]}, scope=scope)[0])


def source(text: str) -> From:
    network = ip_network(text)
    return From(Addresses.of(network.version, [network]))


def target(text: str) -> To:
    network = ip_network(text)
    return To(Addresses.of(network.version, [network]))


def test_pods_at_either_end() -> None:
    assert acts(DROP)
    assert acts(source("10.0.1.0/24"), DROP)
    assert acts(target("10.0.1.0/24"), DROP)
    assert acts(source("192.0.2.0/24"), DROP)
    assert not acts(source("192.0.2.0/24"), target("198.51.100.0/24"), DROP)
    assert not acts(source("10.0.1.0/24"), source("10.0.2.0/24"), DROP)


def test_destinations_of_the_stack() -> None:
    assert not acts(target("172.21.3.0/24"), DROP)
    assert acts(target("172.21.0.0/16"), DROP)
    assert acts(target("172.21.3.0/24"), DROP, scope=Scope((POD_NET,)))
    for on_link in ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"):
        assert not acts(target(on_link), DROP)


def test_versions_without_pods() -> None:
    assert not acts(Version(6), DROP)
    assert not acts(source("2001:db8::/32"), DROP)
    assert acts(Version(6), DROP, scope=Scope())
    assert acts(Version(4), DROP)


@pytest.mark.parametrize(
    ("names", "inverted", "may"),
    [
        (Names("cali0123"), False, True),
        (Names("cali", prefix=True), False, True),
        (Names("ca", prefix=True), False, True),
        (Names("", prefix=True), False, True),
        (Names("calico", prefix=True), False, True),
        (Names("eth1"), False, True),
        (Names("eth", prefix=True), False, True),
        (Names("eth0"), False, False),
        (Names("eth1x"), False, False),
        (Names("docker0"), False, False),
        (Names("docker0"), True, True),
        (Names("eth1"), True, True),
        (Names("cali", prefix=True), True, True),
        (Names("", prefix=True), True, False),
    ],
)
def test_devices(names: Names, inverted: bool, may: bool) -> None:
    assert acts(Through(names, inverted), DROP) is may


def test_no_device_is_left_if_all_are_pods() -> None:
    nothing_else = Scope((POD_NET,))
    assert not acts(Through(Names("cali", prefix=True), inverted=True), DROP, scope=nothing_else)


def test_an_act_before_the_condition_is_for_all() -> None:
    assert acts(Act(What.CHANGE), StackOnly(), DROP)
    assert not acts(StackOnly(), Act(What.CHANGE))


def test_the_way_out_of_another_network() -> None:
    masquerade = Act(What.MASQUERADE)
    assert not acts(source("172.17.0.0/16"), masquerade)
    assert not acts(source("172.17.0.0/16"), To(~Addresses.of(4, [ip_network("172.17.0.0/16")])), masquerade)
    assert acts(source("172.16.0.0/12"), target("10.0.0.0/8"), masquerade)
    assert acts(source("10.0.0.0/8"), masquerade)
    assert acts(masquerade)
    assert acts(source("172.17.0.0/16"), DROP)
    assert not acts(source("172.17.0.0/16"), Act(What.SNAT))
    assert acts(source("172.17.0.0/16"), Act(What.DNAT))


def test_conditions_add_up_along_jumps() -> None:
    elsewhere = (source("192.0.2.0/24"), target("198.51.100.0/24"))
    book: Book = {"base": [(elsewhere[0], Jump("next"))], "next": [(elsewhere[1], DROP)]}
    assert judged(book) == ((), ["base", "next"])
    book["base"].append((Jump("next"),))
    assert [one.where for one in judged(book)[0]] == ["nft table inet t chain next"]


def test_chains_that_no_pod_gets_to_are_not_read() -> None:
    book: Book = {
        "base": [(StackOnly(), Jump("x")), (Through(Names("docker0")), Jump("y")), (Jump("KUBE-SERVICES"),)]
    }
    assert judged(book) == ((), ["base"])


def test_a_chain_jumped_to_in_many_ways_is_read_a_few_times() -> None:
    jumps: list[tuple[Step, ...]] = [(source(f"10.0.{number}.0/24"), Jump("next")) for number in range(200)]
    found, read = judged({"base": jumps, "next": [(target("10.0.0.0/16"), DROP)]})
    assert [one.what for one in found] == [What.DROP]
    assert len(read) < 12
    last_matters: list[tuple[Step, ...]] = [*jumps, (Jump("next"),)]
    other, _ = judged({"base": last_matters, "next": [(source("192.0.2.0/24"), DROP)]})
    assert [one.what for one in other] == [What.DROP], "however many came before"


def test_chains_in_a_circle_end() -> None:
    """The kernel has none, but two lists that were read at different times may look so."""
    found, _ = judged({"base": [(Jump("one"),)], "one": [(Jump("base"),), (DROP,)]})
    assert [one.what for one in found] == [What.DROP]


def test_one_line_per_kind_of_act() -> None:
    book: Book = {"base": [(DROP,), (PODS, DROP), (Act(What.REJECT),), (Jump("x"),)], "x": [(DROP,)]}
    (drop, reject), _ = judged(book)
    assert (drop.what, drop.rule, drop.more) == (What.DROP, 1, 2)
    assert (reject.what, reject.rule, reject.more) == (What.REJECT, 3, 0)
    assert str(drop) == (
        "nft table inet t chain base: drop (rule 1 and 2 more); see: nft -a list chain inet t base"
    )


def test_policies() -> None:
    found, _ = judged({"base": []}, base=Base(BASE, drops=True))
    assert [str(one) for one in found] == [
        "nft table inet t chain base: policy drop; see: nft -a list chain inet t base"
    ]
    on_docker = Base(BASE, drops=True, devices=(Names("docker0"),))
    assert judged({"base": [(DROP,)]}, base=on_docker)[0] == ()
    on_nothing = Base(BASE, drops=True, devices=())
    assert judged({"base": [(DROP,)]}, base=on_nothing)[0] == ()
    on_pods = Base(BASE, drops=True, devices=(Names("docker0"), Names("cali12")))
    assert len(judged({"base": []}, base=on_pods)[0]) == 1


def test_tables_of_kube_proxy_are_not_even_read() -> None:
    for name in ("kube-proxy", "cni_hostport"):
        base = Base(Chain(Table(Source.NFT, Family.IP, name), "base"), drops=True)
        assert judged({"base": [(DROP,)]}, base=base) == ((), [])


@pytest.mark.parametrize(
    "name", ["KUBE-ROUTER-FORWARD", "KUBE-POD-FW-A", "KUBE-NWPLCY-A", "cali-FORWARD", "CNI-A"]
)
def test_chains_of_network_policy_are_read(name: str) -> None:
    assert judged({"base": [(Jump(name),)], name: [(DROP,)]})[1] == ["base", name]


@pytest.mark.parametrize(
    "name",
    [
        "KUBE-FORWARD",
        "KUBE-SVC-A",
        "KUBE-SEP-A",
        "KUBE-FW-A",
        "KUBE-MARK-MASQ",
        "CNI-HOSTPORT-DNAT",
        "CNI-DN-a",
    ],
)
def test_chains_of_services_are_not(name: str) -> None:
    assert judged({"base": [(Jump(name),)], name: [(DROP,)]}) == ((), ["base"])
