"""One tree's part of ``./run perf beside``: a lab with one node, and ADDs and DELs of it in batches.

Started as ``python -c TEXT`` in the tree that is measured, so it imports that tree's lab, plugin and agent,
and uses of them only what the release before has too. Reads a JSON line ``{"what", "count"}`` and answers
one: seconds per call and the agent's processor seconds. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from lab.client import Lab
from lab.nodes import agent
from lab.spec import Delays, LabSpec, NodeSpec
from perf.add import NAMESPACE, POOL, TYPE, Runtime, await_idle


def _processor(pid: int) -> float:
    """Seconds that the process's threads have run on a processor."""
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in stats) / 1e9


def _resident(pid: int) -> float:
    """MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Turn:
    def __init__(self, lab: Lab, node: Any) -> None:
        self._lab = lab
        self._node = node
        self._runtime = Runtime(lab, node)
        self._pid = int(node.agent_pid)
        self._made: dict[int, Any] = {}
        self._present = 0

    def answer(self, what: str, count: int) -> dict[str, Any]:
        match what:
            case "batch":
                return self._batch("sequential", count)
            case "burst":
                return self._batch("burst", count)
            case "present":
                for i in range(self._present, count):
                    self._lab.add_pod(self._node.name, NAMESPACE, f"present-{i}")
                self._present = max(count, self._present)
                return {}
            case _:
                return {
                    "pid": self._pid,
                    "processor": _processor(self._pid),
                    "resident": _resident(self._pid),
                }

    def _batch(self, mode: str, count: int) -> dict[str, Any]:
        if count not in self._made:
            self._made[count] = self._runtime.sandboxes(count, f"b{count}")
        await_idle(self._node, count)
        told: dict[str, Any] = {}
        for verb in ("ADD", "DEL"):
            before = _processor(self._pid)
            done = self._runtime.call(verb, mode, self._made[count])
            told[verb] = {
                "seconds": done["seconds"],
                "wall": done["wall"],
                "processor": (_processor(self._pid) - before) / count,
            }
        return told


def main(stack: str) -> None:
    spec = LabSpec(nodes=(NodeSpec("node1", TYPE),), delays=Delays(metadata=0.0, device=0.0, attach=0.0))
    with Lab.start(spec, name=f"turn-{os.getpid()}") as lab:
        node = lab.node("node1")
        node.install_cni()
        conf = agent.eni_conf(spec, ip_stack=stack, min_pool_size=POOL, max_pool_size=POOL, ip_cool_down="0s")
        node.write_config(conf)
        node.start_agent()
        await_idle(node, POOL)
        turn = Turn(lab, node)
        print(json.dumps({}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps(turn.answer(asked["what"], asked["count"])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
