"""The three patch formats: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge patch.

Strategic merge needs the types' merge keys; here they are given by field name, which covers the lists the
product patches. A list whose name is not known is replaced, as in the real server for atomic lists.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException

from lab.kube.resources import Object, Resource
from lab.kube.status import ApiError, bad_request, unsupported_media_type

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "addresses": ("type",),
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "podIPs": ("ip",),
    "ports": ("containerPort", "port"),
    "secrets": ("name",),
    "taints": ("key",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_PRIMITIVE_SETS = frozenset({"finalizers"})
_DELETE_FROM = "$deleteFromPrimitiveList/"


@dataclass(frozen=True, slots=True)
class Patch:
    """``document`` is the decoded body: a list for JSON patch, else an object."""

    media_type: str
    document: Any

    def apply(self, resource: Resource, value: Object) -> Object:
        """A new object; ``value`` stays as it is. Raises ApiError 400, 415 or 422."""
        accepted = (
            (JSON_PATCH, MERGE_PATCH) if resource.custom else (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)
        )
        if self.media_type not in accepted:
            raise unsupported_media_type(accepted)
        if self.media_type == JSON_PATCH:
            return _json_patch(value, self.document)
        if not isinstance(self.document, dict):
            raise bad_request("a merge patch must be a JSON object")
        if self.media_type == MERGE_PATCH:
            merged = merge(value, self.document)
        else:
            merged = strategic(copy.deepcopy(value), self.document)
        assert isinstance(merged, dict)
        return merged


def _json_patch(value: Object, document: Any) -> Object:
    if not isinstance(document, list):
        raise bad_request("error decoding patch: a JSON patch must be a list of operations")
    try:
        patched = jsonpatch.apply_patch(value, document)
    except (jsonpatch.JsonPatchException, JsonPointerException) as exc:
        message = "the server rejected our request due to an error in our request"
        raise ApiError(422, "Invalid", message, {}) from exc
    if not isinstance(patched, dict):
        raise bad_request("the patch turned the object into something else")
    return patched


def merge(value: Any, patch: Any) -> Any:
    """RFC 7386. Neither argument is changed; the result may share parts with both."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, item in patch.items():
        if item is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), item)
    return merged


def strategic(value: Object, patch: Object) -> Object:
    """Merge ``patch`` into ``value``, which is changed and returned."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: item for name, item in patch.items() if name != "$patch"}
    for name, item in patch.items():
        if name.startswith(_DELETE_FROM):
            _drop_primitives(value, name.removeprefix(_DELETE_FROM), item)
        elif name.startswith("$"):
            continue
        elif item is None:
            value.pop(name, None)
        else:
            value[name] = _merge_field(name, value.get(name), item)
    return value


def _merge_field(name: str, old: Any, new: Any) -> Any:
    if isinstance(new, dict):
        if new.get("$patch") == "delete":
            return {}
        return strategic(old if isinstance(old, dict) else {}, new)
    if isinstance(new, list) and isinstance(old, list):
        if name in _PRIMITIVE_SETS:
            return old + [item for item in new if item not in old]
        key = _merge_key(name, new)
        if key:
            return _merge_list(old, new, key)
    return new


def _merge_key(name: str, items: list[Any]) -> str:
    """The field that tells items apart, "" if the list is replaced as a whole."""
    for key in _MERGE_KEYS.get(name, ()):
        if all(isinstance(item, dict) and (key in item or "$patch" in item) for item in items):
            return key
    return ""


def _merge_list(old: list[Any], new: list[Any], key: str) -> list[Any]:
    if any(item.get("$patch") == "replace" for item in new):
        return [item for item in new if "$patch" not in item]
    merged = list(old)
    for item in new:
        at = next((i for i, known in enumerate(merged) if known.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del merged[at]
        elif at is None:
            merged.append(strategic({}, item))
        else:
            merged[at] = strategic(merged[at], item)
    return merged


def _drop_primitives(value: Object, name: str, items: list[Any]) -> None:
    if isinstance(value.get(name), list):
        value[name] = [item for item in value[name] if item not in items]
