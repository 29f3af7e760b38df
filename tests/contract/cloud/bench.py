"""The two things that the contract holds for: the fakes, and the adapters against the lab's servers."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Protocol

from control.aliyun.actions import Action
from control.aliyun.cloud import AliyunCloud
from control.aliyun.credentials import AccessKey, CredentialSource
from control.aliyun.errors import Refusal, Transport
from control.aliyun.fake import FakeAccount, FakeCloud, FakeMetadata
from control.aliyun.metadata import AliyunMetadata
from control.aliyun.metadata_http import MetadataHttp
from control.aliyun.settings import CloudSettings, Observers, unobserved
from control.model.clock import SystemClock
from control.model.cloud import Cloud, CreateEni, InstanceLimits, Metadata, NodeIdentity, VSwitch
from control.model.ids import ClientToken, InstanceId, Mac, SecurityGroupId, VSwitchId
from lab.clock import LabClock
from lab.cloud.faults import Drop, Fault
from lab.cloud.metadata import MetadataServer
from lab.cloud.openapi import OpenApiServer
from lab.cloud.state import CloudState
from lab.spec import Delays, LabSpec

GROUP = SecurityGroupId("sg-cluster")
PODS = VSwitchId("vsw-pods")
NODES = VSwitchId("vsw-nodes")
NODE = NodeIdentity(
    InstanceId("i-node1"), "ecs.g7.xlarge", "cn-hangzhou", "cn-hangzhou-a", NODES, Mac("00:16:3e:00:00:01")
)
LIMITS = InstanceLimits("ecs.g7.xlarge", 4, 15, 15, 20, True)
"""As the API reference lists it."""
_LONGEST_TEST = 60.0


def creation(*, ipv4: int = 1, ipv6: int = 0, token: str = "token-1") -> CreateEni:
    return CreateEni(PODS, (GROUP,), ipv4, ipv6, ClientToken(token), (("creator", "terway"),))


class Bench(Protocol):
    """A cloud with one node, ``NODE``, whose writes show at once in every view unless a lag is set."""

    @property
    def cloud(self) -> Cloud: ...
    @property
    def metadata(self) -> Metadata: ...
    def advance(self, seconds: float) -> None: ...
    def begin_a_minute(self) -> None: ...
    def lag(self, *, attach: float, metadata: float) -> None: ...
    def fill(self, vswitch_id: VSwitchId, *, leaving: int) -> None: ...
    def set_eni_quota(self, most: int) -> None: ...
    def refuse(self, action: Action, code: str) -> None:
        """The next call of ``action``."""
        ...

    def lose_answer(self, action: Action) -> None:
        """The next call of ``action`` takes effect, and its answer is lost."""
        ...

    def calls(self) -> int:
        """How often the cloud was called, whatever came of it."""
        ...

    async def close(self) -> None: ...
    def stop(self) -> None: ...


class FakeBench:
    def __init__(self) -> None:
        self._clock = SystemClock()
        pods = VSwitch(PODS, NODE.zone, IPv4Network("10.0.16.0/20"), 0, IPv6Network("2001:db8:10:1::/64"))
        nodes = VSwitch(NODES, NODE.zone, IPv4Network("10.0.0.0/20"), 0, IPv6Network("2001:db8:10::/64"))
        self._account = FakeAccount(
            self._clock, {PODS: pods, NODES: nodes}, {LIMITS.instance_type: LIMITS}, {GROUP}
        )
        self._account.add_instance(NODE)
        self.cloud = FakeCloud(self._account)
        self.metadata = FakeMetadata(self._account, NODE)

    def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def begin_a_minute(self) -> None:
        self._clock.advance(60 - self._clock.now() % 60)

    def lag(self, *, attach: float, metadata: float) -> None:
        self._account.lags = replace(self._account.lags, attach=attach, metadata=metadata)

    def fill(self, vswitch_id: VSwitchId, *, leaving: int) -> None:
        self._account.fill(vswitch_id, leaving=leaving)

    def set_eni_quota(self, most: int) -> None:
        self._account.eni_quota = most

    def refuse(self, action: Action, code: str) -> None:
        self.cloud.fail(action, code)

    def lose_answer(self, action: Action) -> None:
        self.cloud.fail_with(action, Refusal(transport=Transport.BROKEN), lost=True)

    def calls(self) -> int:
        return self.cloud.count()

    async def close(self) -> None:
        await self.cloud.close()

    def stop(self) -> None:
        """Nothing outlives it."""


class LabBench:
    """The lab's OpenAPI and metadata servers on loopback, and the adapters with the real SDK."""

    def __init__(self) -> None:
        self.clock = LabClock()
        self.spec = LabSpec(delays=Delays(metadata=0, device=0, attach=0))
        self.state = CloudState(self.spec, self.clock)
        self._openapi = OpenApiServer(self.state)
        self._metadata_server = MetadataServer(self.state, instance_of=lambda _source: NODE.instance_id)
        self.endpoint = f"127.0.0.1:{self._openapi.start('127.0.0.1', 0)}"
        self.metadata_address = f"127.0.0.1:{self._metadata_server.start('127.0.0.1', 0)}"
        self.settings = CloudSettings(self.spec.region, self.endpoint, self.endpoint, "http")
        self.http = MetadataHttp(self.metadata_address, clock=self.clock, observe=unobserved)
        self.metadata = AliyunMetadata(self.http)
        self.key = AccessKey(self.spec.access_key, self.spec.access_secret)
        self.observed: list[tuple[str, str, float]] = []
        self._clouds: list[AliyunCloud] = []
        self.cloud = self.new_cloud()

    def new_cloud(
        self, *, settings: CloudSettings | None = None, credentials: CredentialSource | None = None
    ) -> AliyunCloud:
        """Another adapter. Its attempts are in ``observed`` too."""
        cloud = AliyunCloud(
            settings or self.settings,
            credentials or self.key,
            self.clock,
            Observers(openapi=lambda *seen: self.observed.append(seen)),
        )
        self._clouds.append(cloud)
        return cloud

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def begin_a_minute(self) -> None:
        self.clock.advance(60 - self.clock.now() % 60)

    def lag(self, *, attach: float, metadata: float) -> None:
        self.state.set_delays(attach=attach, metadata=metadata)

    def fill(self, vswitch_id: VSwitchId, *, leaving: int) -> None:
        self.state.occupy(vswitch_id, leaving)

    def set_eni_quota(self, most: int) -> None:
        self.state.quotas.enis = most

    def refuse(self, action: Action, code: str) -> None:
        self.state.faults.add(Fault(action=action, code=code, count=1))

    def lose_answer(self, action: Action) -> None:
        self.state.faults.add(Fault(action=action, drop=Drop.AFTER, count=1))

    def calls(self) -> int:
        return sum(self.state.calls().values())

    async def close(self) -> None:
        await asyncio.gather(*(cloud.close() for cloud in self._clouds))
        await self.metadata.close()

    def stop(self) -> None:
        self._openapi.stop()
        self._metadata_server.stop()


AnyBench = FakeBench | LabBench
Test = Callable[..., Coroutine[None, None, None]]


def on_a_loop(test: Test) -> Callable[..., None]:
    """Make a test of a coroutine that takes ``bench``; closes what it used also on failure."""

    @functools.wraps(test)
    def run(bench: Any, **fixtures: Any) -> None:
        async def whole() -> None:
            try:
                async with asyncio.timeout(_LONGEST_TEST):
                    await test(bench, **fixtures)
            finally:
                await bench.close()

        asyncio.run(whole())

    return run
