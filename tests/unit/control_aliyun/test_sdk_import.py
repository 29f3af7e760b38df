"""The slim import of the SDK, in processes of its own: it must not touch this one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from control.aliyun.frames import HEADER_SIZE, body_size, decode, encode, read_frame

_SCRIPT = """
import json, sys
sys.path[:] = json.loads({path!r})
from importlib import import_module
from control.aliyun.sdk_import import slim
{before}
module = slim(lambda: import_module("alibabacloud_ecs20140526.client"))
from alibabacloud_ecs20140526 import models
tag = models.CreateNetworkInterfaceRequestTag(key="a", value="b")
request = models.CreateNetworkInterfaceRequest(tag=[tag])
print(json.dumps({{
    "request": request.to_map(),
    "loaded": sorted(name for name in ("aiohttp", "cryptography", "apscheduler") if hasattr(
        sys.modules.get(name), "__file__")),
    "models": sum(1 for name in sys.modules if name.startswith("alibabacloud_ecs20140526.models.")),
}}))
"""


def imported(before: str = "") -> tuple[dict[str, object], str]:
    script = _SCRIPT.format(path=json.dumps(sys.path), before=before)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result, done.stderr


def test_only_what_is_asked_for_is_loaded() -> None:
    result, complaints = imported()
    assert result["request"] == {"Tag": [{"Key": "a", "Value": "b"}]}
    assert result["loaded"] == []
    assert result["models"] == 1
    assert complaints == ""


def test_an_sdk_that_does_not_agree_is_imported_plainly() -> None:
    result, complaints = imported(
        "import control.aliyun.sdk_import as s; s._UNUSED = s._UNUSED | {'requests'}"
    )
    assert result["request"] == {"Tag": [{"Key": "a", "Value": "b"}]}
    assert "aiohttp" in str(result["loaded"])
    assert "imported plainly" in complaints


def test_frames_come_back_as_they_were() -> None:
    message = {"id": 1, "parameters": {"Name": "ü", "List": ["a", 2, None]}}
    data = encode(message)
    assert body_size(data[:HEADER_SIZE]) == len(data) - HEADER_SIZE
    assert decode(data[HEADER_SIZE:]) == message


@pytest.mark.parametrize("cut", [0, 2, HEADER_SIZE, HEADER_SIZE + 3])
def test_a_stream_that_ends_early_is_an_end(cut: int) -> None:
    data = memoryview(encode({"id": 1})[:cut])
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        position += size
        return bytes(data[position - size : position])

    assert read_frame(read) is None


def test_a_stream_out_of_step_is_noticed() -> None:
    with pytest.raises(ValueError, match="out of step"):
        body_size(b"HTTP")
    with pytest.raises(ValueError, match="JSON object"):
        decode(b"[1]")
