"""Refusals, as the Status objects that Kubernetes clients read: code, reason, message and details.

The texts and reasons follow k8s.io/apimachinery's errors, since clients branch on ``reason`` and people
read ``message``.
"""

from __future__ import annotations

from typing import Any, Protocol


class Named(Protocol):
    """What an error needs to know of a resource."""

    @property
    def plural(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def collection(self) -> str: ...


class ApiError(Exception):
    """The request was refused with HTTP status ``code`` and a Status body."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def body(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        return status | {"code": self.code}


def _details(resource: Named, name: str) -> dict[str, Any]:
    group = {"group": resource.group} if resource.group else {}
    return {"name": name, **group, "kind": resource.plural}


def not_found(resource: Named, name: str) -> ApiError:
    message = f'{resource.collection} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(resource, name))


def already_exists(resource: Named, name: str) -> ApiError:
    message = f'{resource.collection} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(resource, name))


def conflict(resource: Named, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource.collection} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def modified(resource: Named, name: str) -> ApiError:
    return conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )


def invalid(resource: Named, name: str, why: str) -> ApiError:
    """``why`` is ``field: Kind of error: text``; the field becomes a cause of its own."""
    field, _, text = why.partition(": ")
    cause = {"reason": "FieldValueInvalid", "message": text, "field": field}
    if text.startswith("Required"):
        cause["reason"] = "FieldValueRequired"
    group = {"group": resource.group} if resource.group else {}
    named = {"name": name} if name else {}
    details = {**named, **group, "kind": resource.kind, "causes": [cause]}
    qualified = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return ApiError(422, "Invalid", f'{qualified} "{name}" is invalid: {why}', details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(resource: Named, name: str, why: str) -> ApiError:
    message = f'{resource.collection} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(resource, name))


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, {})


def unsupported_media_type(accepted: tuple[str, ...]) -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", message + ", ".join(accepted))


def too_large_revision(asked: int, current: int) -> ApiError:
    """The client has seen a later revision than this server: it must wait, or ask without one."""
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    return ApiError(504, "Timeout", message, details)
