"""A cloud on 127.0.0.1 and the real clients that talk to it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import Any

from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_ecs20140526.client import Client as EcsClient
from alibabacloud_tea_openapi.models import Config
from alibabacloud_tea_util.models import RuntimeOptions
from alibabacloud_vpc20160428.client import Client as VpcClient
from aliyunsdkcore.client import AcsClient
from Tea.exceptions import TeaException

from lab.clock import LabClock
from lab.cloud.metadata import MetadataServer
from lab.cloud.openapi import OpenApiServer
from lab.cloud.state import CloudState
from lab.spec import Delays, LabSpec, NodeSpec, SecurityGroupSpec, VSwitchSpec

REGION = "cn-hangzhou"
ZONE_B_VSWITCH = "vsw-zone-b"
NO_DELAYS = Delays(metadata=0.0, device=0.0, attach=0.0)


def spec() -> LabSpec:
    """The default lab without delays, with a second zone, a vSwitch without IPv6 and a second group."""
    usual = LabSpec()
    return replace(
        usual,
        delays=NO_DELAYS,
        vswitches=(
            *usual.vswitches,
            VSwitchSpec(ZONE_B_VSWITCH, "cn-hangzhou-b", IPv4Network("10.0.32.0/20"), None),
        ),
        groups=(*usual.groups, SecurityGroupSpec("sg-other")),
        nodes=(*usual.nodes, NodeSpec("small", instance_type="ecs.g6.large")),
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a client saw of an error."""

    code: str
    status: int


def refusal(call: Callable[[], object]) -> Refusal:
    """The error that ``call`` of an SDK ends in; fails if there is none."""
    try:
        call()
    except TeaException as error:
        return Refusal(str(error.code), int(error.status_code))
    raise AssertionError("the call was answered, an error was expected")


@dataclass(slots=True)
class Bench:
    """One cloud with both servers. Short names for the calls that most tests begin with."""

    state: CloudState
    clock: LabClock
    openapi: OpenApiServer
    metadata: MetadataServer
    port: int = 0
    metadata_port: int = 0
    me: list[str | None] = field(default_factory=lambda: ["i-node1"])
    """The instance that 127.0.0.1 is, for the metadata service."""

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def config(self, key: str = "", secret: str = "", token: str | None = None) -> Any:
        return Config(
            access_key_id=key or self.state.spec.access_key,
            access_key_secret=secret or self.state.spec.access_secret,
            security_token=token,
            region_id=REGION,
            endpoint=self.endpoint,
            protocol="http",
        )

    def ecs(self, **credentials: str) -> Any:
        return EcsClient(self.config(**credentials))

    def vpc(self) -> Any:
        return VpcClient(self.config())

    def rpc(self, key: str = "", secret: str = "") -> Any:
        spec = self.state.spec
        return AcsClient(key or spec.access_key, secret or spec.access_secret, REGION, auto_retry=False)

    def rpc_call(self, request: Any, client: Any = None) -> Any:
        """The answer of a request of the older SDK."""
        request.set_endpoint(self.endpoint)
        request.set_protocol_type("http")
        return json.loads((client or self.rpc()).do_action_with_exception(request))

    def create(self, vswitch: str = "vsw-pods", **fields: Any) -> Any:
        """The body of CreateNetworkInterface's answer."""
        fields.setdefault("security_group_id", "sg-cluster")
        request = ecs.CreateNetworkInterfaceRequest(region_id=REGION, v_switch_id=vswitch, **fields)
        return self.ecs().create_network_interface(request).body

    def attach(self, eni_id: str, instance_id: str = "i-node1", **fields: Any) -> None:
        fields |= {"network_interface_id": eni_id, "instance_id": instance_id}
        self.ecs().attach_network_interface(ecs.AttachNetworkInterfaceRequest(region_id=REGION, **fields))

    def detach(self, eni_id: str, instance_id: str = "i-node1", **fields: Any) -> None:
        fields |= {"network_interface_id": eni_id, "instance_id": instance_id}
        self.ecs().detach_network_interface(ecs.DetachNetworkInterfaceRequest(region_id=REGION, **fields))

    def modify(self, eni_id: str, **fields: Any) -> None:
        request = ecs.ModifyNetworkInterfaceAttributeRequest(
            region_id=REGION, network_interface_id=eni_id, **fields
        )
        self.ecs().modify_network_interface_attribute(request)

    def delete(self, eni_id: str) -> None:
        self.ecs().delete_network_interface(
            ecs.DeleteNetworkInterfaceRequest(region_id=REGION, network_interface_id=eni_id)
        )

    def assign(self, eni_id: str, count: int | None = None, **fields: Any) -> list[str]:
        fields = {"network_interface_id": eni_id, "secondary_private_ip_address_count": count, **fields}
        request = ecs.AssignPrivateIpAddressesRequest(region_id=REGION, **fields)
        runtime = RuntimeOptions(read_timeout=20_000)
        body = self.ecs().assign_private_ip_addresses_with_options(request, runtime).body
        return list(body.assigned_private_ip_addresses_set.private_ip_set.private_ip_address)

    def unassign(self, eni_id: str, *addresses: str) -> None:
        self.ecs().unassign_private_ip_addresses(
            ecs.UnassignPrivateIpAddressesRequest(
                region_id=REGION, network_interface_id=eni_id, private_ip_address=list(addresses)
            )
        )

    def describe(self, **fields: Any) -> list[Any]:
        """The ENIs on the first page of DescribeNetworkInterfaces."""
        fields.setdefault("max_results", 500)
        request = ecs.DescribeNetworkInterfacesRequest(region_id=REGION, **fields)
        body = self.ecs().describe_network_interfaces(request).body
        return list(body.network_interface_sets.network_interface_set)

    def status(self, eni_id: str) -> str | None:
        """Status as DescribeNetworkInterfaces shows it, None for an ENI that it does not list."""
        found = self.describe(network_interface_id=[eni_id])
        return str(found[0].status) if found else None

    def get(
        self, path: str, *, token: str | None = None, method: str = "GET", **headers: str
    ) -> tuple[int, str]:
        """Status and text of /latest/``path`` at the metadata service."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            names["X-aliyun-ecs-metadata-token"] = token
        url = f"http://127.0.0.1:{self.metadata_port}/latest/{path}"
        request = urllib.request.Request(url, method=method, headers=names)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def meta(self, item: str) -> str:
        """The text of a metadata item that must be there."""
        status, text = self.get(f"meta-data/{item}")
        assert status == 200, (item, status)
        return text
