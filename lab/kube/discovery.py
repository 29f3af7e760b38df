"""What a client asks before it asks for objects: API groups, their resources, the server's version."""

from __future__ import annotations

from lab.kube.resources import Object, Resource, ResourceTable

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
VERSION: Object = {
    "major": "1",
    "minor": "35",
    "gitVersion": "v1.35.0-lab",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}


def core_versions() -> Object:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list(table: ResourceTable) -> Object:
    groups = [_group(name, versions) for name, versions in table.groups().items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(table: ResourceTable, name: str) -> Object | None:
    versions = table.groups().get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions else None


def resource_list(table: ResourceTable, group: str, version: str) -> Object | None:
    """None if there is no such group and version."""
    found = [r for r in table.all() if (r.group, r.version) == (group, version)]
    if not found:
        return None
    entries = [entry for resource in found for entry in _entries(resource)]
    group_version = found[0].api_version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": entries,
    }


def _group(name: str, versions: list[str]) -> Object:
    named = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": named, "preferredVersion": named[0]}


def _entries(resource: Resource) -> list[Object]:
    base: Object = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _VERBS,
    }
    if resource.short_names:
        base["shortNames"] = list(resource.short_names)
    if not resource.has_status:
        return [base]
    status = base | {
        "name": f"{resource.plural}/status",
        "singularName": "",
        "verbs": ["get", "patch", "update"],
    }
    status.pop("shortNames", None)
    return [base, status]
