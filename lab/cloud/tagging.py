"""Tags of ENIs, instances and security groups: what a resource may have, and how they change.

Documented (TagResources, UntagResources, page on tag limits): 20 tags a resource, 20 in a call, 50
resources in a call; keys of 1 to 128 characters that begin with neither aliyun nor acs:, values of up to
128, neither with http:// or https://; a key that is there gets the new value.
Inferred: a call is all or nothing; the words are compared as they are written; tags change in any state
of an ENI, also while it is being attached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from lab.cloud.errors import ApiError
from lab.cloud.model import Tags
from lab.cloud.resources import Resources

MOST_TAGS = 20
_LONGEST = 128
_RESERVED = ("aliyun", "acs:")
_URLS = ("http://", "https://")


class TagKind(StrEnum):
    """The ResourceTypes of the API that this cloud tags."""

    ENI = "eni"
    INSTANCE = "instance"
    GROUP = "securitygroup"


def check(tags: Tags) -> Tags:
    """``tags``, which a call is about to give. Raises the code that says what is wrong."""
    if len(tags) > MOST_TAGS:
        raise ApiError("NumberExceed.Tags", f"The Tags parameter's number is exceed, Valid : {MOST_TAGS}")
    if len({key for key, _ in tags}) != len(tags):
        raise ApiError("Duplicate.TagKey", "The Tag.N.Key contain duplicate key.")
    for key, value in tags:
        if not 1 <= len(key) <= _LONGEST or key.startswith(_RESERVED) or _has_url(key):
            raise ApiError("InvalidTagKey.Malformed", f"The specified Tag.n.Key {key!r} is not valid.")
        if len(value) > _LONGEST or _has_url(value):
            raise ApiError("InvalidTagValue.Malformed", f"The specified Tag.n.Value {value!r} is not valid.")
    return tags


def has(tags: Tags, key: str, value: str) -> bool:
    """A filter without a value asks for the key alone."""
    return any(k == key and value in ("", v) for k, v in tags)


class Tagging:
    """Writes on ``resources``, at its ``now``. Every refusal is an ApiError and changes nothing."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def tag(self, kind: TagKind, ids: Sequence[str], tags: Tags) -> None:
        check(tags)
        after = {name: dict(self._of(kind, name)) | dict(tags) for name in ids}
        for name, wanted in after.items():
            if len(wanted) > MOST_TAGS:
                raise ApiError(
                    "QuotaExceed.TagsPerResource",
                    f"The maximum number of tags is exceeded: {name} would have {len(wanted)}.",
                )
        self._write(kind, after)

    def untag(self, kind: TagKind, ids: Sequence[str], keys: Iterable[str] | None) -> None:
        """``keys`` None is all of them; one that is not there is no error."""
        gone = None if keys is None else set(keys)
        after = {
            name: {k: v for k, v in self._of(kind, name) if gone is not None and k not in gone}
            for name in ids
        }
        self._write(kind, after)

    def _of(self, kind: TagKind, name: str) -> Tags:
        resources = self._resources
        read: dict[TagKind, Callable[[str], Tags]] = {
            TagKind.ENI: lambda n: resources.eni(n).tags,
            TagKind.INSTANCE: lambda n: resources.instance(n).tags,
            TagKind.GROUP: lambda n: resources.group(n).tags,
        }
        try:
            return read[kind](name)
        except ApiError:
            raise ApiError(
                "InvalidResourceId.NotFound",
                f"The specified ResourceIds are not found in our records: {name}.",
                status=404,
            ) from None

    def _write(self, kind: TagKind, after: Mapping[str, Mapping[str, str]]) -> None:
        resources = self._resources
        for name, wanted in after.items():
            tags = tuple(wanted.items())
            if kind is TagKind.ENI:
                resources.amend_eni(name, lambda eni, tags=tags: replace(eni, tags=tags))  # type: ignore[misc]
            elif kind is TagKind.INSTANCE:
                resources.change_instance(replace(resources.instance(name), tags=tags))
            else:
                resources.put_group(replace(resources.group(name), tags=tags))


def kind_of(text: str) -> TagKind:
    """Raises InvalidResourceType.NotFound."""
    try:
        return TagKind(text.lower())
    except ValueError:
        raise ApiError(
            "InvalidResourceType.NotFound",
            f"The ResourceType {text!r} provided does not exist in our records; this cloud tags "
            f"{', '.join(TagKind)}.",
            status=404,
        ) from None


def _has_url(text: str) -> bool:
    return any(url in text for url in _URLS)
