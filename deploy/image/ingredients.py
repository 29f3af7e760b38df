"""What the image is made of, as digests: the one definition of when it is made anew."""

from __future__ import annotations

import tomllib

from deploy.image import base, cache, stage
from deploy.image.stage import ROOT


def below() -> str:
    """Of what changes seldom: Debian's part and Python's packages."""
    recipe = (ROOT / "deploy" / "image" / "base.Containerfile").read_text()
    return cache.digest([base.name(), stage.dependencies_name(), recipe])


def image() -> str:
    """Of all but the image's name and the commit it is labelled with, the code that builds it included.

    Raises ImageError if the product's compiled parts are not there.
    """
    code = [path.read_bytes() for path in sorted((ROOT / "deploy" / "image").glob("*.py"))]
    version = str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    return cache.digest([below(), stage.product_digest(), version, *code])
