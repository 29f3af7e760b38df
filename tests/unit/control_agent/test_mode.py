"""What the mode says of fallbacks and of who checks what pods send."""

from __future__ import annotations

from pathlib import Path

from control.agent.dataplane.fastpath import State, Status, Why
from control.agent.mode import fallbacks, locks_of, shared_sizes, unchecked
from control.agent.node_config import NodeConfig
from control.config import cni_conf, eni_conf, settings
from control.config.credentials import Credentials
from control.ipam.sizing import PoolSizes
from control.model.cloud import InstanceLimits
from control.model.modes import NetworkMode

POLICY_ROUTE = NetworkMode.POLICY_ROUTE
LIMITS = InstanceLimits("ecs.g7.large", 3, 6, 6, 3, trunk_supported=False)
ON = Status(State.ON, asked=True)
NO_EBPF = Status(State.UNAVAILABLE, True, (Why.UNAVAILABLE,), ("no eBPF",))
NO_FIB = "nf_tables refused the table inet terway: add rule: No such file or directory"


def config(ip_stack: str) -> NodeConfig:
    return NodeConfig(
        settings=settings.parse([], {"NODE_NAME": "node1"}),
        eni=eni_conf.parse(f'{{"version": "1", "ip_stack": "{ip_stack}"}}'.encode()),
        cni=cni_conf.parse(Path("10-terway.conf"), b'{"name": "terway", "type": "terway"}'),
        credentials=Credentials("", ""),
    )


def test_dual_stack_on_a_kernel_without_ipv6_is_refused_by_a_clear_sentence() -> None:
    asked = config("dual")
    sizes = asked.sizes(LIMITS, ipv6=False)
    assert not sizes.dual
    (sentence,) = fallbacks(asked, LIMITS, sizes, ipv6=False)
    assert "kernel has no IPv6" in sentence
    assert sentence.endswith("IPv4 only")
    assert asked.sizes(LIMITS).dual
    assert fallbacks(asked, LIMITS, asked.sizes(LIMITS)) == []
    plain = config("ipv4")
    assert fallbacks(plain, LIMITS, plain.sizes(LIMITS, ipv6=False), ipv6=False) == []


def test_everything_is_checked_twice_where_everything_is_there() -> None:
    assert locks_of(POLICY_ROUTE, "", ON).table()["source_ipv6"] == ["eBPF", "nftables"]
    assert locks_of(POLICY_ROUTE, "", NO_EBPF).table()["source_ipv6"] == ["nftables"]
    assert unchecked(locks_of(POLICY_ROUTE, "", ON)) == unchecked(locks_of(POLICY_ROUTE, "", NO_EBPF)) == []


def test_what_nobody_checks_is_said_with_the_reason() -> None:
    assert locks_of(POLICY_ROUTE, NO_FIB, NO_EBPF).table()["source_ipv4"] == ["rp_filter"]
    (sentence,) = unchecked(locks_of(POLICY_ROUTE, NO_FIB, NO_EBPF))
    assert "source_ipv6" in sentence
    assert sentence.endswith(NO_FIB)
    assert "neighbour_nd" in sentence
    assert unchecked(locks_of(POLICY_ROUTE, NO_FIB, ON)) == []


def test_of_a_pod_with_an_eni_of_its_own_the_vpc_checks_what_it_sends() -> None:
    table = locks_of(NetworkMode.MACVLAN, NO_FIB, NO_EBPF).table()
    assert table["source_ipv4"] == table["source_ipv6"] == ["VPC"]
    (sentence,) = unchecked(locks_of(NetworkMode.MACVLAN, "", ON))
    assert "tunnel_to_the_node" in sentence


def test_where_each_pod_has_an_eni_of_its_own_no_shared_one_is_held_idle() -> None:
    sizes = PoolSizes(max_enis=2, per_eni=6, min_pool=1, max_pool=5)
    assert shared_sizes(POLICY_ROUTE, sizes) == sizes
    own = shared_sizes(NetworkMode.MACVLAN, sizes)
    assert (own.min_pool, own.max_pool) == (0, 0)
    assert (own.max_enis, own.per_eni) == (sizes.max_enis, sizes.per_eni)
