"""With whose rights the cloud is called. Nothing here ever shows a secret: not repr, not an error."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from cni.fields import Fields
from control.model.errors import ConfigError

SECRET_DIRECTORY = Path("/var/alibaba-addon-secret")
"""Where a Secret with the files ``access-key-id`` and ``access-key-secret`` is mounted."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """All "": the RAM role of the instance, through the metadata service."""

    access_key: str = field(default="", repr=False)
    """``access_key``: id of the access key."""
    access_secret: str = field(default="", repr=False)
    """``access_secret``: its secret."""
    credential_path: str = ""
    """``credential_path``: file with an encrypted STS token, as ACK's addons get one."""

    @property
    def has_key(self) -> bool:
        return bool(self.access_key and self.access_secret)


def read_credentials(fields: Fields) -> tuple[Credentials, tuple[str, ...]]:
    """The settings and warnings about them. Raises FieldError."""
    found = Credentials(
        fields.secret("access_key"), fields.secret("access_secret"), fields.text("credential_path")
    )
    if found.has_key or not (found.access_key or found.access_secret):
        return found, ()
    given, missing = ("access_key", "access_secret") if found.access_key else ("access_secret", "access_key")
    return found, (f"{given} is set and {missing} is not: neither is used",)


def with_secret_files(configured: Credentials, directory: Path = SECRET_DIRECTORY) -> Credentials:
    """The key of the mounted Secret, if both its files are there and not empty; else as configured.

    Raises ConfigError for a file that is there and cannot be read.
    """
    access_key = _read(directory / "access-key-id")
    access_secret = _read(directory / "access-key-secret")
    if not (access_key and access_secret):
        return configured
    return replace(configured, access_key=access_key, access_secret=access_secret)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise ConfigError(
            f"cannot read {path}: {why}", remedy="mount a Secret with two text files, or none at all"
        ) from exc
