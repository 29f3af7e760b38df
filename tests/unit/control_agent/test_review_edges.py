"""The daemon's edges: a runtime that hangs up early, errors that nobody foresaw."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

from cni.wire import Frame
from control.agent.cni.service import CniService
from control.agent.cni.socket import CniSocket
from control.ipam import transitions
from control.model.errors import KernelError
from control.model.ids import AttachmentKey
from control.model.records import AttachmentState
from datapath.endpoint import Endpoint
from tests.unit.control_agent.rig import Rig
from tests.unit.control_agent.test_review_upkeep import upkeep_of
from tests.unit.control_agent.test_use_cases import run


def test_connections_that_end_before_their_request_are_forgotten(tmp_path: Path) -> None:
    async def nobody(_frame: Frame, _netns: int | None) -> tuple[int, bytes]:
        return 0, b""

    async def scenario() -> None:
        server = CniSocket(tmp_path / "eni.socket", nobody)
        server.listen()
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "eni.socket"))
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert not server._connections
        await server.close()

    run(scenario())


def test_an_unforeseen_error_is_an_answer_too() -> None:
    async def scenario() -> None:
        rig = Rig()

        async def broken(_key: AttachmentKey, _netns: int | None) -> None:
            raise KeyError("nobody foresaw this")

        rig.attachments.delete = broken  # type: ignore[method-assign, assignment]
        service = CniService(
            attachments=rig.attachments,
            journal=rig.journal,
            kernel=rig.kernel,
            holds=rig.holds,
            mtu=1500,
        )
        env = {
            "CNI_COMMAND": "DEL",
            "CNI_CONTAINERID": "c",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
        }
        stdin = json.dumps({"cniVersion": "1.0.0", "name": "terway", "type": "terway"}).encode()
        code, answer = await service.handle(Frame(env, stdin), None)
        assert code == 1
        assert "KeyError" in json.loads(answer)["details"]

    run(scenario())


def test_one_half_done_pod_that_the_kernel_refuses_does_not_hold_the_start_up() -> None:
    async def scenario() -> None:
        rig = Rig()
        for name in ("stuck", "ready"):
            await rig.add(name)
        stuck = rig.journal.book.attachments[AttachmentKey("c-stuck", "eth0")]
        rig.journal.record(transitions.begin_delete(stuck, rig.clock.now()))
        teardown = rig.kernel.teardown

        def refuse(endpoint: Endpoint, netns: int | None) -> None:
            del endpoint, netns
            raise KernelError("delete the link: Device or resource busy")

        rig.kernel.teardown = refuse  # type: ignore[method-assign]
        new = await rig.restarted()
        states = {k.container_id: a.state for k, a in new.journal.book.attachments.items()}
        assert states == {"c-stuck": AttachmentState.DELETING, "c-ready": AttachmentState.READY}
        new.kernel.teardown = teardown  # type: ignore[method-assign]
        await upkeep_of(new).collect()
        assert [a.pod.name for a in new.journal.book.attachments.values()] == ["ready"]
        new.assert_agree()

    run(scenario())
