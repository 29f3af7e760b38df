"""The runtime's copy of the CNI configuration: written when the socket serves, and not before."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from control.model.errors import ConfigError

_OTHER = {".conf": ".conflist", ".conflist": ".conf"}


def install_cni_conf(source: Path, target: Path) -> None:
    """Copy ``source`` into the directory ``target`` by rename; conflist and conf take each other's place.

    A runtime that reads the directory sees the old file or the new one, never a part. Raises ConfigError.
    """
    destination = target / source.name
    if destination == source or (destination.exists() and destination.samefile(source)):
        return
    try:
        target.mkdir(parents=True, exist_ok=True)
        fresh = target / f".{source.name}.{os.getpid()}"
        fresh.write_bytes(source.read_bytes())
        fresh.chmod(0o644)
        fresh.rename(destination)
        with contextlib.suppress(FileNotFoundError):
            destination.with_suffix(_OTHER[source.suffix]).unlink()
    except OSError as exc:
        raise ConfigError(
            f"cannot write the CNI configuration to {target}: {exc.strerror}",
            remedy="mount the node's /etc/cni/net.d there writable, or give -cni-conf-target",
        ) from exc
