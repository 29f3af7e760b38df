"""What the contract tests hold of a server: the official client's APIs, and requests in plain JSON."""

from __future__ import annotations

import json
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubernetes import client

Json = dict[str, Any]
_DEADLINE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Json

    @property
    def summary(self) -> tuple[int, str]:
        """Of a refusal: what clients branch on."""
        return self.status, str(self.body.get("reason"))


@dataclass(frozen=True, slots=True)
class Kube:
    api: client.ApiClient
    compact: Callable[[], object]
    """Make the server forget old revisions."""
    namespace: str = ""

    def within(self, namespace: str) -> Kube:
        return Kube(self.api, self.compact, namespace)

    @contextmanager
    def own_namespace(self) -> Iterator[Kube]:
        created = self.core.create_namespace({"metadata": {"generateName": "contract-"}})
        name = created.metadata.name
        try:
            yield self.within(name)
        finally:
            self.core.delete_namespace(name)

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    def request(
        self, method: str, path: str, body: Any = None, *, media_type: str = "application/json"
    ) -> Answer:
        """One request as it stands. ``path`` begins with / or is relative to the test's namespace."""
        response = self.raw(method, path, body, media_type)
        return Answer(response.status, json.loads(response.read()))

    def patch(self, path: str, body: Any, kind: str = "merge") -> Answer:
        suffix = {"json": "json-patch", "merge": "merge-patch", "strategic": "strategic-merge-patch"}[kind]
        return self.request("PATCH", path, body, media_type=f"application/{suffix}+json")

    def configmap(self, name: str, **metadata: Any) -> Json:
        """Create one and return it."""
        body = {"metadata": {"name": name, **metadata}, "data": {"key": "value"}}
        answer = self.request("POST", "configmaps", body)
        assert answer.status == 201, answer
        return answer.body

    def pod(self, name: str, **metadata: Any) -> Json:
        """Create one, bound to no node, and return it."""
        answer = self.request("POST", "pods", pod_body(name, **metadata))
        assert answer.status == 201, answer
        return answer.body

    def revision(self, path: str = "configmaps") -> str:
        """The latest one, as a list gives it."""
        answer = self.request("GET", path)
        assert answer.status == 200, answer
        return str(answer.body["metadata"]["resourceVersion"])

    @contextmanager
    def watch(self, path: str, **query: str) -> Iterator[Iterator[Json]]:
        """Events of one watch; reading beyond what the server sends in 30 s fails."""
        text = urllib.parse.urlencode({"watch": "true", **query})
        response = self.raw("GET", f"{path}?{text}", None, "application/json")
        try:
            assert response.status == 200, response.read()
            yield _events(response.response)
        finally:
            response.response.close()

    def raw(self, method: str, path: str, body: Any, media_type: str) -> Any:
        full = path if path.startswith("/") else f"/api/v1/namespaces/{self.namespace}/{path}"
        headers = {"Accept": "application/json", "Content-Type": media_type}
        arguments = self.api.param_serialize(
            method, full, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        return self.api.call_api(*arguments, _request_timeout=_DEADLINE_SECONDS)


def _events(response: Any) -> Iterator[Json]:
    rest = b""
    for chunk in response.stream(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (json.loads(line) for line in lines)


def seen(event: Mapping[str, Any]) -> tuple[str, str]:
    """(type, name of the object)."""
    return event["type"], event["object"]["metadata"]["name"]


def pod_body(name: str, *, node: str = "", **metadata: Any) -> Json:
    spec: Json = {"containers": [{"name": "main", "image": "none", "env": [{"name": "A", "value": "1"}]}]}
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name, **metadata}, "spec": spec}


def unique(prefix: str) -> str:
    """A name for what is not in the test's namespace."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"
