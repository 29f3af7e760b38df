"""From a call of the API to a frame on the wire: the cloud's state and the fabric together, without a lab.

Two instances with their primary ENIs; each call is made as the actions make it, and the fabric is given the
view that follows from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest

from lab.clock import LabClock
from lab.cloud.actions import ACTIONS
from lab.cloud.actions.action import ActionCall, Answer, Api
from lab.cloud.actions.parameters import Parameters
from lab.cloud.model import Eni
from lab.cloud.state import CloudState
from lab.fabric.fabric import Fabric
from lab.spec import Delays, LabSpec, NodeSpec, SecurityGroupSpec
from tests.netns.fabric import frames as f
from tests.netns.fabric.net import GATEWAY, Net, quiet_namespace, unused

ONE, TWO = "eni-one", "eni-two"
PODS = "172.20.2.0/24"
POD = "172.20.2.9"


@dataclass
class Wired:
    """``call`` changes the cloud and then the fabric; ``net`` sends and receives at the instances."""

    state: CloudState
    net: Net

    def call(self, action: str, **parameters: str) -> Answer:
        """Of ECS. Parameters by their names, with ``_`` for the dots."""
        return self._run(Api.ECS, action, parameters)

    def call_vpc(self, action: str, **parameters: str) -> Answer:
        return self._run(Api.VPC, action, parameters)

    def _run(self, api: Api, action: str, parameters: Mapping[str, str]) -> Answer:
        named = {name.replace("_", "."): value for name, value in parameters.items()}
        with self.state.transaction():
            answer = ACTIONS[api, action].run(ActionCall(self.state, Parameters(named)))
        self.net.reset(self.state.fabric_view())
        return answer

    def eni(self, name: str) -> Eni:
        with self.state.transaction(writes=False):
            return self.state.resources.eni(name)

    def frame(self, sender: str, source: str, destination: str, ports: tuple[int, int]) -> bytes:
        packet = f.ip(source, destination, f.udp(*ports))
        return f.ether_ip(GATEWAY, self.eni(sender).mac, packet)

    def passes(self, frame: bytes) -> None:
        """From the first instance to the second."""
        assert self.net.deliver(ONE, TWO, frame)[14:] == frame[14:]


def _spec() -> LabSpec:
    usual = LabSpec()
    return replace(
        usual,
        delays=Delays(metadata=0, device=0, attach=0),
        groups=(SecurityGroupSpec("sg-cluster"), SecurityGroupSpec("sg-apart", inner_accept=False)),
        nodes=(NodeSpec("one"), NodeSpec("two")),
    )


@contextmanager
def _wired() -> Iterator[Wired]:
    with ExitStack() as stack:
        namespaces = {}
        for name in ("one", "two"):
            namespaces[name] = quiet_namespace()
            stack.callback(os.close, namespaces[name])
        state = CloudState(_spec(), LabClock())
        fabric = stack.enter_context(Fabric(lambda owner: namespaces[owner]))
        net = Net(fabric, {f"eni-{name}": netns for name, netns in namespaces.items()}, {})
        stack.callback(net.close)
        net.reset(state.fabric_view())
        yield Wired(state, net)


@pytest.fixture
def wired() -> Iterator[Wired]:
    with _wired() as made:
        yield made


def test_a_prefix_is_delivered_and_may_be_sent_from(wired: Wired) -> None:
    answer = wired.call("AssignPrivateIpAddresses", NetworkInterfaceId=TWO, Ipv4PrefixCount="1")
    (prefix,) = wired.eni(TWO).prefixes
    assert str(prefix) in str(answer)
    one, inside = str(wired.eni(ONE).primary_ip), str(prefix[15])
    wired.passes(wired.frame(ONE, one, inside, (unused(), 53)))
    sent = wired.frame(TWO, inside, one, (unused(), 53))
    assert wired.net.deliver(TWO, ONE, sent)[14:] == sent[14:]
    wired.call("UnassignPrivateIpAddresses", NetworkInterfaceId=TWO, Ipv4Prefix_1=str(prefix))
    wired.net.expect(ONE, wired.frame(ONE, one, inside, (unused(), 53)), "dst_addr")
    wired.net.expect(TWO, wired.frame(TWO, inside, one, (unused(), 53)), "src_addr")


def test_a_pod_behind_a_route_entry_is_reached_at_its_node(wired: Wired) -> None:
    """A pod's address is in no group: a rule has to let it in, as clusters in VPC mode have one."""
    one = str(wired.eni(ONE).primary_ip)
    wired.net.expect(ONE, wired.frame(ONE, one, POD, (unused(), 53)), "no_route")
    named = {"RouteTableId": "vtb-lab", "DestinationCidrBlock": PODS, "NextHopId": "i-two"}
    wired.call_vpc("CreateRouteEntry", **named)
    wired.passes(wired.frame(ONE, one, POD, (unused(), 53)))
    sent = wired.frame(TWO, POD, one, (unused(), 53))
    wired.net.expect(TWO, sent, "group")
    rule = {"IpProtocol": "all", "SourceCidrIp": PODS}
    wired.call("AuthorizeSecurityGroup", SecurityGroupId="sg-cluster", **rule)
    assert wired.net.deliver(TWO, ONE, sent)[14:] == sent[14:]
    wired.call_vpc("DeleteRouteEntry", **named)
    wired.net.expect(ONE, wired.frame(ONE, one, POD, (unused(), 53)), "no_route")
    wired.net.expect(TWO, sent, "src_addr")


