"""The record of calls: what was asked and answered is in it, and nothing that opens a door."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from alibabacloud_ecs20140526 import models as ecs

from lab.cloud.faults import Drop, Fault
from lab.cloud.recording import Exchange, Recorder, as_line
from tests.unit.lab_cloud.bench import REGION, Bench
from tests.unit.lab_cloud.wire import Signed, acs3, rpc

STRANGERS_KEY = "LTAI5tSomebodysRealKey00"


class Record:
    def __init__(self, path: Path, recorder: Recorder) -> None:
        self.path = path
        self._recorder = recorder

    def lines(self) -> list[dict[str, Any]]:
        """Ends the record."""
        self._recorder.stop()
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def record(cloud: Bench, tmp_path: Path) -> Iterator[Record]:
    path = tmp_path / "calls"
    cloud.state.recorder.start(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    yield Record(path, cloud.state.recorder)
    cloud.state.recorder.stop()


def test_requests_and_answers_are_there(cloud: Bench, record: Record) -> None:
    eni = cloud.create(client_token="one-token").network_interface_id
    cloud.meta("instance-id")
    made, read = record.lines()
    assert (made["service"], made["action"], made["status"]) == ("openapi", "CreateNetworkInterface", 200)
    assert made["parameters"]["VSwitchId"] == "vsw-pods"
    assert made["parameters"]["ClientToken"] == "one-token"
    assert made["answer"]["NetworkInterfaceId"] == eni
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", made["time"])
    assert (read["service"], read["action"]) == ("metadata", "meta-data/instance-id")
    assert (read["status"], read["answer"]) == (200, "i-node1")


def test_refusals_and_calls_without_an_answer_are_there(cloud: Bench, record: Record) -> None:
    cloud.state.faults.add(Fault(action="DescribeInstances", drop=Drop.BEFORE, count=1))
    with pytest.raises(OSError):
        acs3(cloud, "DescribeInstances", {}).send(cloud)
    assert acs3(cloud, "NoSuchThing", {}).code(cloud)[0] == "InvalidAction.NotFound"
    dropped, unknown = record.lines()
    assert (dropped["status"], dropped["answer"]) == (0, {})
    assert (unknown["status"], unknown["answer"]["Code"]) == (404, "InvalidAction.NotFound")


def test_no_secret_of_the_lab_is_in_it(cloud: Bench, record: Record) -> None:
    """Each way that a secret takes through the services: signed, refused, quoted, handed out."""
    spec = cloud.state.spec
    role = json.loads(cloud.meta("ram/security-credentials/KubernetesWorkerRole"))
    token = cloud.get("api/token", method="PUT", X_aliyun_ecs_metadata_token_ttl_seconds="60")[1]
    cloud.get("meta-data/instance-id", token=token)
    of_role = cloud.ecs(key=role["AccessKeyId"], secret=role["AccessKeySecret"], token=role["SecurityToken"])
    of_role.describe_instances(ecs.DescribeInstancesRequest(region_id=REGION))
    signatures = [*_calls(cloud)]
    stranger = rpc(cloud, "DescribeInstances", {})
    stranger.query["AccessKeyId"] = STRANGERS_KEY
    assert stranger.code(cloud)[0] == "InvalidAccessKeyId.NotFound"
    in_a_parameter = acs3(cloud, "DescribeInstances", {"InstanceName": spec.access_secret})
    in_a_parameter.send(cloud)
    told = record.path.read_bytes().decode()
    assert len(record.lines()) >= 8
    secrets = {
        "access key": spec.access_key,
        "access secret": spec.access_secret,
        "role's key": role["AccessKeyId"],
        "role's secret": role["AccessKeySecret"],
        "role's token": role["SecurityToken"],
        "session token": token,
        "a stranger's key": STRANGERS_KEY,
        **{f"signature {i}": text for i, text in enumerate(signatures)},
    }
    for what, secret in secrets.items():
        assert len(secret) > 8, what
        for written in (secret, quote(secret, safe=""), quote(quote(secret, safe=""), safe="")):
            assert written not in told, what
        assert base64.b64encode(secret.encode()).decode().rstrip("=") not in told, what


@pytest.mark.parametrize(
    ("parameters", "answer"),
    [
        ({"InstanceName": STRANGERS_KEY}, {}),
        ({"AccessKeyId": "short", "Signature": "short"}, {}),
        ({"Password": "short"}, {"Credentials": {"AccessKeySecret": "short", "SecurityToken": "short"}}),
        ({}, {"Message": "server string to sign is:GET&%2F&AccessKeyId%3Dshort"}),
        ({}, {"Nested": [{"Authorization": "short"}]}),
    ],
)
def test_what_looks_secret_is_removed_whoever_it_belongs_to(
    parameters: dict[str, str], answer: dict[str, object]
) -> None:
    line = as_line(Exchange("openapi", "POST", "A", parameters, "", 200, answer, 0.0), ()).decode()
    assert "short" not in line
    assert STRANGERS_KEY not in line


def _calls(cloud: Bench) -> Iterator[str]:
    """A good and an altered call of each style; their signatures."""
    good = rpc(cloud, "DescribeInstances", {})
    assert good.code(cloud)[0] == ""
    yield good.query["Signature"]
    bad = rpc(cloud, "DescribeInstances", {})
    bad.query["InstanceName"] = "altered"
    assert bad.code(cloud)[0] == "SignatureDoesNotMatch"
    yield bad.query["Signature"]
    for altered in (False, True):
        signed = acs3(cloud, "DescribeInstances", {})
        if altered:
            signed.query["InstanceName"] = "altered"
        assert signed.code(cloud)[0] == ("SignatureDoesNotMatch" if altered else "")
        yield _signature(signed)


def _signature(signed: Signed) -> str:
    authorization = next(v for k, v in signed.headers.items() if k.lower() == "authorization")
    return authorization.rpartition("Signature=")[2]


def test_it_is_off_until_it_is_asked_for(cloud: Bench) -> None:
    assert not cloud.state.recorder.running
    cloud.meta("instance-id")
    assert cloud.state.recorder.stop() == (0, "")


def test_its_size_is_bounded(tmp_path: Path) -> None:
    recorder, path = Recorder(), tmp_path / "calls"
    exchange = Exchange("openapi", "POST", "DescribeInstances", {}, "10.0.0.1", 200, {}, 0.0)
    most = 3 * len(as_line(exchange, ())) + 1
    recorder.start(os.open(path, os.O_WRONLY | os.O_CREAT), most)
    for _ in range(5):
        recorder.add(exchange, ())
    assert path.stat().st_size <= most
    assert len(path.read_text().splitlines()) == 3
    assert recorder.stop() == (3, f"3 calls, and it was full at {most} bytes")


def test_a_full_disk_ends_the_record_and_not_the_call() -> None:
    recorder = Recorder()
    recorder.start(os.open("/dev/full", os.O_WRONLY))
    recorder.add(Exchange("openapi", "POST", "DescribeInstances", {}, "", 200, {}, 0.0), ())
    assert not recorder.running
    assert recorder.stop() == (0, "0 calls, then: No space left on device")


def test_one_at_a_time(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.start(os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT))
    second = os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(ValueError, match="being recorded already"):
            recorder.start(second)
    finally:
        os.close(second)
    assert recorder.stop() == (0, "")
