"""What every Cloud does: its answers, its errors from state, and what repeating a call does."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from control.aliyun.actions import Action
from control.model.cloud import Eni, EniStatus, EniType
from control.model.errors import Cause, CloudError
from control.model.ids import ClientToken, EniId, InstanceId, SecurityGroupId, VSwitchId
from tests.contract.cloud.bench import (
    GROUP,
    LIMITS,
    NODE,
    NODES,
    PODS,
    Bench,
    creation,
    on_a_loop,
)


async def attached(bench: Bench, *, ipv4: int = 1, ipv6: int = 0) -> Eni:
    eni = await bench.cloud.create_eni(creation(ipv4=ipv4, ipv6=ipv6))
    await bench.cloud.attach_eni(eni.eni_id, NODE.instance_id)
    return await described(bench, eni.eni_id)


async def described(bench: Bench, eni_id: EniId) -> Eni:
    (eni,) = await bench.cloud.enis([eni_id])
    return eni


async def possibly_lost(call: Awaitable[object]) -> None:
    """An adapter may repeat a call by itself, or leave it to the caller as a temporary failure."""
    try:
        await call
    except CloudError as exc:
        if not exc.temporary:
            raise


@on_a_loop
async def test_limits_of_an_instance_type(bench: Bench) -> None:
    assert await bench.cloud.instance_limits(NODE.instance_type) == LIMITS


@on_a_loop
async def test_an_unknown_instance_type_is_named(bench: Bench) -> None:
    with pytest.raises(CloudError, match=r"ecs\.none\.small") as raised:
        await bench.cloud.instance_limits("ecs.none.small")
    assert raised.value.cause is Cause.UNSUPPORTED


@on_a_loop
async def test_vswitches_with_their_free_addresses(bench: Bench) -> None:
    (before,) = await bench.cloud.vswitches([PODS])
    await bench.cloud.create_eni(creation(ipv4=3))
    after, nodes = await bench.cloud.vswitches([PODS, NODES])
    assert before.cidr == IPv4Network("10.0.16.0/20")
    assert before.cidr_v6 == IPv6Network("2001:db8:10:1::/64")
    assert before.zone == NODE.zone
    assert after.available == before.available - 3
    assert nodes.vswitch_id == NODES


@on_a_loop
async def test_an_unknown_vswitch_is_left_out(bench: Bench) -> None:
    assert await bench.cloud.vswitches([VSwitchId("vsw-none")]) == ()


@on_a_loop
async def test_a_new_eni_shows_what_was_asked_for(bench: Bench) -> None:
    eni = await bench.cloud.create_eni(creation(ipv4=3, ipv6=2))
    assert len(eni.ipv4) == 3
    assert eni.primary_ip == eni.ipv4[0]
    assert all(address in IPv4Network("10.0.16.0/20") for address in eni.ipv4)
    assert len(eni.ipv6) == 2
    assert eni.vswitch_id == PODS
    assert eni.security_groups == (GROUP,)
    assert ("creator", "terway") in eni.tags
    assert eni.instance_id is None
    assert (await described(bench, eni.eni_id)).ipv4 == eni.ipv4


@on_a_loop
async def test_creating_with_the_same_token_gives_the_same_eni(bench: Bench) -> None:
    first = await bench.cloud.create_eni(creation(ipv4=2))
    again = await bench.cloud.create_eni(creation(ipv4=2))
    other = await bench.cloud.create_eni(creation(ipv4=2, token="token-2"))
    assert again.eni_id == first.eni_id
    assert again.ipv4 == first.ipv4
    assert other.eni_id != first.eni_id


@on_a_loop
async def test_a_token_used_for_something_else_is_refused(bench: Bench) -> None:
    await bench.cloud.create_eni(creation(ipv4=2))
    with pytest.raises(CloudError) as raised:
        await bench.cloud.create_eni(creation(ipv4=3))
    assert raised.value.cause is Cause.IDEMPOTENCY
    assert not raised.value.temporary


@on_a_loop
async def test_a_creation_whose_answer_was_lost_happens_once(bench: Bench) -> None:
    (before,) = await bench.cloud.vswitches([PODS])
    bench.lose_answer(Action.CREATE_ENI)
    await possibly_lost(bench.cloud.create_eni(creation(ipv4=2)))
    await bench.cloud.create_eni(creation(ipv4=2))
    (after,) = await bench.cloud.vswitches([PODS])
    assert after.available == before.available - 2


@on_a_loop
async def test_an_assignment_whose_answer_was_lost_happens_once(bench: Bench) -> None:
    eni = await attached(bench)
    bench.lose_answer(Action.ASSIGN_IPV4)
    await possibly_lost(bench.cloud.assign_ipv4(eni.eni_id, 2, ClientToken("assign")))
    given = await bench.cloud.assign_ipv4(eni.eni_id, 2, ClientToken("assign"))
    assert (await described(bench, eni.eni_id)).ipv4 == (*eni.ipv4, *given)


@on_a_loop
async def test_attached_enis_are_the_instances(bench: Bench) -> None:
    eni = await attached(bench)
    assert eni.status is EniStatus.IN_USE
    assert eni.instance_id == NODE.instance_id
    found = {each.eni_id: each for each in await bench.cloud.enis_of_instance(NODE.instance_id)}
    assert eni.eni_id in found
    assert [each.mac for each in found.values() if each.eni_type is EniType.PRIMARY] == [NODE.mac]
    assert found[eni.eni_id].eni_type is EniType.SECONDARY


@on_a_loop
async def test_attaching_takes_its_time(bench: Bench) -> None:
    bench.lag(attach=20, metadata=0)
    eni = await attached(bench)
    assert eni.status is EniStatus.ATTACHING
    bench.advance(21)
    assert (await described(bench, eni.eni_id)).status is EniStatus.IN_USE


@on_a_loop
async def test_attaching_twice_is_attaching_once(bench: Bench) -> None:
    eni = await attached(bench)
    await bench.cloud.attach_eni(eni.eni_id, NODE.instance_id)
    assert await described(bench, eni.eni_id) == eni


@on_a_loop
async def test_no_more_enis_than_the_instance_type_has(bench: Bench) -> None:
    for number in range(LIMITS.eni_quantity - 1):
        eni = await bench.cloud.create_eni(creation(token=f"token-{number}"))
        await bench.cloud.attach_eni(eni.eni_id, NODE.instance_id)
    more = await bench.cloud.create_eni(creation(token="one-more"))
    with pytest.raises(CloudError, match=r"QuotaExceeded\.Eni") as raised:
        await bench.cloud.attach_eni(more.eni_id, NODE.instance_id)
    assert raised.value.cause is Cause.ENI_QUOTA
    assert NODE.instance_id in str(raised.value)


@on_a_loop
async def test_attaching_to_no_instance(bench: Bench) -> None:
    eni = await bench.cloud.create_eni(creation())
    with pytest.raises(CloudError, match="i-none") as raised:
        await bench.cloud.attach_eni(eni.eni_id, InstanceId("i-none"))
    assert raised.value.cause is Cause.INSTANCE_GONE


@on_a_loop
async def test_attaching_no_eni(bench: Bench) -> None:
    with pytest.raises(CloudError, match="eni-none") as raised:
        await bench.cloud.attach_eni(EniId("eni-none"), NODE.instance_id)
    assert raised.value.cause is Cause.ENI_GONE


@on_a_loop
async def test_the_end_of_an_eni_can_be_asked_for_twice(bench: Bench) -> None:
    eni = await attached(bench)
    for _ in range(2):
        await bench.cloud.detach_eni(eni.eni_id, NODE.instance_id)
    assert (await described(bench, eni.eni_id)).status is EniStatus.AVAILABLE
    for _ in range(2):
        await bench.cloud.delete_eni(eni.eni_id)
    assert await bench.cloud.enis([eni.eni_id]) == ()
    await bench.cloud.detach_eni(eni.eni_id, NODE.instance_id)


@on_a_loop
async def test_detaching_what_is_being_detached(bench: Bench) -> None:
    eni = await attached(bench)
    bench.lag(attach=20, metadata=0)
    for _ in range(2):
        await bench.cloud.detach_eni(eni.eni_id, NODE.instance_id)
    assert (await described(bench, eni.eni_id)).status is EniStatus.DETACHING


@on_a_loop
async def test_deleting_an_eni_in_use_is_refused(bench: Bench) -> None:
    eni = await attached(bench)
    with pytest.raises(CloudError, match=eni.eni_id) as raised:
        await bench.cloud.delete_eni(eni.eni_id)
    assert raised.value.cause is Cause.ENI_STATE
    assert raised.value.code == "InvalidOperation.InvalidEniState"


@on_a_loop
async def test_enis_are_found_by_all_of_their_tags(bench: Bench) -> None:
    """Attached or not: one that nobody attaches is on no instance's list."""
    tags = (("creator", "terway"), ("node", "i-1"))
    mine = await bench.cloud.create_eni(replace(creation(), tags=tags))
    others = replace(creation(), tags=(("creator", "terway"), ("node", "i-2")), token=ClientToken("others"))
    await bench.cloud.create_eni(others)
    for wanted, found in (
        (tags, {mine.eni_id}),
        ((("node", "i-3"),), set()),
        ((*tags, ("more", "x")), set()),
    ):
        assert {e.eni_id for e in await bench.cloud.enis_tagged(wanted)} == found
    await bench.cloud.attach_eni(mine.eni_id, NODE.instance_id)
    (eni,) = await bench.cloud.enis_tagged(tags)
    assert eni.instance_id == NODE.instance_id


