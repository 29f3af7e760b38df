"""What may be asked of a running lab over its control socket. ``lab.client`` has a typed method for each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

from lab import messages
from lab.clock import check_seconds
from lab.cloud.faults import Fault, MetadataFault
from lab.engine.control import Answer, Call, Handler
from lab.engine.offloads import make_wire_like
from lab.engine.running import RunningLab
from lab.fabric.capture import write_pcap
from lab.messages import LabError
from lab.spec import RuleSpec
from lab.spec_json import decode, decode_node, encode


def registry(lab: RunningLab) -> Mapping[str, Handler]:
    return {
        **_lab_verbs(lab),
        **_node_verbs(lab),
        **_pod_verbs(lab),
        **_cloud_verbs(lab),
        **_fabric_verbs(lab),
    }


def _lab_verbs(lab: RunningLab) -> Mapping[str, Handler]:
    def status(_call: Call) -> Any:
        return _status(lab)

    def spec(_call: Call) -> Any:
        return encode(lab.spec)

    def shutdown(_call: Call) -> Any:
        lab.shut_down()
        return True

    def netns(call: Call) -> Answer:
        return Answer(None, (os.dup(lab.namespace_fd(call.text("owner"))),))

    def stop_kubernetes(_call: Call) -> Any:
        lab.kubernetes.stop()

    def start_kubernetes(_call: Call) -> Any:
        lab.kubernetes.start()

    return {
        "status": status,
        "spec": spec,
        "shutdown": shutdown,
        "netns": netns,
        "kubernetes.stop": stop_kubernetes,
        "kubernetes.start": start_kubernetes,
        "kubernetes.requests": lambda _call: [list(r) for r in lab.kubernetes.requests],
    }


def _status(lab: RunningLab) -> Any:
    state = lab.state()
    running = lab.running_nodes()
    enis = {eni["id"]: eni for eni in state["enis"]}
    return {
        "name": lab.directory.name,
        "time": state["time"],
        "wire": lab.spec.wire,
        "mtu": lab.spec.mtu,
        "error": lab.reconciler.error,
        "kubernetes": lab.kubernetes.describe(),
        "nodes": [
            {
                "name": instance["name"],
                "running": instance["name"] in running,
                "instance": instance["id"],
                "type": instance["type"],
                "address": instance["private_ip"],
                "enis": [enis[eni] for eni in instance["enis"]],
            }
            for instance in state["instances"]
        ],
        "pods": list(lab.pods.values()),
    }


def _node_verbs(lab: RunningLab) -> Mapping[str, Handler]:
    def add(call: Call) -> Any:
        return lab.add_node(decode_node(call.request.get("spec")))

    def remove(call: Call) -> Any:
        lab.remove_node(call.text("name"))

    def kill(call: Call) -> Any:
        return lab.kill_node(lab.node(call.text("name")).name)

    def reboot(call: Call) -> Any:
        lab.reboot_node(call.text("name"))

    return {"add_node": add, "remove_node": remove, "kill_node": kill, "reboot_node": reboot}


def _pod_verbs(lab: RunningLab) -> Mapping[str, Handler]:
    def put(call: Call) -> Any:
        record = call.request.get("record")
        if not isinstance(record, dict):
            raise LabError("a pod's record is an object")
        lab.pods[call.text("key")] = record

    def drop(call: Call) -> Any:
        return lab.pods.pop(call.text("key"), None) is not None

    def listing(_call: Call) -> Any:
        return dict(lab.pods)

    def wire(call: Call) -> Any:
        """The file that came along is the pod's network namespace."""
        make_wire_like(call.files[0], lab.namespace_fd(call.text("node")))

    return {"put_pod": put, "drop_pod": drop, "pods": listing, "wire_pod": wire}


