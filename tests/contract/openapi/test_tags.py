"""Tags through the ECS SDK: given, taken away, listed, asked for, refused."""

from __future__ import annotations

from typing import Any

import pytest
from alibabacloud_ecs20140526 import models as ecs

from tests.unit.lab_cloud.bench import REGION, Bench, Refusal, refusal

TOO_MANY = Refusal("NumberExceed.Tags", 400)
MALFORMED = Refusal("InvalidTagKey.Malformed", 400)


def tag(cloud: Bench, ids: list[str], tags: dict[str, str], kind: str | None = "eni") -> None:
    each = [ecs.TagResourcesRequestTag(key=key, value=value) for key, value in tags.items()]
    request = ecs.TagResourcesRequest(region_id=REGION, resource_type=kind, resource_id=ids, tag=each)
    cloud.ecs().tag_resources(request)


def untag(cloud: Bench, ids: list[str], *keys: str, kind: str = "eni", **fields: Any) -> None:
    request = ecs.UntagResourcesRequest(
        region_id=REGION, resource_type=kind, resource_id=ids, tag_key=list(keys), **fields
    )
    cloud.ecs().untag_resources(request)


def listed(cloud: Bench, kind: str = "eni", **fields: Any) -> list[tuple[str, str, str]]:
    """Every page."""
    found, token = [], ""
    while True:
        request = ecs.ListTagResourcesRequest(
            region_id=REGION, resource_type=kind, next_token=token, **fields
        )
        body = cloud.ecs().list_tag_resources(request).body
        found += [(t.resource_id, t.tag_key, t.tag_value) for t in body.tag_resources.tag_resource]
        token = body.next_token
        if not token:
            return found


def asked(key: str, value: str | None = None) -> list[Any]:
    return [ecs.ListTagResourcesRequestTag(key=key, value=value)]


def test_an_eni_is_tagged_and_untagged(cloud: Bench) -> None:
    eni = cloud.create(tag=[ecs.CreateNetworkInterfaceRequestTag(key="made", value="new")])
    name = eni.network_interface_id
    tag(cloud, [name], {"team": "net", "made": "old"})
    tag(cloud, [name], {"empty": ""})
    (seen,) = cloud.describe(network_interface_id=[name])
    assert {t.tag_key: t.tag_value for t in seen.tags.tag} == {"made": "old", "team": "net", "empty": ""}
    untag(cloud, [name], "made", "never")
    assert listed(cloud, resource_id=[name]) == [(name, "empty", ""), (name, "team", "net")]
    untag(cloud, [name], "team", all=True)
    assert listed(cloud, resource_id=[name]) == [(name, "empty", "")]
    untag(cloud, [name], all=True)
    assert listed(cloud, resource_id=[name]) == []


def test_instances_and_groups_have_tags_too(cloud: Bench) -> None:
    tag(cloud, ["i-node1", "i-node2"], {"role": "worker"}, "instance")
    tag(cloud, ["sg-other"], {"role": "db"}, "securitygroup")
    assert listed(cloud, "instance", tag=asked("role", "worker")) == [
        ("i-node1", "role", "worker"),
        ("i-node2", "role", "worker"),
    ]
    request = ecs.DescribeInstancesRequest(
        region_id=REGION, tag=[ecs.DescribeInstancesRequestTag(key="role", value="worker")]
    )
    found = cloud.ecs().describe_instances(request).body.instances.instance
    assert [i.instance_id for i in found] == ["i-node1", "i-node2"]
    assert found[0].tags.tag[0].tag_key == "role"
    groups = ecs.DescribeSecurityGroupsRequest(
        region_id=REGION, tag=[ecs.DescribeSecurityGroupsRequestTag(key="role", value="db")]
    )
    (group,) = cloud.ecs().describe_security_groups(groups).body.security_groups.security_group
    assert (group.security_group_id, group.tags.tag[0].tag_value) == ("sg-other", "db")
    untag(cloud, ["sg-other"], "role", kind="securitygroup")
    assert listed(cloud, "securitygroup", resource_id=["sg-other"]) == []


