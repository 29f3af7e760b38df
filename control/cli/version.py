"""The version of this product. A test holds it equal to pyproject.toml, which an image does not ship."""

from __future__ import annotations

VERSION = "0.1.0"
