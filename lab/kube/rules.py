"""What the server decides about an object on its way in: names, system metadata, status, generation.

Pure functions from the request's body (and the stored object) to the object that is to be stored. They
never change a stored object: what they touch, ``metadata`` above all, they copy first.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from typing import Any

from lab.kube.resources import BINDINGS, CRDS, EVENTS, NAMESPACES, PODS, Object, Resource
from lab.kube.status import ApiError, bad_request, conflict, invalid, modified

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/%]+")
_SYSTEM_METADATA = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)
_NODE_EVENT_NAMESPACES = ("default", "kube-system")


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC and whole seconds, as metadata carries it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def check_type(resource: Resource, body: Any) -> Object:
    """The body as an object with kind, apiVersion and a metadata of its own. Raises ApiError 400."""
    if not isinstance(body, dict) or not isinstance(body.get("metadata") or {}, dict):
        raise bad_request("the request's body is not a JSON object with metadata")
    for name, wanted in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        given = body.get(name) or wanted
        if given != wanted:
            raise bad_request(f"{name} in the data ({given}) does not match the expected {name} ({wanted})")
    rest = {name: item for name, item in body.items() if name not in ("kind", "apiVersion")}
    typed = {"kind": resource.kind, "apiVersion": resource.api_version, **rest}
    typed["metadata"] = dict(body.get("metadata") or {})
    return typed


def new_object(resource: Resource, namespace: str, body: Any, *, now: float) -> Object:
    """Raises ApiError 400 or 422."""
    value = check_type(resource, body)
    metadata = value["metadata"]
    _place(resource, namespace, metadata)
    _name(resource, metadata)
    if metadata.get("resourceVersion"):
        # The code is the real server's, whose storage finds it out.
        raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
    for name in (*_SYSTEM_METADATA, "resourceVersion", "selfLink"):
        metadata.pop(name, None)
    metadata.update(uid=str(uuid.uuid4()), creationTimestamp=timestamp(now))
    if resource.counts_generation:
        metadata["generation"] = 1
    _first_status(resource, value)
    return value


def _place(resource: Resource, namespace: str, metadata: Object) -> None:
    if not resource.namespaced:
        metadata.pop("namespace", None)
        return
    if metadata.get("namespace") not in (None, "", namespace):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace


def _name(resource: Resource, metadata: Object) -> None:
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + "".join(random.choices(_SUFFIX_LETTERS, k=5))
    name = metadata.get("name")
    if not name:
        raise invalid(resource, "", "metadata.name: Required value: name or generateName is required")
    allowed = _PATH_SEGMENT if resource.group == "rbac.authorization.k8s.io" else _SUBDOMAIN
    if not allowed.fullmatch(name):
        why = f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain is needed'
        raise invalid(resource, name, why)


def _first_status(resource: Resource, value: Object) -> None:
    """Status belongs to the status subresource; a node's is the exception, as kubelets register with it."""
    if resource.has_status and resource.plural != "nodes":
        value.pop("status", None)
    if resource is PODS:
        value["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    elif resource is NAMESPACES:
        labels = value["metadata"].get("labels") or {}
        name = value["metadata"]["name"]
        value["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": name}
        value["spec"] = {"finalizers": ["kubernetes"]}
        value["status"] = {"phase": "Active"}
    elif resource is CRDS:
        names = value["spec"]["names"]
        types = ("NamesAccepted", "Established")
        value["status"] = {
            "acceptedNames": names,
            "conditions": [{"type": name, "status": "True"} for name in types],
            "storedVersions": [version["name"] for version in value["spec"]["versions"]],
        }
    elif resource is EVENTS:
        _check_event(value)


def _check_event(value: Object) -> None:
    namespace = value["metadata"]["namespace"]
    involved = (value.get("involvedObject") or {}).get("namespace", "")
    if involved == namespace or (not involved and namespace in _NODE_EVENT_NAMESPACES):
        return
    why = f'involvedObject.namespace: Invalid value: "{involved}": does not match event.namespace'
    raise invalid(EVENTS, value["metadata"]["name"], why)


def changed_object(resource: Resource, old: Object, body: Any, *, status: bool) -> Object:
    """What an update stores; equal to ``old`` if it changes nothing. ``status``: by the subresource.

    Raises ApiError 400, 409 or 422.
    """
    new = check_type(resource, body)
    _check_identity(resource, old, new)
    metadata = new["metadata"]
    for name in ("namespace", "resourceVersion", *_SYSTEM_METADATA):
        metadata.pop(name, None)
        if name in old["metadata"]:
            metadata[name] = old["metadata"][name]
    for name in [name for name, item in metadata.items() if item is None or item in ({}, [])]:
        del metadata[name]
    new = _only_status(resource, old, new) if status else _all_but_status(resource, old, new)
    _check_finalizers(resource, old["metadata"], new["metadata"])
    if resource.counts_generation and _desired(old, resource) != _desired(new, resource):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return new


def check_patched(resource: Resource, old: Object, patched: Object) -> None:
    """A patch may name the object's uid, as a precondition, but not another. Raises ApiError 422."""
    given = (patched.get("metadata") or {}).get("uid")
    if given not in (None, "", old["metadata"]["uid"]):
        why = f'metadata.uid: Invalid value: "{given}": field is immutable'
        raise invalid(resource, old["metadata"]["name"], why)


def _check_identity(resource: Resource, old: Object, new: Object) -> None:
    was, given = old["metadata"], new["metadata"]
    name = was["name"]
    if given.setdefault("name", name) != name:
        raise bad_request(
            f"the name of the object ({given['name']}) does not match the name on the URL ({name})"
        )
    if given.get("namespace") not in (None, "", was.get("namespace")):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if given.get("uid") not in (None, "", was["uid"]):
        why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {was['uid']}"
        raise conflict(resource, name, why)
    if given.get("resourceVersion") not in (None, "", was["resourceVersion"]):
        raise modified(resource, name)


def _only_status(resource: Resource, old: Object, new: Object) -> Object:
    """A custom resource's status update changes nothing else, a built-in's may change labels and the like."""
    kept = {**old, "metadata": dict(old["metadata"] if resource.custom else new["metadata"])}
    kept.pop("status", None)
    return kept | ({"status": new["status"]} if "status" in new else {})


def _all_but_status(resource: Resource, old: Object, new: Object) -> Object:
    if not resource.has_status:
        return new
    new.pop("status", None)
    return new | ({"status": old["status"]} if "status" in old else {})


def _check_finalizers(resource: Resource, old: Object, new: Object) -> None:
    added = set(new.get("finalizers") or ()) - set(old.get("finalizers") or ())
    if added and old.get("deletionTimestamp"):
        why = (
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
            f"found new finalizers {sorted(added)}"
        )
        raise invalid(resource, new["name"], why)


def _desired(value: Object, resource: Resource) -> Object:
    """The part whose changes ``generation`` counts."""
    ignored = ("kind", "apiVersion", "metadata", *(("status",) if resource.has_status else ()))
    return {name: item for name, item in value.items() if name not in ignored}


def marked_for_deletion(old: Object, *, now: float) -> Object:
    """An object that waits for its finalizers to be removed; deleting it twice changes nothing."""
    metadata = old["metadata"]
    if metadata.get("deletionTimestamp"):
        return old
    marks = {"deletionTimestamp": timestamp(now), "deletionGracePeriodSeconds": 0}
    if "generation" in metadata:
        marks["generation"] = metadata["generation"] + 1
    return {**old, "metadata": {**metadata, **marks}}


def bound_pod(old: Object, name: str, binding: Any) -> Object:
    """A pod given its node by a Binding. Raises ApiError 400, or 409 if it has a node already."""
    target = (binding.get("target") or {}) if isinstance(binding, dict) else {}
    node = target.get("name")
    if not node:
        raise bad_request("a Binding needs target.name, the node")
    spec = old.get("spec") or {}
    if spec.get("nodeName"):
        raise conflict(BINDINGS, name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    return {**old, "metadata": dict(old["metadata"]), "spec": {**spec, "nodeName": node}}
