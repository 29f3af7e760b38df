"""An ENI that somebody detaches and attaches again: the same MAC, with another number of its link."""

from __future__ import annotations

import http.client
import time
import uuid
from urllib.parse import urlencode

from datapath import namespace
from lab.cloud.signature import rpc_signature, rpc_string_to_sign
from lab.messages import LabError
from lab.spec import OPENAPI_ADDRESS
from perf.drift.item import Change, Item, Shown, Thing
from perf.drift.scene import Scene

_DEADLINE = 60.0
_POLL = 0.1
_WAY = Shown("ip -4 route get {far4} from {ip4} iif {link} | grep -o 'dev [a-z0-9]*' || true")
"""By which link the pod's packets leave; numbers of links and tables are new by right."""


def items() -> tuple[Item, ...]:
    harms = "all of the ENI's pods beyond the node"
    return (Item("eni-replugged", Thing.LINK, Change.IMPOSTOR, _replug, _WAY, harms, spoils=True),)


def _replug(scene: Scene) -> None:
    which = {"InstanceId": scene.node.instance_id, "NetworkInterfaceId": scene.names["eni_id"]}
    _until(scene, "DetachNetworkInterface", which)
    _until(scene, "AttachNetworkInterface", which)
    deadline = time.monotonic() + _DEADLINE
    while not scene.run("ip -o link show | grep {eni_mac} | grep -v '^{eni_index}: '", check=False):
        if time.monotonic() > deadline:
            raise LabError("the ENI that was attached again has no link")
        time.sleep(_POLL)


def _until(scene: Scene, action: str, parameters: dict[str, str]) -> None:
    """Until ECS takes it: an ENI that is detaching cannot be attached yet."""
    deadline = time.monotonic() + _DEADLINE
    while True:
        status, body = _call(scene, action, parameters)
        if status == 200:
            return
        if time.monotonic() > deadline:
            raise LabError(f"{action} is refused: {body}")
        time.sleep(_POLL)


def _call(scene: Scene, action: str, parameters: dict[str, str]) -> tuple[int, str]:
    """One request of the older style, from the node, by the lab's access key."""
    spec = scene.lab.spec
    asked = {
        "Action": action,
        "Version": "2014-05-26",
        "Format": "JSON",
        "RegionId": spec.region,
        "AccessKeyId": spec.access_key,
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": uuid.uuid4().hex,
        "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(scene.lab.cloud.advance(0))),
        **parameters,
    }
    text = rpc_string_to_sign("GET", tuple(asked.items()))
    asked["Signature"] = rpc_signature(text, spec.access_secret)
    connection = http.client.HTTPConnection(str(OPENAPI_ADDRESS), timeout=_DEADLINE)
    with namespace.entered(scene.netns):
        connection.connect()
    try:
        connection.request("GET", f"/?{urlencode(asked)}")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
