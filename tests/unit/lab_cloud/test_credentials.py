"""STS credentials of an instance's role: from the metadata service to a signed call, until they expire."""

from __future__ import annotations

import json
from typing import Any

from alibabacloud_ecs20140526 import models as ecs

from lab.clock import LabClock
from lab.cloud.state import CloudState
from tests.unit.lab_cloud.bench import REGION, Bench, Refusal, refusal

ROLE = "ram/security-credentials/KubernetesWorkerRole"


def _handed_out(cloud: Bench) -> dict[str, str]:
    document: dict[str, str] = json.loads(cloud.meta(ROLE))
    assert document["Code"] == "Success"
    return document


def _describe(cloud: Bench, key: str, secret: str, token: str | None) -> Any:
    request = ecs.DescribeNetworkInterfacesRequest(region_id=REGION)
    client = cloud.ecs(key=key, secret=secret, **({} if token is None else {"token": token}))
    return client.describe_network_interfaces(request)


def test_they_open_the_api_until_they_expire(cloud: Bench) -> None:
    given = _handed_out(cloud)
    key, secret, token = given["AccessKeyId"], given["AccessKeySecret"], given["SecurityToken"]
    assert key.startswith("STS.")
    assert _describe(cloud, key, secret, token).status_code == 200
    assert cloud.state.recent_calls()[-1].caller.startswith("KubernetesWorkerRole@")
    cloud.clock.advance(6 * 3600)
    assert refusal(lambda: _describe(cloud, key, secret, token)) == Refusal(
        "InvalidSecurityToken.Expired", 400
    )


def test_what_is_wrong_with_a_token(cloud: Bench) -> None:
    given = _handed_out(cloud)
    key, secret, token = given["AccessKeyId"], given["AccessKeySecret"], given["SecurityToken"]
    malformed = Refusal("InvalidSecurityToken.Malformed", 400)
    assert refusal(lambda: _describe(cloud, key, secret, token + "x")) == malformed
    account = cloud.state.spec
    assert refusal(lambda: _describe(cloud, account.access_key, account.access_secret, "x")) == malformed
    assert refusal(lambda: _describe(cloud, account.access_key, account.access_secret, token)) == Refusal(
        "InvalidSecurityToken.MismatchWithAccessKey", 400
    )
    assert refusal(lambda: _describe(cloud, key, "wrong", token)) == Refusal("SignatureDoesNotMatch", 400)
    assert refusal(lambda: _describe(cloud, key, secret, None)) == Refusal("MissingParameter", 400)


def test_new_ones_come_in_the_last_half_hour(cloud: Bench) -> None:
    """So an agent that reads them in that time can change over while the old ones are still good."""
    old = _handed_out(cloud)
    cloud.clock.advance(5.4 * 3600)
    assert _handed_out(cloud) == old
    cloud.clock.advance(0.2 * 3600)
    new = _handed_out(cloud)
    assert new["SecurityToken"] != old["SecurityToken"]
    assert new["Expiration"] > old["Expiration"]
    for given in (old, new):
        answer = _describe(cloud, given["AccessKeyId"], given["AccessKeySecret"], given["SecurityToken"])
        assert answer.status_code == 200


def test_each_instance_has_its_own(state: CloudState, clock: LabClock) -> None:
    one = state.credentials.of_role("r", "i-node1", now=clock.now())
    two = state.credentials.of_role("r", "i-node2", now=clock.now())
    assert one.access_key_id != two.access_key_id
    assert state.credentials.of_role("r", "i-node1", now=clock.now()) == one


def test_ram_denies_a_role(cloud: Bench) -> None:
    given = _handed_out(cloud)
    cloud.state.credentials.deny("DescribeNetworkInterfaces", "KubernetesWorkerRole")
    assert refusal(
        lambda: _describe(cloud, given["AccessKeyId"], given["AccessKeySecret"], given["SecurityToken"])
    ) == Refusal("Forbidden.RAM", 403)
    assert len(cloud.describe()) == 3
