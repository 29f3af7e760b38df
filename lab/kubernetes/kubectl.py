"""kubectl as an administrator of a lab's cluster, from the control plane's own network namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from datapath import namespace
from deploy import helm
from lab.apiserver.files import KubeDir
from lab.client import Lab
from lab.messages import LabError

KUBECTL = "kubectl"
_BASHRC = r"""
[ ! -f ~/.bashrc ] || . ~/.bashrc
PS1="(NAME) $PS1"
_complete_kubectl() {
	mapfile -t COMPREPLY < <(kubectl __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null |
		sed '/^:[0-9]*$/d; s/\t.*//')
}
complete -F _complete_kubectl kubectl
"""
"""kubectl's own script for bash needs Debian's bash-completion. Of what ``__complete`` says each line is a
candidate with a tab and a text behind it, and the last one a number (github.com/spf13/cobra, completions)."""
_NO_HELM = """\
#!/bin/sh
echo "helm is not built; \\`.cache/venv/bin/python -m lab.kubernetes.helm\\` does it, or name one in HELM" >&2
exit 127
"""


def environment(lab: Lab) -> dict[str, str]:
    """Of a kubectl there: this process's own, with the way in. What it keeps of the API ends with the lab."""
    directory = KubeDir(lab.directory.kubernetes)
    return {
        **os.environ,
        "KUBECONFIG": str(directory.kubeconfig("admin")),
        "KUBECACHEDIR": str(directory.root / "kubectl"),
        # No file of the user's home with defaults of his own.
        "KUBERC": "off",
        "PATH": os.pathsep.join([lab.spec.kube_bin, os.environ.get("PATH", os.defpath), *_helm(directory)]),
    }


def _helm(directory: KubeDir) -> list[str]:
    """Where a shell finds helm if the machine has none: what is built here, or a program that says how to."""
    found = helm.present()
    if found is not None:
        return [str(found.resolve().parent)]
    stand_in = directory.root / "without-helm"
    stand_in.mkdir(exist_ok=True)
    (stand_in / "helm").write_text(_NO_HELM)
    (stand_in / "helm").chmod(0o755)
    return [str(stand_in)]


@contextmanager
def _in_cloud(lab: Lab) -> Iterator[dict[str, str]]:
    """In the control plane's network namespace; the environment of a kubectl there."""
    fd = lab.netns_fd("cloud")
    try:
        with namespace.entered(fd):
            yield environment(lab)
    finally:
        os.close(fd)


def run(lab: Lab, arguments: Sequence[str], *, stdin: str = "") -> str:
    """Its output. Raises LabError with what it complained of."""
    with _in_cloud(lab) as around:
        done = subprocess.run(
            [_kubectl(lab), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=around,
            check=False,
        )
    if done.returncode != 0:
        raise LabError(f"kubectl {' '.join(arguments)}: {' '.join(done.stderr.split())}")
    return done.stdout


def attach(lab: Lab, arguments: Sequence[str]) -> int:
    """With this process's terminal and files; its exit status."""
    return _attached(lab, [_kubectl(lab), *arguments])


def shell(lab: Lab, arguments: Sequence[str]) -> int:
    """A bash with kubectl on its PATH, and with ``arguments``, such as -c; its exit status."""
    _kubectl(lab)
    start = KubeDir(lab.directory.kubernetes).root / "bashrc"
    start.write_text(_BASHRC.replace("NAME", lab.name))
    return _attached(lab, ["bash", "--rcfile", str(start), *arguments])


def _attached(lab: Lab, argv: Sequence[str]) -> int:
    with _in_cloud(lab) as around:
        process = subprocess.Popen(argv, env=around)
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            # It has had the same Ctrl-C, and ends as it sees fit.
            continue
        return status if status >= 0 else 128 - status


def _kubectl(lab: Lab) -> str:
    path = Path(lab.spec.kube_bin) / KUBECTL
    if not lab.spec.kube_bin or not path.exists():
        raise LabError(f"lab {lab.name!r} has no {KUBECTL}: it is no cluster, or {path} is gone")
    return str(path)
