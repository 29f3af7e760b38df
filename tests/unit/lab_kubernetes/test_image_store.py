"""Unpacked images that one node leaves to later ones, and what must not be shared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.kubernetes import image_store
from lab.kubernetes.image_store import ImageStore


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(b"first")
    return path


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """As containerd leaves it."""
    root = tmp_path / "containerd"
    for plugin, name, content in (
        ("io.containerd.metadata.v1.bolt", "meta.db", "names"),
        ("io.containerd.snapshotter.v1.overlayfs", "metadata.db", "layers"),
        ("io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/bin", "sh", "a shell"),
    ):
        (root / plugin).mkdir(parents=True, exist_ok=True)
        (root / plugin / name).write_text(content)
    (root / "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/tmp").mkdir(mode=0o1777)
    os.symlink("sh", root / "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/bin/ash")
    return root


def store(tmp_path: Path, archive: Path) -> ImageStore:
    return ImageStore(tmp_path / "cache", [str(archive)])


def files(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


def test_nothing_is_given_before_something_is_kept(tmp_path: Path, archive: Path) -> None:
    assert not store(tmp_path, archive).give(tmp_path / "node")
    assert not (tmp_path / "node").exists()


def test_layers_are_shared_and_databases_are_not(tmp_path: Path, archive: Path, unpacked: Path) -> None:
    before = files(unpacked)
    store(tmp_path, archive).keep(unpacked)
    assert store(tmp_path, archive).give(tmp_path / "node")
    assert files(tmp_path / "node") == before
    shell = "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/bin/sh"
    assert (tmp_path / "node" / shell).stat().st_ino == (unpacked / shell).stat().st_ino
    own = tmp_path / "node" / "io.containerd.metadata.v1.bolt" / "meta.db"
    own.write_text("changed by a node")
    assert store(tmp_path, archive).give(tmp_path / "other")
    assert files(tmp_path / "other") == files(unpacked) == before


def test_modes_and_links_are_those_of_the_layer(tmp_path: Path, archive: Path, unpacked: Path) -> None:
    store(tmp_path, archive).keep(unpacked)
    store(tmp_path, archive).give(tmp_path / "node")
    layer = tmp_path / "node/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs"
    original = unpacked / "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs"
    assert (layer / "tmp").stat().st_mode == (original / "tmp").stat().st_mode
    assert (layer / "bin" / "ash").readlink() == Path("sh")


def test_another_archive_is_another_store(tmp_path: Path, archive: Path, unpacked: Path) -> None:
    store(tmp_path, archive).keep(unpacked)
    archive.write_bytes(b"second, longer")
    later = store(tmp_path, archive)
    assert not later.give(tmp_path / "node")
    later.keep(unpacked)
    assert later.give(tmp_path / "node")


def test_only_the_latest_stores_are_kept(tmp_path: Path, archive: Path, unpacked: Path) -> None:
    for size in range(1, 7):
        archive.write_bytes(b"x" * size)
        store(tmp_path, archive).keep(unpacked)
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert store(tmp_path, archive).give(tmp_path / "node"), "the latest is among them"


def test_another_file_system_is_no_obstacle(
    tmp_path: Path, archive: Path, unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = image_store._cp
    monkeypatch.setattr(
        image_store, "_cp", lambda how, source, target: how != "--link" and whole(how, source, target)
    )
    store(tmp_path, archive).keep(unpacked)
    assert store(tmp_path, archive).give(tmp_path / "node")
    assert files(tmp_path / "node") == files(unpacked)


def test_a_store_that_vanishes_meanwhile_leaves_nothing_half(
    tmp_path: Path, archive: Path, unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, archive).keep(unpacked)
    monkeypatch.setattr(image_store, "_cp", lambda _how, _source, target: target.mkdir(exist_ok=True))
    assert not store(tmp_path, archive).give(tmp_path / "node")
    assert not (tmp_path / "node").exists()