def test_an_entry_that_takes_its_time_does_not_lead_before(wired: Wired) -> None:
    wired.state.set_delays(route=5.0)
    one = str(wired.eni(ONE).primary_ip)
    named = {"RouteTableId": "vtb-lab", "DestinationCidrBlock": PODS, "NextHopId": "i-two"}
    wired.call_vpc("CreateRouteEntry", **named)
    wired.net.expect(ONE, wired.frame(ONE, one, POD, (unused(), 53)), "no_route")
    wired.state.clock.advance(5.0)
    wired.net.reset(wired.state.fabric_view())
    wired.passes(wired.frame(ONE, one, POD, (unused(), 53)))


def test_a_rule_that_is_revoked_ends_its_flow(wired: Wired) -> None:
    for eni in (ONE, TWO):
        wired.call("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=eni, SecurityGroupId_1="sg-apart")
    one, two = str(wired.eni(ONE).primary_ip), str(wired.eni(TWO).primary_ip)
    flow, other = (unused(), 53), (unused(), 54)
    wired.net.expect(ONE, wired.frame(ONE, one, two, flow), "group")
    rule = {"IpProtocol": "udp", "SourceCidrIp": "10.0.0.0/8"}
    for port in (53, 54):
        ports = f"{port}/{port}"
        wired.call("AuthorizeSecurityGroup", SecurityGroupId="sg-apart", PortRange=ports, **rule)
    wired.passes(wired.frame(ONE, one, two, flow))
    wired.passes(wired.frame(ONE, one, two, other))
    wired.call("RevokeSecurityGroup", SecurityGroupId="sg-apart", PortRange="53/53", **rule)
    wired.net.expect(ONE, wired.frame(ONE, one, two, flow), "group")
    wired.passes(wired.frame(ONE, one, two, other))


def test_inner_access_that_is_dropped_isolates_the_members(wired: Wired) -> None:
    one, two = str(wired.eni(ONE).primary_ip), str(wired.eni(TWO).primary_ip)
    flow = (unused(), 53)
    wired.passes(wired.frame(ONE, one, two, flow))
    drop = {"IpProtocol": "udp", "PortRange": "1/65535", "SourceCidrIp": "0.0.0.0/0", "Policy": "drop"}
    wired.call("AuthorizeSecurityGroup", SecurityGroupId="sg-cluster", **drop)
    wired.passes(wired.frame(ONE, one, two, flow))
    wired.call("RevokeSecurityGroup", SecurityGroupId="sg-cluster", **drop)
    wired.call("ModifySecurityGroupPolicy", SecurityGroupId="sg-cluster", InnerAccessPolicy="Drop")
    wired.net.expect(ONE, wired.frame(ONE, one, two, flow), "group")
    wired.call("ModifySecurityGroupPolicy", SecurityGroupId="sg-cluster", InnerAccessPolicy="Accept")
    wired.passes(wired.frame(ONE, one, two, flow))


def test_an_eni_that_leaves_a_group_loses_its_flows(wired: Wired) -> None:
    one, two = str(wired.eni(ONE).primary_ip), str(wired.eni(TWO).primary_ip)
    flow = (unused(), 53)
    wired.passes(wired.frame(ONE, one, two, flow))
    wired.call("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=TWO, SecurityGroupId_1="sg-apart")
    wired.net.expect(ONE, wired.frame(ONE, one, two, flow), "group")


def test_an_enterprise_group_lets_nothing_by_itself(wired: Wired) -> None:
    made = wired.call("CreateSecurityGroup", VpcId="vpc-lab", SecurityGroupType="enterprise")
    strict = str(made["SecurityGroupId"])
    for eni in (ONE, TWO):
        wired.call("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=eni, SecurityGroupId_1=strict)
    one, two = str(wired.eni(ONE).primary_ip), str(wired.eni(TWO).primary_ip)
    flow = (unused(), 53)
    wired.net.expect(ONE, wired.frame(ONE, one, two, flow), "group")
    any_udp = {"IpProtocol": "udp", "PortRange": "1/65535"}
    wired.call("AuthorizeSecurityGroupEgress", SecurityGroupId=strict, DestCidrIp="10.0.0.0/8", **any_udp)
    wired.net.expect(ONE, wired.frame(ONE, one, two, flow), "group")
    wired.call("AuthorizeSecurityGroup", SecurityGroupId=strict, SourceCidrIp="10.0.0.0/8", **any_udp)
    wired.passes(wired.frame(ONE, one, two, flow))
