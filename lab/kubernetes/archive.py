"""Container images as ``docker save`` writes them, without a daemon or a registry.

A docker-archive is a tar of layers (tars of files), of one JSON configuration per image that names its layers
by digest, and of manifest.json, which says what belongs together. Here all images of an archive share one
layer: what the network tests call by six names is on the disk once. The same input gives the same bytes.
Source: image-spec v1.2 of github.com/moby/docker-image-spec, which containerd imports.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

Link = tuple[str, str]
"""Path in the image, and what the symbolic link says."""
_DIRECTORIES = ("dev", "etc", "proc", "run", "sys", "tmp")
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"
_COPY = 1 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """One name of a layer, and what a container of that name runs."""

    reference: str
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()


def write(
    path: Path,
    reference: str,
    *,
    files: Mapping[str, Path | bytes],
    links: Iterable[Link] = (),
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
) -> None:
    """One image; see ``write_images``."""
    write_images(path, [Image(reference, entrypoint, command)], files=files, links=links)


def write_images(
    path: Path, images: Sequence[Image], *, files: Mapping[str, Path | bytes], links: Iterable[Link] = ()
) -> None:
    """Replace ``path`` by an archive of ``images``, which all have ``files`` and ``links``.

    ``files`` maps paths in the image (no leading slash) to files here or to contents; all are executable,
    root's, and of the year 1970. Raises OSError.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        layer = Path(scratch) / "layer"
        with layer.open("wb") as out:
            _write_layer(out, files, tuple(links))
        digest = _digest(layer)
        whole = Path(scratch) / "archive"
        with whole.open("wb") as out:
            _write_archive(out, images, layer, digest)
        whole.rename(path)


def _write_layer(out: BinaryIO, files: Mapping[str, Path | bytes], links: Sequence[Link]) -> None:
    names = [*files, *(path for path, _ in links)]
    targets = dict(links)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in _directories(names):
            tar.addfile(_entry(name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755))
        for name in sorted(set(names)):
            if name in targets:
                entry = _entry(name, tarfile.SYMTYPE, mode=0o777)
                entry.linkname = targets[name]
                tar.addfile(entry)
            else:
                _add(tar, name, files[name], mode=0o755)


def _directories(names: Iterable[str]) -> Iterator[str]:
    """Those that every container has mounts or files in, and the parents of ``names``; parents first."""
    parents = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    yield from sorted((parents | set(_DIRECTORIES)) - {"."})


def _write_archive(out: BinaryIO, images: Sequence[Image], layer: Path, digest: str) -> None:
    layer_name = f"{digest}.tar"
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, layer_name, layer)
        configurations: dict[str, bytes] = {}
        manifest = []
        for image in images:
            text = _configuration(image, digest)
            name = f"{hashlib.sha256(text).hexdigest()}.json"
            configurations[name] = text
            manifest.append({"Config": name, "RepoTags": [image.reference], "Layers": [layer_name]})
        for name, text in configurations.items():
            _add(tar, name, text)
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def _configuration(image: Image, digest: str) -> bytes:
    run: dict[str, object] = {"Env": [f"PATH={_SEARCH_PATH}"]}
    if image.entrypoint:
        run["Entrypoint"] = list(image.entrypoint)
    if image.command:
        run["Cmd"] = list(image.command)
    return json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()


def architecture() -> str:
    """Of this machine, in Go's words."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def _add(tar: tarfile.TarFile, name: str, source: Path | bytes, *, mode: int = 0o644) -> None:
    entry = _entry(name, tarfile.REGTYPE, mode=mode)
    if isinstance(source, bytes):
        entry.size = len(source)
        tar.addfile(entry, io.BytesIO(source))
        return
    with source.open("rb") as file:
        entry.size = os.fstat(file.fileno()).st_size
        tar.addfile(entry, file)


def _entry(name: str, kind: bytes, *, mode: int) -> tarfile.TarInfo:
    """Nothing of this machine's: owner 0, time 0."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = mode
    return entry


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_COPY):
            total.update(chunk)
    return total.hexdigest()
