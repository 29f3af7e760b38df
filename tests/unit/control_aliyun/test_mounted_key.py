"""A mounted access key that is exchanged under a running agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from control.aliyun.credentials import MountedKey
from control.config.credentials import Credentials, with_secret_files
from control.model.errors import ConfigError


def write(directory: Path, name: str, secret: str) -> None:
    (directory / "access-key-id").write_text(name)
    (directory / "access-key-secret").write_text(secret)


def test_the_next_use_has_the_new_one(tmp_path: Path) -> None:
    def read() -> tuple[str, str]:
        found = with_secret_files(Credentials(), tmp_path)
        return found.access_key, found.access_secret

    def used() -> tuple[str, str]:
        found = asyncio.run(key.get())
        return found.access_key_id, found.secret

    with pytest.raises(ConfigError):
        MountedKey(read)
    write(tmp_path, "LTAI1", "one")
    key = MountedKey(read)
    assert used() == ("LTAI1", "one")
    write(tmp_path, "LTAI2", "two")
    assert used() == ("LTAI2", "two")
    (tmp_path / "access-key-id").unlink()
    assert used() == ("LTAI2", "two"), "a half of one is none"
    (tmp_path / "access-key-id").mkdir()
    assert used() == ("LTAI2", "two"), "what cannot be read neither"
    (tmp_path / "access-key-id").rmdir()
    write(tmp_path, "LTAI3", "three")
    assert used() == ("LTAI3", "three")
