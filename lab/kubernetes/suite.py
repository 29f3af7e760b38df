"""Kubernetes' end-to-end tests: the runner is started in the control plane's namespace, its report read."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from datapath import namespace
from lab.apiserver.files import KubeDir
from lab.apiserver.port import Say
from lab.client import Lab
from lab.kubernetes import kubectl, suite_images
from lab.messages import LabError

NETWORK = r"\[sig-network\].*\[Conformance\]"
REPORT = "junit.xml"
LOG = "ginkgo.log"
_TOLD_EVERY = 10.0
_POLL = 0.2
_END_DEADLINE = 240.0
"""Seconds for the runner to delete its namespaces after an interruption."""
_PASSED = "•"
_FAILED = re.compile(rf"{_PASSED} \[(?:FAILED|PANICKED|TIMEDOUT|INTERRUPTED|ABORTED)")
_SPECS = re.compile(r"Will run (\d+) of \d+ specs")
_LONGEST = 500
"""Characters of a complaint: some quote a whole object. All of it is in the report and in the log."""
_TEST = "[It] "
"""Before the name of a test; before and after all tests the suite has entries of other kinds."""
_LABELS = re.compile(r" \[sig-[a-z-]+(?:, [^][]+)?\]$")
"""The runner writes a test's labels behind its name, which has them already; its group comes first."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and where its report goes."""

    bin_dir: Path
    registries: Path
    output: Path
    focus: str = NETWORK
    skip: str = ""
    procs: int = 4
    minutes: int = 40


@dataclass(frozen=True, slots=True)
class Spec:
    """One test that ran. ``failure`` is what it complained of, "" if it passed."""

    name: str
    seconds: float
    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure


@dataclass(frozen=True, slots=True)
class Report:
    """``wanted`` tests were to run; ``specs`` are those that did, failed ones first.

    ``broken``: what went wrong in the suite itself, before or after its tests.
    """

    wanted: int
    specs: tuple[Spec, ...]
    broken: tuple[Spec, ...] = ()

    @property
    def succeeded(self) -> int:
        return sum(spec.passed for spec in self.specs)

    @property
    def passed(self) -> bool:
        """Every one that was wanted, and there was one."""
        return 0 < self.wanted == self.succeeded and not self.broken


def run(lab: Lab, order: Order, say: Say) -> Report:
    """Raises LabError if no test was chosen, or if there is no report."""
    order.output.mkdir(parents=True, exist_ok=True)
    report, log = order.output / REPORT, order.output / LOG
    report.unlink(missing_ok=True)
    process = _start(lab, order, log)
    try:
        _follow(process, log, say)
    finally:
        _end(process)
    if not report.exists():
        raise LabError(f"ginkgo ended with {process.returncode} and left no report: {_tail(log)}")
    found = _SPECS.search(log.read_text(errors="replace"))
    wanted = int(found[1]) if found else 0
    if not wanted:
        raise LabError(f"no test's name matches {order.focus!r}")
    return parse(report.read_text(), wanted)


def arguments(order: Order, kubeconfig: Path, nodes: int) -> list[str]:
    """Of the runner, and behind ``--`` of the suite. The provider "skeleton" is of no known cloud."""
    pick = [f"--focus={order.focus}", *([f"--skip={order.skip}"] if order.skip else [])]
    return [
        str(order.bin_dir / "ginkgo"),
        f"--procs={order.procs}",
        *pick,
        "--no-color",
        "--silence-skips",
        f"--timeout={order.minutes}m",
        f"--junit-report={REPORT}",
        f"--output-dir={order.output}",
        str(order.bin_dir / "e2e.test"),
        "--",
        "--provider=skeleton",
        f"--kubeconfig={kubeconfig}",
        # Else the one on the PATH, whatever its version.
        f"--kubectl-path={order.bin_dir / 'kubectl'}",
        f"--num-nodes={nodes}",
    ]


def _start(lab: Lab, order: Order, log: Path) -> subprocess.Popen[bytes]:
    kubeconfig = KubeDir(lab.directory.kubernetes).kubeconfig("admin")
    argv = arguments(order, kubeconfig, len(lab.nodes))
    netns = lab.netns_fd("cloud")
    try:
        with log.open("wb") as out, namespace.entered(netns):
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=order.output,
                env={**kubectl.environment(lab), suite_images.VARIABLE: str(order.registries)},
                # A Ctrl-C of ours reaches it once, by us.
                start_new_session=True,
            )
    finally:
        os.close(netns)


def _follow(process: subprocess.Popen[bytes], log: Path, say: Say) -> None:
    began = told = time.monotonic()
    while True:
        try:
            process.wait(_POLL)
            return
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if now - told > _TOLD_EVERY:
            told = now
            say(f"  {now - began:.0f} s: {progress(log.read_text(errors='replace'))}")


def progress(log: str) -> str:
    """How far a run is, from what the runner has written."""
    wanted = _SPECS.search(log)
    if wanted is None:
        return "the suite starts"
    done, failed = log.count(_PASSED), len(_FAILED.findall(log))
    return f"{done} of {wanted[1]} tests" + (f", {failed} failed" if failed else "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt it if it still runs: it cleans up after itself then. Killed if it does not end."""
    if process.poll() is not None:
        return
    # As a terminal does: the runner does not pass it on to the processes of the suite.
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(_END_DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def parse(junit: str, wanted: int) -> Report:
    """What ran, of a JUnit report that lists every test there is."""
    specs: list[Spec] = []
    broken: list[Spec] = []
    for case in ElementTree.fromstring(junit).iter("testcase"):
        name, status = case.get("name", ""), case.get("status", "")
        is_test = name.startswith(_TEST)
        if status in ("skipped", "pending") or (status == "passed" and not is_test):
            continue
        failure = "" if status == "passed" else _why(case, status)
        spec = Spec(_LABELS.sub("", name.removeprefix(_TEST)), float(case.get("time", "0")), failure)
        (specs if is_test else broken).append(spec)
    specs.sort(key=lambda spec: (spec.passed, spec.name))
    return Report(wanted, tuple(specs), tuple(broken))


def _why(case: ElementTree.Element, status: str) -> str:
    """The beginning of its message, on one line."""
    for tag in ("failure", "error"):
        found = case.find(tag)
        if found is not None:
            text = found.get("message") or found.text or ""
            line = " ".join(text.split()) or status
            return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
    return status


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "it said nothing"
