"""Which kinds the API server knows: a table of the built-in ones, plus what CustomResourceDefinitions add."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.kube.status import ApiError, invalid

Object = dict[str, Any]
"""One JSON object as the API carries it. What is in the store is never changed in place."""


@dataclass(frozen=True, slots=True)
class FieldLabel:
    """A field that a field selector may name. ``path`` "" is the label itself."""

    path: str = ""
    default: str = ""
    """What the field counts as while it is absent."""


_PATH = FieldLabel()
_NAMES: Mapping[str, FieldLabel] = {"metadata.name": _PATH, "metadata.namespace": _PATH}


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource in one version. Versions of a group and plural share their objects."""

    group: str
    """"" is the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    has_status: bool = False
    counts_generation: bool = False
    """``metadata.generation`` goes up with every change of anything but metadata and status."""
    custom: bool = False
    fields: Mapping[str, FieldLabel] = field(default_factory=dict, hash=False, compare=False)

    @property
    def collection(self) -> str:
        """``pods``, ``leases.coordination.k8s.io``: the name errors use and objects are kept under."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def field_labels(self) -> Mapping[str, FieldLabel]:
        names = _NAMES if self.namespaced else {"metadata.name": _PATH}
        return {**names, **self.fields}


def _paths(*names: str, **defaults: str) -> dict[str, FieldLabel]:
    """Labels that are paths; a keyword gives the default of ``spec.<keyword>``."""
    labels = dict.fromkeys(names, _PATH)
    labels.update({f"spec.{name}": FieldLabel(default=value) for name, value in defaults.items()})
    return labels


_POD_FIELDS = _paths(
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
    hostNetwork="false",
)
_EVENT_FIELDS = {
    **_paths(
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    ),
    "source": FieldLabel("source.component"),
}

NAMESPACES = Resource(
    "", "v1", "namespaces", "Namespace", False, ("ns",), has_status=True, fields=_paths("status.phase")
)
NODES = Resource(
    "", "v1", "nodes", "Node", False, ("no",), has_status=True, fields=_paths(unschedulable="false")
)
PODS = Resource(
    "", "v1", "pods", "Pod", True, ("po",), has_status=True, counts_generation=True, fields=_POD_FIELDS
)
BINDINGS = Resource("", "v1", "pods/binding", "Binding")
"""A subresource, named only in errors."""
EVENTS = Resource("", "v1", "events", "Event", True, ("ev",), fields=_EVENT_FIELDS)
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap", True, ("cm",))
CRDS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    False,
    ("crd", "crds"),
    has_status=True,
    counts_generation=True,
)

_SERVICE_FIELDS = _paths("spec.clusterIP", "spec.type")
BUILT_IN: tuple[Resource, ...] = (
    NAMESPACES,
    NODES,
    PODS,
    EVENTS,
    CONFIGMAPS,
    CRDS,
    Resource("", "v1", "services", "Service", True, ("svc",), has_status=True, fields=_SERVICE_FIELDS),
    Resource("", "v1", "endpoints", "Endpoints", True, ("ep",)),
    Resource("", "v1", "serviceaccounts", "ServiceAccount", True, ("sa",)),
    Resource("", "v1", "secrets", "Secret", True, fields=_paths("type")),
    Resource("apps", "v1", "deployments", "Deployment", True, ("deploy",), True, True),
    Resource("apps", "v1", "daemonsets", "DaemonSet", True, ("ds",), True, True),
    Resource("apps", "v1", "statefulsets", "StatefulSet", True, ("sts",), True, True),
    Resource("apps", "v1", "replicasets", "ReplicaSet", True, ("rs",), True, True),
    Resource("batch", "v1", "jobs", "Job", True, (), True, True),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", counts_generation=True),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, ("netpol",), False, True),
    Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", False, has_status=True),
    Resource("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False),
    Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False),
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        namespaced=False,
        counts_generation=True,
    ),
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        namespaced=False,
        counts_generation=True,
    ),
)


class ResourceTable:
    """Look-up by group, version and plural. Thread-safe: readers see one whole table or the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._table = {(r.group, r.version, r.plural): r for r in BUILT_IN}

    def find(self, group: str, version: str, plural: str) -> Resource:
        """Raises ApiError 404 if there is no such resource."""
        found = self._table.get((group, version, plural))
        if found is None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource", {})
        return found

    def all(self) -> tuple[Resource, ...]:
        return tuple(self._table.values())

    def groups(self) -> dict[str, list[str]]:
        """Versions of every group but the core one, in the order they were added."""
        groups: dict[str, list[str]] = {}
        for resource in self.all():
            versions = groups.setdefault(resource.group, [])
            if resource.version not in versions:
                versions.append(resource.version)
        groups.pop("")
        return groups

    def define(self, resources: tuple[Resource, ...]) -> None:
        """Add the versions of one custom resource, or replace them."""
        with self._lock:
            collections = {resource.collection for resource in resources}
            kept = {key: r for key, r in self._table.items() if r.collection not in collections}
            self._table = kept | {(r.group, r.version, r.plural): r for r in resources}

    def remove(self, collection: str) -> None:
        with self._lock:
            self._table = {key: r for key, r in self._table.items() if r.collection != collection}


def resources_of(definition: Object) -> tuple[Resource, ...]:
    """The resources that a CustomResourceDefinition serves. Raises ApiError 422 if it is incomplete."""
    spec = definition.get("spec") or {}
    names = spec.get("names") or {}
    name = str((definition.get("metadata") or {}).get("name", ""))
    if not (spec.get("group") and names.get("plural") and names.get("kind") and spec.get("versions")):
        raise invalid(CRDS, name, "spec: Required value: group, names.plural, names.kind and versions")
    if name != f"{names['plural']}.{spec['group']}":
        raise invalid(CRDS, name, 'metadata.name: Invalid value: must be spec.names.plural+"."+spec.group')
    return tuple(
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec.get("scope") == "Namespaced",
            short_names=tuple(names.get("shortNames") or ()),
            has_status="status" in (version.get("subresources") or {}),
            counts_generation=True,
            custom=True,
        )
        for version in spec["versions"]
        if version.get("served", True)
    )
