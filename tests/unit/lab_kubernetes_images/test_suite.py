"""What the runner is told, what its log and its report say, and which images the suite gets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.kubernetes import suite, suite_images
from lab.kubernetes.suite import Order, Spec
from lab.messages import LabError

REPORT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="7370" failures="2"><testsuite name="Kubernetes e2e suite">
<testcase name="[SynchronizedBeforeSuite]" status="passed" time="2.1"></testcase>
<testcase name="[It] [sig-network] DNS should be fast [Conformance] [sig-network, Conformance]"
 status="passed" time="5.25">
<system-err>&gt; Enter [It]</system-err></testcase>
<testcase name="[It] [sig-network] Services should serve [sig-network]" status="failed" time="61.5">
<failure message="timed out&#xA;  after 60 s" type="failed">[FAILED] timed out</failure></testcase>
<testcase name="[It] [sig-network] HostPort should end" status="panicked" time="0.5">
<error message="index out of range" type="panicked"></error></testcase>
<testcase name="[It] [sig-storage] CSI should mount" status="skipped" time="0">
<skipped message="skipped"></skipped></testcase>
{more}</testsuite></testsuites>
"""


def order(tmp_path: Path) -> Order:
    return Order(bin_dir=tmp_path, registries=tmp_path / "r.yaml", output=tmp_path / "out")


def test_only_what_ran_is_reported_failed_ones_first() -> None:
    report = suite.parse(REPORT.format(more=""), 3)
    assert report.specs == (
        Spec("[sig-network] HostPort should end", 0.5, "index out of range"),
        Spec("[sig-network] Services should serve", 61.5, "timed out after 60 s"),
        Spec("[sig-network] DNS should be fast [Conformance]", 5.25),
    )
    assert (report.wanted, report.succeeded, report.broken, report.passed) == (3, 1, (), False)


def test_a_long_complaint_is_cut() -> None:
    case = f'<testcase name="[It] a" status="failed"><failure message="{"x" * 2000}"></failure></testcase>'
    (spec,) = (spec for spec in suite.parse(REPORT.format(more=case), 4).specs if spec.name == "a")
    assert spec.failure == "x" * 500 + "..."


def test_a_failed_setup_is_no_pass() -> None:
    broken = '<testcase name="[SynchronizedBeforeSuite]" status="timedout" time="600"></testcase>'
    report = suite.parse(REPORT.format(more=broken), 3)
    assert report.broken == (Spec("[SynchronizedBeforeSuite]", 600.0, "timedout"),)
    assert len(report.specs) == 3


def test_progress_counts_what_has_ended() -> None:
    assert suite.progress("") == "the suite starts"
    log = "Random Seed: 1\n\nWill run 47 of 7355 specs\nRunning in parallel across 6 processes\n"
    assert suite.progress(log) == "0 of 47 tests"
    assert suite.progress(log + "••") == "2 of 47 tests"
    failed = "------------------------------\n• [FAILED] [61.500 seconds]\n[sig-network] Services\n"
    assert suite.progress(f"{log}••{failed}•") == "4 of 47 tests, 1 failed"


def test_the_runner_is_told_the_rest_behind_two_dashes(tmp_path: Path) -> None:
    argv = suite.arguments(order(tmp_path), Path("/k/admin.kubeconfig"), nodes=3)
    ours, theirs = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    assert ours[0] == str(tmp_path / "ginkgo")
    assert ours[-1] == str(tmp_path / "e2e.test")
    assert {"--procs=4", f"--focus={suite.NETWORK}", f"--output-dir={tmp_path}/out"} <= set(ours)
    assert not any(argument.startswith("--skip") for argument in ours)
    assert "--kubeconfig=/k/admin.kubeconfig" in theirs
    assert "--num-nodes=3" in theirs
    assert f"--kubectl-path={tmp_path}/kubectl" in theirs


def test_images_that_are_made_and_no_others() -> None:
    names = [
        "localhost/e2e/nginx:1.14-4",
        "localhost/e2e/agnhost:2.59",
        "localhost/e2e/agnhost:2.55",
        "localhost/e2e/volume/nfs:1.4",
        "registry.example/pause:3.10.1",
        "localhost/e2e/pause:3.10.1",
        "localhost/e2e/kitten:1.7",
    ]
    assert suite_images.wanted(names) == (
        "localhost/e2e/agnhost:2.55",
        "localhost/e2e/agnhost:2.59",
        "localhost/e2e/nginx:1.14-4",
        "localhost/e2e/pause:3.10.1",
    )


def test_a_suite_that_does_not_tell_its_images(tmp_path: Path) -> None:
    program = tmp_path / "e2e.test"
    program.write_text("#!/bin/sh\necho no such flag >&2\nexit 2\n")
    program.chmod(0o755)
    with pytest.raises(LabError, match="--list-images ended with 2: no such flag"):
        suite_images.references(tmp_path, tmp_path / "r.yaml")


def test_the_suite_asks_for_local_names(tmp_path: Path) -> None:
    program = tmp_path / "e2e.test"
    program.write_text(f'#!/bin/sh\nread -r line <"${suite_images.VARIABLE}"\necho ${{line#*: }}/pause:3\n')
    program.chmod(0o755)
    suite_images.write_registries(tmp_path / "r.yaml")
    assert suite_images.references(tmp_path, tmp_path / "r.yaml") == ("localhost/e2e/pause:3",)


def test_missing_tools_are_named_by_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_images, "_PATH", str(tmp_path))
    with pytest.raises(LabError, match=r"recommends bash bind9-dnsutils curl iperf iproute2 libc-bin netcat"):
        suite_images.make(tmp_path, tmp_path / "cache", ["localhost/e2e/agnhost:1"])


def test_the_limit_of_wget_is_kept_by_another_program(tmp_path: Path) -> None:
    (tmp_path / "wget").write_bytes(suite_images.WGET)
    (tmp_path / "busybox").write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    for name in ("wget", "busybox"):
        (tmp_path / name).chmod(0o755)

    def called(*words: str) -> str:
        argv = [str(tmp_path / "wget"), *words]
        path = f"{tmp_path}:/usr/bin:/bin"
        return subprocess.run(argv, env={"PATH": path}, check=True, capture_output=True, text=True).stdout

    assert called("-q", "-T", "1", "-O", "-", "a b") == "<timeout><1><busybox><wget><-q><-O><-><a b>"
    assert called("-qO-", "x") == "<timeout><900><busybox><wget><-qO-><x>"
