"""From a URL to what it asks for: the paths and query parameters of the Kubernetes API."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from lab.kube.resources import PODS, ResourceTable
from lab.kube.selectors import parse_filter
from lab.kube.status import ApiError, bad_request
from lab.kube.store import ListQuery, Target
from lab.kube.watching import WatchQuery

_TRUE = ("1", "true", "True", "t")
_DEFAULT_WATCH_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Url:
    """``parts`` of the path without empty ones, and the query's last value of each name."""

    parts: tuple[str, ...]
    query: Mapping[str, str]

    def flag(self, name: str) -> bool:
        return self.query.get(name, "") in _TRUE

    def text(self, name: str) -> str:
        return self.query.get(name, "")


def parse_url(path: str) -> Url:
    split = urllib.parse.urlsplit(path)
    parts = tuple(urllib.parse.unquote(part) for part in split.path.split("/") if part)
    return Url(parts, dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True)))


def names_resource(parts: tuple[str, ...]) -> bool:
    """Whether a path goes deeper than the discovery documents."""
    depth = {"api": 3, "apis": 4}.get(parts[0], 0) if parts else 0
    return 0 < depth <= len(parts)


def parse_target(table: ResourceTable, parts: tuple[str, ...]) -> Target:
    """``/api/v1/...`` or ``/apis/GROUP/VERSION/...``. Raises ApiError 404."""
    if parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    else:
        group, version, rest = parts[1], parts[2], parts[3:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
        namespace, rest = rest[1], rest[2:]
    resource = table.find(group, version, rest[0])
    name, subresource = (*rest[1:3], "", "")[:2]
    target = Target(resource, namespace, name, subresource)
    if len(rest) > 3 or not _exists(target):
        raise ApiError(404, "NotFound", "the server could not find the requested resource", {})
    return target


def _exists(target: Target) -> bool:
    """Whether scope and subresource fit the resource. A list over all namespaces needs no namespace."""
    if target.namespace and not target.resource.namespaced:
        return False
    if target.name and target.resource.namespaced and not target.namespace:
        return False
    if target.subresource == "binding":
        return target.resource is PODS
    return not target.subresource or (target.subresource == "status" and target.resource.has_status)


def parse_list(target: Target, url: Url) -> ListQuery:
    """Raises ApiError 400."""
    revision = _revision(url.text("resourceVersion"))
    limit = _number("limit", url.text("limit"))
    if url.text("resourceVersion") == "0":
        limit = 0  # as in kube-apiserver, whose cache answers whole and at once
    match = url.text("resourceVersionMatch")
    token = url.text("continue")
    if token and revision:
        raise bad_request("specifying resource version is not allowed when using continue")
    return ListQuery(
        filter=parse_filter(
            target.resource,
            target.namespace,
            fields=url.text("fieldSelector"),
            labels=url.text("labelSelector"),
        ),
        limit=limit,
        continue_token=token,
        revision=revision,
        exact=bool(revision) and (match == "Exact" or (not match and limit > 0)),
    )


def parse_watch(target: Target, url: Url) -> WatchQuery:
    """Raises ApiError 400."""
    listed = parse_list(target, url)
    seconds = _number("timeoutSeconds", url.text("timeoutSeconds"))
    return WatchQuery(
        filter=listed.filter,
        revision=listed.revision,
        seconds=float(seconds) or _DEFAULT_WATCH_SECONDS,
        bookmarks=url.flag("allowWatchBookmarks"),
        initial_events=url.flag("sendInitialEvents"),
    )


def _revision(text: str) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise bad_request(f'resourceVersion: Invalid value: "{text}": a number is needed')
    return int(text)


def _number(name: str, text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise bad_request(f'{name}: Invalid value: "{text}": a number of 0 or more is needed')
    return int(text or 0)
