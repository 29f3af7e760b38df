"""The OpenAPI adapter alone: credentials, repetition, time-outs and what it observes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from control.aliyun.actions import Action
from control.aliyun.credentials import AccessKey, InstanceRole
from control.model.errors import Cause, CloudError
from control.model.ids import ClientToken
from lab.cloud.faults import Drop, Fault, MetadataFault
from tests.contract.cloud.bench import NODE, PODS, LabBench, creation, on_a_loop


@pytest.fixture
def bench() -> Iterator[LabBench]:
    made = LabBench()
    yield made
    made.stop()


def attempts(bench: LabBench) -> list[tuple[str, str]]:
    return [(api, error) for api, error, _seconds in bench.observed]


@on_a_loop
async def test_role_credentials_work_and_are_cached(bench: LabBench) -> None:
    cloud = bench.new_cloud(credentials=InstanceRole(bench.http.text, bench.clock))
    for _ in range(3):
        await cloud.vswitches([PODS])
    reads = bench.state.metadata_calls()
    assert reads["meta-data/ram/security-credentials/KubernetesWorkerRole"] == 1
    assert {call.caller.split("@")[0] for call in bench.state.recent_calls()} == {"KubernetesWorkerRole"}


@on_a_loop
async def test_role_credentials_are_renewed_before_they_expire(bench: LabBench) -> None:
    bench.state.credentials.lifetime = 3600
    cloud = bench.new_cloud(credentials=InstanceRole(bench.http.text, bench.clock))
    await cloud.vswitches([PODS])
    bench.advance(3600 - 120)
    await cloud.vswitches([PODS])
    assert attempts(bench) == [(Action.DESCRIBE_VSWITCHES, "")] * 2
    assert bench.state.metadata_calls()["meta-data/ram/security-credentials/KubernetesWorkerRole"] == 2


@on_a_loop
async def test_an_expired_token_is_replaced_and_the_call_repeated(bench: LabBench) -> None:
    bench.state.credentials.lifetime = 3600
    cloud = bench.new_cloud(credentials=InstanceRole(bench.http.text, bench.clock))
    await cloud.vswitches([PODS])
    bench.refuse(Action.DESCRIBE_VSWITCHES, "InvalidSecurityToken.Expired")
    assert len(await cloud.vswitches([PODS])) == 1
    assert [error for _, error in attempts(bench)] == ["", "InvalidSecurityToken.Expired", ""]


@on_a_loop
async def test_a_token_that_stays_expired_is_an_error(bench: LabBench) -> None:
    cloud = bench.new_cloud(credentials=InstanceRole(bench.http.text, bench.clock))
    bench.state.faults.add(Fault(code="InvalidSecurityToken.Expired"))
    with pytest.raises(CloudError, match="RAM role") as raised:
        await cloud.vswitches([PODS])
    assert raised.value.cause is Cause.CREDENTIALS_EXPIRED
    assert len(attempts(bench)) == 2


@on_a_loop
async def test_an_instance_without_a_role(bench: LabBench) -> None:
    bench.state.metadata_faults.add(MetadataFault("meta-data/ram", status=404))
    cloud = bench.new_cloud(credentials=InstanceRole(bench.http.text, bench.clock))
    with pytest.raises(CloudError, match=r"bind a RAM role.*access_key") as raised:
        await cloud.vswitches([PODS])
    assert raised.value.cause is Cause.CREDENTIALS
    assert bench.calls() == 0


@on_a_loop
async def test_a_wrong_secret(bench: LabBench) -> None:
    cloud = bench.new_cloud(credentials=AccessKey(bench.spec.access_key, "wrong"))
    with pytest.raises(CloudError, match="`access_secret` does not belong") as raised:
        await cloud.vswitches([PODS])
    assert raised.value.cause is Cause.CREDENTIALS
    assert raised.value.code == "SignatureDoesNotMatch"
    assert raised.value.request_id
    assert "wrong" not in str(raised.value)


@on_a_loop
async def test_an_unknown_key(bench: LabBench) -> None:
    cloud = bench.new_cloud(credentials=AccessKey("LTAIunknown", "x"))
    with pytest.raises(CloudError, match="check `access_key`") as raised:
        await cloud.vswitches([PODS])
    assert raised.value.cause is Cause.CREDENTIALS


@on_a_loop
async def test_what_ram_forbids_is_named(bench: LabBench) -> None:
    bench.state.credentials.deny(Action.CREATE_ENI)
    with pytest.raises(CloudError, match="grant CreateNetworkInterface") as raised:
        await bench.cloud.create_eni(creation())
    assert raised.value.cause is Cause.FORBIDDEN
    assert bench.calls() == 1


@pytest.mark.parametrize(
    "code", ["InternalError", "ServiceUnavailable", "Operation.Conflict", "UnknownError"]
)
def test_what_may_pass_is_repeated(bench: LabBench, code: str) -> None:
    @on_a_loop
    async def scenario(bench: LabBench) -> None:
        bench.refuse(Action.CREATE_ENI, code)
        eni = await bench.cloud.create_eni(creation())
        assert [error for _, error in attempts(bench)] == [code, ""]
        assert len(await bench.cloud.enis([eni.eni_id])) == 1

    scenario(bench)


@on_a_loop
async def test_a_broken_connection_is_tried_again(bench: LabBench) -> None:
    bench.state.faults.add(Fault(Action.CREATE_ENI, drop=Drop.BEFORE, count=2))
    await bench.cloud.create_eni(creation(ipv4=2))
    assert [error for _, error in attempts(bench)] == [Cause.UNREACHABLE, Cause.UNREACHABLE, ""]
    (vswitch,) = await bench.cloud.vswitches([PODS])
    assert vswitch.available == 4092 - 2


@on_a_loop
async def test_a_lost_attach_is_repeated(bench: LabBench) -> None:
    eni = await bench.cloud.create_eni(creation())
    bench.lose_answer(Action.ATTACH_ENI)
    await bench.cloud.attach_eni(eni.eni_id, NODE.instance_id)
    assert attempts(bench)[1:] == [(Action.ATTACH_ENI, Cause.UNREACHABLE), (Action.ATTACH_ENI, "")]


@on_a_loop
async def test_a_repeated_attach_that_is_refused_finds_itself_done(bench: LabBench) -> None:
    eni = await bench.cloud.create_eni(creation())
    await bench.cloud.attach_eni(eni.eni_id, NODE.instance_id)
    bench.refuse(Action.ATTACH_ENI, "InvalidOperation.InvalidEniState")
    await bench.cloud.attach_eni(eni.eni_id, NODE.instance_id)
    assert attempts(bench)[2:] == [
        (Action.ATTACH_ENI, "InvalidOperation.InvalidEniState"),
        (Action.DESCRIBE_ENIS, ""),
    ]


@on_a_loop
async def test_patience_ends(bench: LabBench) -> None:
    cloud = bench.new_cloud(settings=replace(bench.settings, patience=0.5))
    bench.state.faults.add(Fault(code="InternalError", status=500))
    with pytest.raises(CloudError) as raised:
        await cloud.create_eni(creation())
    assert raised.value.cause is Cause.INTERNAL
    assert 1 <= len(attempts(bench)) <= 3


@on_a_loop
async def test_an_unknown_code_goes_by_its_status(bench: LabBench) -> None:
    bench.state.faults.add(Fault(code="Something.New", status=400, count=1))
    with pytest.raises(CloudError, match=r"Something\.New") as raised:
        await bench.cloud.create_eni(creation())
    assert raised.value.cause is Cause.REQUEST


@on_a_loop
async def test_throttled_by_the_minute(bench: LabBench) -> None:
    bench.begin_a_minute()
    bench.state.throttle.limits[Action.DESCRIBE_VSWITCHES] = 2
    for _ in range(2):
        await bench.cloud.vswitches([PODS])
    with pytest.raises(CloudError) as raised:
        await bench.cloud.vswitches([PODS])
    assert raised.value.cause is Cause.THROTTLED
    assert raised.value.retry_after is not None
    assert 30 < raised.value.retry_after <= 60
    asked = bench.calls()
    with pytest.raises(CloudError, match="Throttling"):
        await bench.cloud.vswitches([PODS])
    assert bench.calls() == asked, "the rest of the minute costs no calls"
    await bench.cloud.create_eni(creation())
    bench.advance(raised.value.retry_after + 2)
    assert len(await bench.cloud.vswitches([PODS])) == 1


@on_a_loop
async def test_a_told_time_is_kept(bench: LabBench) -> None:
    began = time.monotonic()
    bench.begin_a_minute()
    bench.advance(20)
    bench.state.throttle.limits[Action.DESCRIBE_VSWITCHES] = 0
    bench.state.throttle.announce_retry = True
    with pytest.raises(CloudError) as raised:
        await bench.cloud.vswitches([PODS])
    # The lab's clock goes on beside ours.
    late = time.monotonic() - began
    assert raised.value.retry_after is not None
    assert 39 - late <= raised.value.retry_after <= 41


@on_a_loop
async def test_its_own_limit_holds_calls_back(bench: LabBench) -> None:
    cloud = bench.new_cloud(settings=replace(bench.settings, rate_limit={Action.DESCRIBE_VSWITCHES: 1}))
    await cloud.vswitches([PODS])
    second = asyncio.create_task(cloud.vswitches([PODS]))
    done, _ = await asyncio.wait([second], timeout=0.2)
    assert not done
    assert bench.calls() == 1
    bench.advance(61)
    assert len(await second) == 1


@on_a_loop
async def test_nothing_listens(bench: LabBench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        cloud = bench.new_cloud(settings=replace(bench.settings, ecs_endpoint=endpoint, patience=0.3))
        with pytest.raises(CloudError, match="nothing listens at the OpenAPI endpoint") as raised:
            await cloud.create_eni(creation())
    assert raised.value.cause is Cause.UNREACHABLE
    assert raised.value.temporary


@on_a_loop
async def test_no_answer_within_the_time_out(bench: LabBench) -> None:
    cloud = bench.new_cloud(settings=replace(bench.settings, read_timeout=0.2, patience=0.1))
    bench.state.faults.add(Fault(latency=30))
    with pytest.raises(CloudError, match="no answer in time") as raised:
        await cloud.create_eni(creation())
    assert raised.value.cause is Cause.TIMEOUT


@on_a_loop
async def test_a_name_that_does_not_resolve(bench: LabBench) -> None:
    cloud = bench.new_cloud(settings=replace(bench.settings, ecs_endpoint="ecs.invalid", patience=0.1))
    with pytest.raises(CloudError, match="resolver") as raised:
        await cloud.create_eni(creation())
    assert raised.value.cause is Cause.UNREACHABLE


@on_a_loop
async def test_tls_with_somebody_who_speaks_none(bench: LabBench) -> None:
    cloud = bench.new_cloud(settings=replace(bench.settings, scheme="https", patience=0.1))
    with pytest.raises(CloudError, match="CA certificates") as raised:
        await cloud.create_eni(creation())
    assert raised.value.cause is Cause.UNREACHABLE


@on_a_loop
async def test_a_cancelled_call_is_not_repeated(bench: LabBench) -> None:
    bench.state.faults.add(Fault(code="InternalError", status=500))
    call = asyncio.create_task(bench.cloud.create_eni(creation()))
    while not bench.observed:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    asked = bench.calls()
    bench.state.faults.clear()
    await bench.cloud.vswitches([PODS])
    assert bench.calls() == asked + 1


@on_a_loop
async def test_fewer_addresses_than_asked_for(bench: LabBench) -> None:
    eni = await bench.cloud.create_eni(creation())
    bench.state.faults.add(Fault(Action.ASSIGN_IPV4, partial=2, count=1))
    assert len(await bench.cloud.assign_ipv4(eni.eni_id, 5, ClientToken("part"))) == 2


@on_a_loop
async def test_none_of_the_addresses_asked_for(bench: LabBench) -> None:
    eni = await bench.cloud.create_eni(creation())
    bench.state.faults.add(Fault(Action.ASSIGN_IPV4, partial=0, count=1))
    with pytest.raises(CloudError, match="names no address"):
        await bench.cloud.assign_ipv4(eni.eni_id, 5, ClientToken("none"))


@on_a_loop
async def test_many_enis_come_in_pages(bench: LabBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.aliyun.cloud._ENIS_PAGE", 10)
    made = [await bench.cloud.create_eni(creation(token=f"token-{number}")) for number in range(12)]
    bench.state.reset_calls()
    found = await bench.cloud.enis([eni.eni_id for eni in made])
    assert {eni.eni_id for eni in found} == {eni.eni_id for eni in made}
    assert bench.state.calls() == {Action.DESCRIBE_ENIS: 2}
