from __future__ import annotations

from pathlib import Path

import pytest

from control.config.credentials import Credentials, with_secret_files
from control.model.errors import ConfigError

CONFIGURED = Credentials("AK", "secret", "/token")


def test_mounted_key_goes_before_the_configured_one(tmp_path: Path) -> None:
    (tmp_path / "access-key-id").write_text("LTAI\n")
    assert with_secret_files(CONFIGURED, tmp_path) == CONFIGURED, "one file of two does not count"
    (tmp_path / "access-key-secret").write_text(" other \n")
    assert with_secret_files(CONFIGURED, tmp_path) == Credentials("LTAI", "other", "/token")
    (tmp_path / "access-key-secret").write_text("\n")
    assert with_secret_files(CONFIGURED, tmp_path) == CONFIGURED


def test_nothing_mounted(tmp_path: Path) -> None:
    assert with_secret_files(Credentials(), tmp_path / "absent") == Credentials()
    assert not Credentials().has_key


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "access-key-id").mkdir()
    with pytest.raises(ConfigError, match="access-key-id: Is a directory"):
        with_secret_files(CONFIGURED, tmp_path)
    (tmp_path / "access-key-id").rmdir()
    (tmp_path / "access-key-id").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="access-key-id: not UTF-8"):
        with_secret_files(CONFIGURED, tmp_path)


def test_never_shown() -> None:
    assert repr(CONFIGURED) == "Credentials(credential_path='/token')"
