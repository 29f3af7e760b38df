from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from control.aliyun.credentials import ROLE_PATH, AccessKey, InstanceRole, parse_credentials
from control.model.clock import SystemClock
from control.model.errors import Cause, CloudError, ConfigError, MetadataError


def document(expires_at: float, token: str = "token") -> str:
    return json.dumps(
        {
            "AccessKeyId": "STS.x",
            "AccessKeySecret": "hush",
            "SecurityToken": token,
            "Expiration": datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Code": "Success",
        }
    )


class Service:
    """A metadata service that counts its reads; tokens are numbered."""

    def __init__(self, clock: SystemClock, *, lifetime: float = 3600.0) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.reads = 0
        self.fixed: dict[str, str | MetadataError | None] = {}

    async def text(self, path: str) -> str | None:
        await asyncio.sleep(0)
        if path in self.fixed:
            answer = self.fixed[path]
            if isinstance(answer, MetadataError):
                raise answer
            return answer
        if path == ROLE_PATH:
            return "Role\n"
        self.reads += 1
        return document(self.clock.now() + self.lifetime, f"token-{self.reads}")


def test_half_a_key_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="access_secret is empty"):
        AccessKey("LTAI", "")
    with pytest.raises(ConfigError, match="access_key is empty"):
        AccessKey("", "x")


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(parse_credentials(document(0)))
    assert "token" not in repr(parse_credentials(document(0, "a-token-value"))).replace("token=", "")


def test_a_role_is_read_once_and_again_shortly_before_its_end() -> None:
    clock = SystemClock()
    service = Service(clock)

    async def scenario() -> None:
        role = InstanceRole(service.text, clock)
        got = await asyncio.gather(*(role.get() for _ in range(5)))
        assert {each.token for each in got} == {"token-1"}
        clock.advance(3600 - 200)
        assert (await role.get()).token == "token-1"
        clock.advance(30)
        assert (await role.get()).token == "token-2"

    asyncio.run(scenario())
    assert service.reads == 2


def test_a_service_that_keeps_giving_old_ones_is_not_asked_on_every_call() -> None:
    clock = SystemClock()
    service = Service(clock, lifetime=60)

    async def scenario() -> None:
        role = InstanceRole(service.text, clock)
        for _ in range(5):
            await role.get()

    asyncio.run(scenario())
    assert service.reads == 1


def test_expired_ones_are_replaced_once_for_all_who_used_them() -> None:
    clock = SystemClock()
    service = Service(clock)

    async def scenario() -> None:
        role = InstanceRole(service.text, clock)
        old = await role.get()
        assert role.expired(old)
        new = await role.get()
        assert role.expired(old)
        assert await role.get() is new

    asyncio.run(scenario())
    assert service.reads == 2


@pytest.mark.parametrize(
    ("path", "answer", "cause", "words"),
    [
        (ROLE_PATH, None, Cause.CREDENTIALS, "bind a RAM role"),
        (ROLE_PATH, "", Cause.CREDENTIALS, "bind a RAM role"),
        (f"{ROLE_PATH}Role", None, Cause.CREDENTIALS, "bind a RAM role"),
        (f"{ROLE_PATH}Role", "<html>", Cause.METADATA, "not JSON"),
        (f"{ROLE_PATH}Role", '{"Code": "Failed"}', Cause.METADATA, "'Failed'"),
        (f"{ROLE_PATH}Role", "{}", Cause.METADATA, "AccessKeyId is missing"),
        (ROLE_PATH, MetadataError("no answer", remedy="check"), Cause.METADATA, "no answer; check"),
    ],
)
def test_what_can_be_wrong(path: str, answer: str | MetadataError | None, cause: Cause, words: str) -> None:
    service = Service(SystemClock())
    service.fixed[path] = answer
    with pytest.raises(CloudError, match=words) as raised:
        asyncio.run(InstanceRole(service.text, SystemClock()).get())
    assert raised.value.cause is cause


def test_credentials_serve_to_their_end_while_metadata_is_silent() -> None:
    async def scenario() -> None:
        clock = SystemClock()
        service = Service(clock)
        role = InstanceRole(service.text, clock)
        first = await role.get()
        service.fixed[ROLE_PATH] = MetadataError("metadata is silent")
        clock.advance(3600 - 100)
        assert await role.get() == first
        clock.advance(101)
        with pytest.raises(CloudError, match="metadata is silent") as refused:
            await role.get()
        assert refused.value.cause is Cause.METADATA
        del service.fixed[ROLE_PATH]
        assert (await role.get()).token != first.token

    asyncio.run(scenario())