@on_a_loop
async def test_unknown_enis_are_left_out(bench: Bench) -> None:
    eni = await bench.cloud.create_eni(creation())
    found = await bench.cloud.enis([EniId("eni-none"), eni.eni_id])
    assert [each.eni_id for each in found] == [eni.eni_id]


@on_a_loop
async def test_addresses_come_and_go(bench: Bench) -> None:
    eni = await attached(bench)
    v4 = await bench.cloud.assign_ipv4(eni.eni_id, 3, ClientToken("v4"))
    v6 = await bench.cloud.assign_ipv6(eni.eni_id, 2, ClientToken("v6"))
    full = await described(bench, eni.eni_id)
    assert full.ipv4 == (*eni.ipv4, *v4)
    assert full.ipv6 == v6
    await bench.cloud.unassign_ipv4(eni.eni_id, v4[:2])
    await bench.cloud.unassign_ipv6(eni.eni_id, v6)
    left = await described(bench, eni.eni_id)
    assert left.ipv4 == (*eni.ipv4, v4[2])
    assert left.ipv6 == ()


@on_a_loop
async def test_unassigning_goes_on_past_what_is_gone(bench: Bench) -> None:
    eni = await attached(bench, ipv4=12)
    gone, rest = eni.ipv4[1:2], eni.ipv4[1:]
    await bench.cloud.unassign_ipv4(eni.eni_id, gone)
    await bench.cloud.unassign_ipv4(eni.eni_id, [IPv4Address("10.0.20.1"), *rest])
    assert (await described(bench, eni.eni_id)).ipv4 == (eni.primary_ip,)


