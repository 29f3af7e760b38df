from __future__ import annotations


class ImageError(Exception):
    """One line for who builds: what was tried, and what to do."""
