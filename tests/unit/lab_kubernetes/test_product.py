"""What the lab changes in the product's manifests, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.image import ingredients
from lab.kubernetes import binaries, manifest, product

_ALL = "Name:\tpython\nCapBnd:\t000001ffffffffff\n"
_WITHOUT_SYS_RESOURCE = "Name:\tpython\nCapBnd:\t000001fffeffffff\n"


def quiet(_text: str) -> None:
    """Nobody waits for these steps."""


def daemon_set(*capabilities: str) -> dict[str, Any]:
    container = {"name": "terway", "securityContext": {"capabilities": {"add": list(capabilities)}}}
    return {"kind": "DaemonSet", "spec": {"template": {"spec": {"containers": [container]}}}}


def test_a_capability_that_nobody_here_has_is_not_asked_for() -> None:
    item = daemon_set("NET_ADMIN", "SYS_RESOURCE", "SYS_ADMIN")
    assert product.given(item, _WITHOUT_SYS_RESOURCE) == daemon_set("NET_ADMIN", "SYS_ADMIN")


def test_a_machine_that_has_all_of_them_gives_all() -> None:
    item = daemon_set("NET_ADMIN", "SYS_RESOURCE")
    assert product.given(item, _ALL) == daemon_set("NET_ADMIN", "SYS_RESOURCE")


def test_other_objects_stay_as_they_are() -> None:
    item = {"kind": "ServiceAccount", "metadata": {"name": "terway"}}
    assert product.given(dict(item), _WITHOUT_SYS_RESOURCE) == item


def test_helm_takes_over_what_it_finds_marked_as_its_own() -> None:
    """Its rule: pkg/action/validate.go of helm.sh/helm/v3, checkOwnership."""
    for item in map(product.helms, manifest.read(product.MANIFESTS)):
        metadata = item["metadata"]
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert metadata["annotations"]["meta.helm.sh/release-name"] == "terway"
        assert metadata["annotations"]["meta.helm.sh/release-namespace"] == "kube-system"
        # Selectors and pods are as the chart has them.
        assert "app.kubernetes.io/managed-by" not in json.dumps(item.get("spec", {}))


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Archives as they are built; what they are made of is the text of a file."""
    made: list[Path] = []

    def build(path: Path) -> None:
        made.append(path)
        path.touch()

    monkeypatch.setattr(binaries, "CACHE", tmp_path)
    monkeypatch.setattr(product, "_build", build)
    monkeypatch.setattr(ingredients, "image", (tmp_path / "sources").read_text)
    (tmp_path / "sources").write_text("one")
    return made


def test_an_image_is_built_again_when_it_would_be_another(builds: list[Path], tmp_path: Path) -> None:
    assert product.needs_build()
    assert product.archive(quiet) == product.archive(quiet) == builds[0]
    assert not product.needs_build()
    (tmp_path / "sources").write_text("other")
    assert product.needs_build()
    product.archive(quiet)
    assert len(builds) == 2
    builds[0].unlink()
    assert product.needs_build()


def test_an_interrupted_build_is_done_again(
    builds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product.archive(quiet)
    (tmp_path / "sources").write_text("other")
    with monkeypatch.context() as patch:
        patch.setattr(product, "_build", interrupt)
        with pytest.raises(KeyboardInterrupt):
            product.archive(quiet)
    (tmp_path / "sources").write_text("one")
    product.archive(quiet)
    assert len(builds) == 2


def interrupt(_path: Path) -> None:
    raise KeyboardInterrupt