@on_a_loop
async def test_unassigning_of_an_eni_that_is_gone(bench: Bench) -> None:
    await bench.cloud.unassign_ipv4(EniId("eni-none"), [IPv4Address("10.0.20.1")])
    await bench.cloud.unassign_ipv6(EniId("eni-none"), [IPv6Address("2001:db8:10:1::1")])


@on_a_loop
async def test_no_more_addresses_than_the_instance_type_has(bench: Bench) -> None:
    eni = await attached(bench, ipv4=10)
    assert LIMITS.ipv4_per_eni < 20
    with pytest.raises(CloudError, match=eni.eni_id) as raised:
        await bench.cloud.assign_ipv4(eni.eni_id, 10, ClientToken("too-many"))
    assert raised.value.cause is Cause.IP_QUOTA
    assert (await described(bench, eni.eni_id)).ipv4 == eni.ipv4


@on_a_loop
async def test_a_full_vswitch(bench: Bench) -> None:
    eni = await attached(bench)
    bench.fill(PODS, leaving=0)
    (vswitch,) = await bench.cloud.vswitches([PODS])
    assert vswitch.available == 0
    for call in (
        bench.cloud.assign_ipv4(eni.eni_id, 1, ClientToken("full")),
        bench.cloud.create_eni(creation(token="full")),
    ):
        with pytest.raises(CloudError, match="No available IP addresses") as raised:
            await call
        assert raised.value.cause is Cause.VSWITCH_FULL
        assert not raised.value.temporary


@on_a_loop
async def test_the_accounts_eni_quota(bench: Bench) -> None:
    bench.set_eni_quota(0)
    with pytest.raises(CloudError, match=r"QuotaExceeded\.Eni.*Quota Center") as raised:
        await bench.cloud.create_eni(creation())
    assert raised.value.cause is Cause.ENI_QUOTA


@on_a_loop
async def test_an_unknown_group_is_named(bench: Bench) -> None:
    wrong = replace(creation(), security_groups=(SecurityGroupId("sg-none"),))
    with pytest.raises(CloudError, match=r"sg-none.*security_groups") as raised:
        await bench.cloud.create_eni(wrong)
    assert raised.value.cause is Cause.INVALID_SECURITY_GROUP


@on_a_loop
async def test_an_unknown_vswitch_is_named(bench: Bench) -> None:
    with pytest.raises(CloudError, match=r"vsw-none.*vswitches") as raised:
        await bench.cloud.create_eni(replace(creation(), vswitch_id=VSwitchId("vsw-none")))
    assert raised.value.cause is Cause.INVALID_VSWITCH


@on_a_loop
async def test_being_throttled_says_when_to_come_back(bench: Bench) -> None:
    bench.refuse(Action.CREATE_ENI, "Throttling.User")
    # Were the next minute near, a call would wait for it.
    bench.begin_a_minute()
    with pytest.raises(CloudError) as raised:
        await bench.cloud.create_eni(creation())
    assert raised.value.cause is Cause.THROTTLED
    assert raised.value.temporary
    assert raised.value.retry_after is not None
    assert 0 < raised.value.retry_after <= 60
    bench.advance(raised.value.retry_after + 2)
    assert (await bench.cloud.create_eni(creation())).vswitch_id == PODS


@on_a_loop
async def test_calls_are_counted_out(bench: Bench) -> None:
    """A first pod costs three calls and ten more cost one, as far as it is this port's."""
    eni = await attached(bench, ipv4=2)
    assert bench.calls() == 3
    await bench.cloud.assign_ipv4(eni.eni_id, 10, ClientToken("ten"))
    assert bench.calls() == 4
