"""``./run cluster``: a Kubernetes in the lab's VPC, from up to down."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from datapath.errors import KernelError
from lab import commands
from lab.cli.terminal import attach
from lab.client import Lab, take_down
from lab.kubernetes import cluster, command_line, images, kubectl, load, options, status
from lab.kubernetes.cluster import Wanted
from lab.kubernetes.command_line import UsageError
from lab.kubernetes.commands import typed
from lab.messages import LabError
from lab.nodes.node import LabNode


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is what ``--help`` says of it."""
    try:
        args = command_line.parse(sys.argv[1:] if argv is None else argv)
        if os.geteuid() != 0:
            raise LabError("a cluster makes namespaces and runs containers: run it as root")
        return _run(args)
    except UsageError as exc:
        return _fail(str(exc), 2)
    except (LabError, KernelError, ValueError, OSError, subprocess.SubprocessError) as exc:
        return _fail(" ".join(str(exc).split()), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 1)


def _fail(text: str, code: int) -> int:
    print(f"cluster: {text}", file=sys.stderr)
    return code


def _run(args: argparse.Namespace) -> int:
    match args.word:
        case "up":
            return _up(args)
        case "down":
            was = take_down(args.name)
            _print(args, {"was_up": was}, "the cluster is down" if was else "there is no cluster")
        case "status":
            _show(args, _cluster(args.name))
        case "load":
            return _load(args)
        case "kubectl":
            return kubectl.attach(_cluster(args.name), args.command)
        case "shell":
            return kubectl.shell(_cluster(args.name), args.command)
        case _:
            return attach(_node(_cluster(args.name), args.node).spawn, args.command or ["bash"])
    return 0


def _print(args: argparse.Namespace, value: object, text: str) -> None:
    print(json.dumps(value) if args.json else text)


def _show(args: argparse.Namespace, lab: Lab) -> None:
    print(json.dumps(status.value(lab)) if args.json else status.text(lab))


def _cluster(name: str) -> Lab:
    """The one that is up. Raises LabError."""
    lab = _running(name)
    if lab is None:
        raise LabError(f"there is no cluster; bring one up with `{typed(name, 'up')}`")
    return lab


def _running(name: str) -> Lab | None:
    """None if nobody answers: a killed one has left its socket."""
    try:
        return Lab.attach(name)
    except LabError:
        return None


def _node(lab: Lab, name: str) -> LabNode:
    """One that runs. Raises LabError that says which there are, or how to boot it."""
    running = {node["name"]: bool(node["running"]) for node in lab.status()["nodes"]}
    if name not in running:
        raise LabError(f"no node {name!r}; there are {', '.join(running) or 'none'}")
    if not running[name]:
        raise LabError(f"{name} is off; boot it with `{commands.typed(lab.name, 'node reboot', name)}`")
    return lab.node(name)


def _load(args: argparse.Namespace) -> int:
    lab = _cluster(args.name)
    done = load.load(lab, args.archive)
    _print(args, asdict(done), load.render(lab, done, args.archive))
    return 1 if done.lacking else 0


def _up(args: argparse.Namespace) -> int:
    wanted = command_line.wanted(args)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[cluster] {time.monotonic() - began:5.1f} s  {text}", file=sys.stderr, flush=True)

    lab = _running(wanted.name)
    if lab is None:
        # As Ctrl-C: whatever is half up is taken down.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        lab = cluster.up(wanted, say)
    else:
        _check_same(lab, wanted)
        print("[cluster] it is up already, with these options", file=sys.stderr)
    _show(args, lab)
    sys.stdout.flush()
    say(_what_next(wanted.name))
    return 0


def _what_next(name: str) -> str:
    """The last line of ``up``: nothing can be pulled here, so it names an image that is there."""
    pod = typed(name, f"kubectl run web --image={images.BUSYBOX} -- sleep 1d")
    return (
        f"up; run a pod: `{pod}`, your own image after `{typed(name, 'load IMAGE.tar')}`; "
        f"at the end `{typed(name, 'down')}`"
    )


def _check_same(lab: Lab, wanted: Wanted) -> None:
    """Raises LabError if the one that is up is another than is wanted."""
    if other := options.differences(options.of(lab.directory), asdict(wanted)):
        raise LabError(
            f"a cluster is up already, with {other}; end it with `{typed(wanted.name, 'down')}` first"
        )


if __name__ == "__main__":
    sys.exit(main())
