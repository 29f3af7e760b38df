"""kubectl as an administrator of a lab's cluster, from the control plane's own network namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from datapath import namespace
from lab.apiserver.files import KubeDir
from lab.client import Lab
from lab.messages import LabError

KUBECTL = "kubectl"


@contextmanager
def _in_cloud(lab: Lab) -> Iterator[dict[str, str]]:
    """In the control plane's network namespace; the environment of a kubectl there."""
    fd = lab.netns_fd("cloud")
    try:
        with namespace.entered(fd):
            kubeconfig = KubeDir(lab.directory.kubernetes).kubeconfig("admin")
            yield {**os.environ, "KUBECONFIG": str(kubeconfig)}
    finally:
        os.close(fd)


def run(lab: Lab, arguments: Sequence[str], *, stdin: str = "") -> str:
    """Its output. Raises LabError with what it complained of."""
    with _in_cloud(lab) as environment:
        done = subprocess.run(
            [_kubectl(lab), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        raise LabError(f"kubectl {' '.join(arguments)}: {' '.join(done.stderr.split())}")
    return done.stdout


def attach(lab: Lab, arguments: Sequence[str]) -> int:
    """With this process's terminal and files; its exit status."""
    with _in_cloud(lab) as environment:
        process = subprocess.Popen([_kubectl(lab), *arguments], env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # It has had the same Ctrl-C, and ends as it sees fit.
            continue


def _kubectl(lab: Lab) -> str:
    path = Path(lab.spec.kube_bin) / KUBECTL
    if not lab.spec.kube_bin or not path.exists():
        raise LabError(f"lab {lab.name!r} has no {KUBECTL}: it is no cluster, or {path} is gone")
    return str(path)