def test_several_tags_are_asked_for_together(cloud: Bench) -> None:
    one, two = (cloud.create().network_interface_id for _ in range(2))
    tag(cloud, [one, two], {"a": "1"})
    tag(cloud, [two], {"b": "2"})
    both = [*asked("a"), *asked("b", "2")]
    assert {name for name, _, _ in listed(cloud, tag=both)} == {two}
    assert listed(cloud, resource_id=[one], tag=both) == []
    filters = [
        ecs.DescribeNetworkInterfacesRequestTag(key="a", value="1"),
        ecs.DescribeNetworkInterfacesRequestTag(key="b"),
    ]
    assert [e.network_interface_id for e in cloud.describe(tag=filters)] == [two]


def test_pages(cloud: Bench) -> None:
    names = [cloud.create().network_interface_id for _ in range(3)]
    tags = {f"key-{n:02d}": "v" for n in range(20)}
    tag(cloud, names, tags)
    assert len(listed(cloud, resource_id=names)) == 60


def test_tags_of_an_eni_on_its_way(cloud: Bench) -> None:
    """What it becomes has them as well, and the view lags as ever."""
    cloud.state.set_delays(attach=5.0, describe=2.0)
    eni = cloud.create().network_interface_id
    cloud.attach(eni)
    tag(cloud, [eni], {"on": "its way"})
    assert listed(cloud, resource_id=[eni]) == []
    cloud.clock.advance(2.0)
    assert (cloud.status(eni), listed(cloud, resource_id=[eni])) == ("Attaching", [(eni, "on", "its way")])
    cloud.clock.advance(5.0)
    assert (cloud.status(eni), listed(cloud, resource_id=[eni])) == ("InUse", [(eni, "on", "its way")])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, Refusal("MissingParameter.Tags", 404)),
        ({f"k{n}": "" for n in range(21)}, TOO_MANY),
        ({"aliyun-own": "x"}, MALFORMED),
        ({"acs:own": "x"}, MALFORMED),
        ({"see http://x": "x"}, MALFORMED),
        ({"k" * 129: "x"}, MALFORMED),
        ({"k": "v" * 129}, Refusal("InvalidTagValue.Malformed", 400)),
        ({"k": "https://x"}, Refusal("InvalidTagValue.Malformed", 400)),
    ],
)
def test_tag_refuses(cloud: Bench, tags: dict[str, str], expected: Refusal) -> None:
    eni = cloud.create().network_interface_id
    assert refusal(lambda: tag(cloud, [eni], tags)) == expected
    assert listed(cloud, resource_id=[eni]) == []
    if tags:
        each = [ecs.CreateNetworkInterfaceRequestTag(key=k, value=v) for k, v in tags.items()]
        assert refusal(lambda: cloud.create(tag=each)) == expected


def test_what_is_tagged_is_there(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    missing = Refusal("InvalidResourceId.NotFound", 404)
    assert refusal(lambda: tag(cloud, [eni, "eni-none"], {"k": "v"})) == missing
    assert listed(cloud, resource_id=[eni]) == []
    unknown = Refusal("InvalidResourceType.NotFound", 404)
    assert refusal(lambda: tag(cloud, [eni], {"k": "v"}, "disk")) == unknown
    no_kind = Refusal("MissingParameter.ResourceType", 404)
    assert refusal(lambda: tag(cloud, [eni], {"k": "v"}, None)) == no_kind
    no_ids = Refusal("MissingParameter.ResourceIds", 404)
    assert refusal(lambda: tag(cloud, [], {"k": "v"})) == no_ids
    crowd = Refusal("NumberExceed.ResourceIds", 400)
    assert refusal(lambda: tag(cloud, [eni] * 51, {"k": "v"})) == crowd
    assert refusal(lambda: untag(cloud, [eni])) == Refusal("MissingParameter.TagKeys", 404)
    neither = Refusal("MissingParameter.ResourceIdOrTag", 404)
    assert refusal(lambda: listed(cloud)) == neither


def test_a_key_is_named_once(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    each = [ecs.TagResourcesRequestTag(key="k", value=str(n)) for n in range(2)]
    request = ecs.TagResourcesRequest(region_id=REGION, resource_type="eni", resource_id=[eni], tag=each)
    twice = Refusal("Duplicate.TagKey", 400)
    assert refusal(lambda: cloud.ecs().tag_resources(request)) == twice


def test_a_resource_has_room_for_twenty(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    tag(cloud, [eni], {f"k{n}": "" for n in range(20)})
    tag(cloud, [eni], {"k3": "new"})
    full = Refusal("QuotaExceed.TagsPerResource", 400)
    assert refusal(lambda: tag(cloud, [eni], {"one more": ""})) == full
