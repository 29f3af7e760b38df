"""``./run conformance``: Kubernetes' own network tests against a cluster whose CNI is this one."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from datapath.errors import KernelError
from lab.apiserver.port import Say
from lab.cli.table import table
from lab.client import Lab
from lab.kubernetes import binaries, carried, cluster, host_ports, suite, suite_images
from lab.kubernetes.carried import Carried
from lab.kubernetes.cluster import Wanted
from lab.kubernetes.node_images import image_names, import_image
from lab.kubernetes.readiness import is_ready, wait_until
from lab.kubernetes.suite import Order, Report
from lab.messages import LabError
from lab.spec import IpStack, ProxyMode
from lab.statedir import check_name

_TEXT = (
    "Runs the tests of Kubernetes' network group that a conformant cluster has to pass. It uses the cluster "
    "that is up, or brings one up for the time of the tests. What they said is kept below .cache/conformance."
)
_OUTPUT = binaries.CACHE / "conformance"


@dataclass(frozen=True, slots=True)
class Outcome:
    report: Report
    seconds: float
    packets: Carried


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="./run conformance",
        description=_TEXT,
        epilog="exit status: 0 only if every test passed, 2 for options that are not understood; "
        "example: ./run conformance --focus 'DNS.*services'",
    )
    top.add_argument(
        "--focus", default=suite.NETWORK, metavar="RE", help="names of the tests (default: %(default)s)"
    )
    top.add_argument("--skip", default="", metavar="RE", help="and not these")
    top.add_argument(
        "--procs", type=int, default=4, metavar="N", help="so many at once (default: %(default)s)"
    )
    top.add_argument(
        "--minutes", type=int, default=40, metavar="N", help="give up after these (default: %(default)s)"
    )
    top.add_argument(
        "--proxy",
        type=ProxyMode,
        choices=(ProxyMode.NFTABLES, ProxyMode.IPTABLES),
        default=ProxyMode.NFTABLES,
        help="of a cluster that is brought up (default: %(default)s)",
    )
    top.add_argument(
        "--ip-stack",
        type=IpStack,
        choices=tuple(IpStack),
        default=IpStack.IPV4,
        help="of a cluster that is brought up (default: %(default)s)",
    )
    top.add_argument("--name", default=cluster.NAME, help="of the cluster (default: %(default)s)")
    top.add_argument(
        "--output", type=Path, default=_OUTPUT, metavar="DIR", help="(default: .cache/conformance)"
    )
    return top


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.procs < 1 or args.minutes < 1:
        return _fail("--procs and --minutes: allowed are 1 and more", 2)
    try:
        check_name(args.name)
    except ValueError as exc:
        return _fail(f"--name: {exc}", 2)
    # Whoever ends this by SIGTERM wants it cleaned up as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say = _teller()
    try:
        outcome = _run(args, say)
    except (LabError, KernelError, ValueError, OSError, subprocess.SubprocessError) as exc:
        return _fail(" ".join(str(exc).split()), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 1)
    text = render(outcome)
    (args.output / "result.txt").write_text(text)
    print(text, end="")
    print(f"reports: {args.output}")
    return 0 if outcome.report.passed else 1


def _fail(text: str, code: int) -> int:
    print(f"conformance: {text}", file=sys.stderr)
    return code


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    bin_dir = binaries.ensure(say, suite=True)
    cache = binaries.CACHE / "kubernetes" / "images"
    cache.mkdir(parents=True, exist_ok=True)
    order = Order(
        bin_dir=bin_dir,
        registries=cache / "registries.yaml",
        output=args.output.resolve(),
        focus=args.focus,
        skip=args.skip,
        procs=args.procs,
        minutes=args.minutes,
    )
    suite_images.write_registries(order.registries)
    names = suite_images.references(bin_dir, order.registries)
    archive = suite_images.make(bin_dir, cache, names)
    wanted = Wanted(proxy=args.proxy, ip_stack=args.ip_stack, name=args.name, host_ports=True)
    with judged(wanted, say) as lab:
        load(lab, archive, names, say)
        with host_ports.lent(lab, say):
            _await_system(lab, say)
            return judge(lab, order, say)


@contextlib.contextmanager
def judged(wanted: Wanted, say: Say) -> Iterator[Lab]:
    """The cluster that is up, which stays, or one for the time of the block. Raises LabError."""
    try:
        lab = Lab.attach(wanted.name)
    except LabError:
        lab = cluster.up(wanted, say)
        try:
            yield lab
        finally:
            lab.down()
        return
    if not lab.spec.kubernetes:
        raise LabError(f"lab {wanted.name!r} has no Kubernetes; end it, or choose another --name")
    of = lab.spec.kubernetes
    say(f"using cluster {wanted.name!r}, which is up, with kube-proxy {of.proxy} and ip-stack {of.ip_stack}")
    try:
        yield lab
    finally:
        lab.close()


def load(lab: Lab, archive: Path, names: Sequence[str], say: Say) -> None:
    """The tests' images into every node that lacks one. Raises LabError."""
    lacking = [node for node in lab.nodes if set(names) - image_names(node)]
    if not lacking:
        return
    say(f"loading the tests' images into {', '.join(node.name for node in lacking)}")
    with ThreadPoolExecutor(max_workers=len(lacking)) as pool:
        for each in [pool.submit(import_image, node, archive) for node in lacking]:
            each.result()


def _await_system(lab: Lab, say: Say) -> None:
    """Until every pod of kube-system serves: the suite would wait for that ten minutes, without a word."""

    def waits_for() -> str:
        for pod in lab.kubernetes.request("GET", "/api/v1/namespaces/kube-system/pods")["items"]:
            phase = pod["status"].get("phase")
            if not is_ready(pod) and phase != "Succeeded":
                return f"pod kube-system/{pod['metadata']['name']} is not ready ({phase})"
        return ""

    wait_until(waits_for, say)


def judge(lab: Lab, order: Order, say: Say) -> Outcome:
    """Run the tests, and count on the nodes what their pods send meanwhile."""
    say(f"the tests run, {order.procs} at once; their log is {order.output / suite.LOG}")
    before, began = carried.of_nodes(lab.nodes), time.monotonic()
    report = suite.run(lab, order, say)
    return Outcome(report, time.monotonic() - began, carried.of_nodes(lab.nodes) - before)


def render(outcome: Outcome) -> str:
    """The table of all tests, what went wrong in full, and a line that counts."""
    report = outcome.report
    rows = [
        ("passed" if spec.passed else "FAILED", f"{spec.seconds:.1f}", spec.name) for spec in report.specs
    ]
    wrong = [spec for spec in (*report.specs, *report.broken) if not spec.passed]
    lines = [table(("RESULT", "SECONDS", "TEST"), rows), ""]
    lines += [f"FAILED {spec.name}\n    {spec.failure}\n" for spec in wrong]
    reasons = ", ".join(f"{name} {count}" for name, count in outcome.packets.reasons())
    lines += [str(outcome.packets), *([f"  {reasons}"] if reasons else []), _verdict(outcome)]
    return "\n".join(lines) + "\n"


def _verdict(outcome: Outcome) -> str:
    report = outcome.report
    left = report.wanted - len(report.specs)
    rest = f"; {left} did not run" if left else ""
    return f"{report.succeeded} of {report.wanted} tests passed in {outcome.seconds:.0f} s{rest}"


def _teller() -> Callable[[str], None]:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[conformance] {time.monotonic() - began:5.1f} s  {text}", file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
