"""``./run lab pod ...``."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from lab.cli.labs import mark_the_gone, pod_table
from lab.cli.nodes import command_of, known
from lab.cli.terminal import attach
from lab.cli.words import Output, Words, pairs
from lab.client import Lab
from lab.commands import typed
from lab.kube_client import KubeError
from lab.messages import LabError
from lab.sandbox import PodOptions

_CONFLICT = 409


def declare(words: Words) -> None:
    pod = words.group("pod", "Work with pods: each is made by the CNI executable, as containerd calls it.")
    pod.on_lab("list", _list, "List the pods that the lab made.", "--json")
    add = pod.on_lab("add", _add, "Create a pod object and run the CNI's ADD for it.", "node1 default/web")
    add.add_argument("node", metavar="NODE")
    add.add_argument("pod", metavar="NAMESPACE/NAME")
    add.add_argument("--annotation", action="append", default=[], metavar="KEY=VALUE")
    add.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    delete = pod.on_lab("del", _delete, "Stop and remove a pod, and delete its object.", "default/web")
    delete.add_argument("pod", metavar="NAMESPACE/NAME")
    run = pod.on_lab(
        "exec", _exec, "Run a command in a pod's network namespace.", "default/web -- ip -brief addr"
    )
    run.add_argument("pod", metavar="NAMESPACE/NAME")
    run.add_argument("command", nargs="*", metavar="-- CMD", help="default: a shell")


def _key(text: str) -> tuple[str, str]:
    namespace, slash, name = text.rpartition("/")
    return (namespace if slash else "default"), name


def _list(lab: Lab, _args: argparse.Namespace) -> Output:
    status = lab.status()
    mark_the_gone(lab, status)
    records = sorted(status["pods"], key=lambda record: (record["namespace"], record["name"]))
    return Output(records, pod_table(records))


def _add(lab: Lab, args: argparse.Namespace) -> Output:
    namespace, name = _key(args.pod)
    node = known(lab, args.node)
    if not node.status()["running"]:
        raise LabError(
            f"node {node.name} is off; start it with `{typed(lab.name, f'node reboot {node.name}')}`"
        )
    annotations = {k: str(v) for k, v in pairs(args.annotation).items()}
    labels = {k: str(v) for k, v in pairs(args.label).items()}
    try:
        pod = lab.add_pod(node.name, namespace, name, PodOptions(annotations=annotations, labels=labels))
    except BaseException as exc:
        # Nobody retries here as a kubelet would: leave no object without a sandbox. Another's stays.
        if not (isinstance(exc, KubeError) and exc.status == _CONFLICT):
            lab.kubernetes.delete_pod(namespace, name)
        raise
    return Output(asdict(pod.record), pod_table([asdict(pod.record)]))


def _delete(lab: Lab, args: argparse.Namespace) -> Output:
    pod = lab.pod("/".join(_key(args.pod)))
    seconds = lab.delete_pod(pod)
    return Output(
        {"pod": pod.key, "del_seconds": seconds}, f"{pod.key} is gone, DEL took {seconds * 1000:.1f} ms"
    )


def _exec(lab: Lab, args: argparse.Namespace) -> Output:
    pod = lab.pod("/".join(_key(args.pod)))
    if args.json:
        result = pod.exec(command_of(args), timeout=3600.0)
        value = {"status": result.returncode, "stdout": result.stdout, "stderr": result.stderr}
        return Output(value, status=result.returncode)
    return Output(status=attach(pod.spawn, command_of(args)))