def _cloud_verbs(lab: RunningLab) -> Mapping[str, Handler]:
    cloud = lab.cloud

    def delays(call: Call) -> Any:
        changes = {k: float(v) for k, v in call.request.get("changes", {}).items()}
        unknown = sorted(set(changes) - set(asdict(cloud.delays)))
        if unknown:
            raise LabError(f"no delay {unknown[0]!r}; there are {', '.join(asdict(cloud.delays))}")
        for name, seconds in changes.items():
            check_seconds(name, seconds)
        if changes:
            cloud.set_delays(**changes)
        return asdict(cloud.delays)

    def occupy(call: Call) -> Any:
        return cloud.occupy(call.text("vswitch"), int(call.number("leave")))

    def fragment(call: Call) -> Any:
        return cloud.fragment(call.text("vswitch"))

    def release(call: Call) -> Any:
        cloud.release_occupied(call.text("vswitch"))

    def advance(call: Call) -> Any:
        return lab.clock.advance(call.number("seconds"))

    def edit_group(call: Call) -> Any:
        rules = {
            word: tuple(decode(RuleSpec, rule, word) for rule in call.request.get(word, ()))
            for word in ("add", "remove")
        }
        return encode(cloud.edit_group(call.text("group"), add=rules["add"], remove=rules["remove"]))

    def reset_calls(_call: Call) -> Any:
        cloud.reset_calls()

    def start_record(call: Call) -> Any:
        """Into the file that came along."""
        if len(call.files) != 1:
            raise LabError("start_record wants one open file to write to")
        file = os.dup(call.files[0])
        try:
            cloud.recorder.start(file)
        except ValueError:
            os.close(file)
            raise

    def settle(call: Call) -> Any:
        lab.reconciler.settle(call.number("timeout", 30.0))

    return {
        "ecs.state": lambda _call: cloud.describe_state(),
        "ecs.calls": lambda _call: cloud.calls(),
        "ecs.metadata_calls": lambda _call: cloud.metadata_calls(),
        "ecs.recent_calls": lambda _call: [asdict(c) for c in cloud.recent_calls()],
        "ecs.reset_calls": reset_calls,
        "ecs.start_record": start_record,
        "ecs.stop_record": lambda _call: list(cloud.recorder.stop()),
        "ecs.delays": delays,
        "ecs.occupy": occupy,
        "ecs.fragment": fragment,
        "ecs.release": release,
        "ecs.advance": advance,
        "ecs.edit_group": edit_group,
        "ecs.settle": settle,
        **_fault_verbs(lab),
    }


def _fault_verbs(lab: RunningLab) -> Mapping[str, Handler]:
    cloud = lab.cloud

    def add(call: Call) -> Any:
        fault = call.request.get("fault")
        if call.request.get("metadata"):
            return cloud.metadata_faults.add(decode(MetadataFault, fault, "fault"))
        return cloud.faults.add(decode(Fault, fault, "fault"))

    def listing(_call: Call) -> Any:
        return {
            "openapi": {str(n): asdict(f) for n, f in cloud.faults.listing().items()},
            "metadata": {str(n): asdict(f) for n, f in cloud.metadata_faults.listing().items()},
        }

    def remove(call: Call) -> Any:
        cloud.faults.remove(int(call.number("number")))

    def clear(_call: Call) -> Any:
        cloud.faults.clear()
        cloud.metadata_faults.clear()

    return {
        "ecs.add_fault": add,
        "ecs.faults": listing,
        "ecs.remove_fault": remove,
        "ecs.clear_faults": clear,
    }


def _fabric_verbs(lab: RunningLab) -> Mapping[str, Handler]:
    def counters(_call: Call) -> Any:
        return lab.fabric.counters()

    def drops(call: Call) -> Any:
        owner = call.request.get("owner")
        if owner is None:
            return lab.fabric.drops()
        total: Counter[str] = Counter()
        for port in lab.view().ports:
            if port.owner == owner:
                total.update(lab.fabric.drops(port.port_id))
        return dict(total)

    def faults(_call: Call) -> Any:
        owners = {port.port_id: port.owner for port in lab.view().ports}
        return [
            {"node": owners.get(port_id, ""), "eni": port_id, "reason": reason, "frames": frames}
            for port_id, drops in lab.fabric.drops_by_port().items()
            for reason, frames in drops.items()
        ]

    def port_counters(_call: Call) -> Any:
        return {port.port_id: lab.fabric.counters(port.port_id) for port in lab.view().ports}

    def capture(call: Call) -> Any:
        """Write to the file that came along until ``count`` frames are there or the client says no more.

        Answers twice: with the device's name once the tap is open, and with the number of frames at the end.
        """
        if len(call.files) != 1:
            raise LabError("capture wants one open file to write to")
        port = _port(lab, call.text("eni"))
        count = call.request.get("count")
        with lab.fabric.capture(port) as tap, call.until_hung_up() as gone, _writer(call.files[0]) as file:
            messages.send(call.connection, {"ok": lab.fabric.device(port)})
            return write_pcap(file, tap.frames(count=None if count is None else int(count), stop=gone))

    return {
        "counters": counters,
        "drops": drops,
        "faults": faults,
        "port_counters": port_counters,
        "capture": capture,
    }


def _writer(file: int) -> BinaryIO:
    return os.fdopen(os.dup(file), "wb")


def _port(lab: RunningLab, name: str) -> str:
    """A port's id by that id or by the MAC of its ENI; "cloud" and "outside" are ports too."""
    ports = lab.view().ports
    for port in ports:
        if name.lower() in (port.port_id, port.mac):
            return port.port_id
    raise LabError(f"no ENI {name!r} is plugged in; there are {', '.join(p.port_id for p in ports)}")
