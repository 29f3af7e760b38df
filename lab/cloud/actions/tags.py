"""TagResources, UntagResources and ListTagResources of the ECS API, and tags as other actions take them.

Inferred: the status 404 of MissingParameter.X is what one page of the reference says (another says 400);
ListTagResources answers 50 tags a page.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.cloud import tagging
from lab.cloud.actions import paging
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.cloud.actions.parameters import Parameters
from lab.cloud.errors import ApiError
from lab.cloud.model import Tags
from lab.cloud.tagging import MOST_TAGS, TagKind
from lab.cloud.views import Snapshot

_MOST_IDS = 50
_PAGE = 50


def of_a_new_resource(p: Parameters) -> Tags:
    """Tag.N of an action that creates something."""
    return tagging.check(p.tags())


def wanted(p: Parameters) -> Tags:
    """Tag.N as a filter, with which all of them must be there. Raises NumberExceed.Tags."""
    tags = p.tags()
    if len(tags) > MOST_TAGS:
        raise ApiError("NumberExceed.Tags", f"The Tags parameter's number is exceed, Valid : {MOST_TAGS}")
    for key, _ in tags:
        if not key:
            raise ApiError("InvalidParameter.TagValue", "Tag.N.Value is given without Tag.N.Key.")
    return tags


def match(tags: Tags, asked: Tags) -> bool:
    return all(tagging.has(tags, key, value) for key, value in asked)


def answer(tags: Tags) -> Answer:
    """``Tags`` of a resource in an answer."""
    return {"Tag": [{"TagKey": key, "TagValue": value} for key, value in tags]}


def tag(call: ActionCall) -> Answer:
    p = call.parameters
    kind, ids = _kind(p), _ids(p)
    if not p.tags():
        raise _missing("Tags")
    call.state.tagging.tag(kind, ids, p.tags())
    return {}


def untag(call: ActionCall) -> Answer:
    """``All`` counts only where no key is named."""
    p = call.parameters
    kind, ids, keys = _kind(p), _ids(p), p.listing("TagKey")
    if not keys and not p.boolean("All"):
        raise _missing("TagKeys")
    if len(keys) > MOST_TAGS:
        raise ApiError("NumberExceed.Tags", f"The Tags parameter's number is exceed, Valid : {MOST_TAGS}")
    call.state.tagging.untag(kind, ids, keys or None)
    return {}


def list_tags(call: ActionCall) -> Answer:
    p = call.parameters
    kind, ids, asked = _kind(p), set(_ids(p, needed=False)), wanted(p)
    if not ids and not asked:
        raise _missing("ResourceIdOrTag")
    found = [
        (name, key, value)
        for name, tags in _tagged(call.state.described, kind)
        if (not ids or name in ids) and match(tags, asked)
        for key, value in tags
    ]
    page, token = paging.by_token(found, p, key=lambda t: f"{t[0]} {t[1]}", most=_PAGE, usual=_PAGE)
    rows = [
        {"ResourceType": str(kind), "ResourceId": name, "TagKey": key, "TagValue": value}
        for name, key, value in page
    ]
    return {"NextToken": token, "TagResources": {"TagResource": rows}}


def _tagged(seen: Snapshot, kind: TagKind) -> Iterator[tuple[str, Tags]]:
    if kind is TagKind.ENI:
        yield from ((eni.eni_id, eni.tags) for eni in seen.enis())
    elif kind is TagKind.INSTANCE:
        yield from ((instance.instance_id, instance.tags) for instance in seen.instances())
    else:
        yield from ((group.group_id, group.tags) for group in seen.groups())


def _kind(p: Parameters) -> TagKind:
    if not p.text("ResourceType"):
        raise _missing("ResourceType")
    return tagging.kind_of(p.text("ResourceType"))


def _ids(p: Parameters, *, needed: bool = True) -> tuple[str, ...]:
    ids = p.listing("ResourceId")
    if needed and not ids:
        raise _missing("ResourceIds")
    if len(ids) > _MOST_IDS:
        raise ApiError(
            "NumberExceed.ResourceIds", f"The ResourceIds parameter's number is exceed, Valid : {_MOST_IDS}"
        )
    return ids


def _missing(name: str) -> ApiError:
    return ApiError(f"MissingParameter.{name}", f"The parameter - {name} should not be null", status=404)


_WHICH = frozenset({"ResourceType", "ResourceId"})

ACTIONS = (
    Action("TagResources", tag, writes=True, takes=_WHICH | {"Tag"}),
    Action("UntagResources", untag, writes=True, takes=_WHICH | {"TagKey", "All"}),
    Action("ListTagResources", list_tags, takes=_WHICH | {"Tag", "NextToken"}),
)
