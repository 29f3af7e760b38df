"""Kubernetes' programs, etcd and CoreDNS, built once by the go command at pinned versions.

::

    .cache/kubernetes/1.35.4/bin/      the programs
    .cache/kubernetes/1.35.4/build/    the modules' go.mod and go.sum, and build.log
    .cache/go/                         the go command's caches, and its SDK where the machine has none

KUBE_BIN of the environment names a directory of built programs to use instead. On two cores an empty cache
takes four and a half minutes, CoreDNS two more and the test suite another two; later it is no time at all.

``k8s.io/kubernetes`` replaces its staging modules by directories beside it; as a dependency it needs them as
the modules that are published at v0.MINOR.PATCH. etcd's version is the one that Kubernetes is tested with.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.apiserver.port import Say
from lab.kubernetes import toolchain
from lab.kubernetes.toolchain import Go
from lab.messages import LabError

VARIABLE = "KUBE_BIN"
VERSION = "1.35.4"
CACHE = Path(__file__).resolve().parent.parent.parent / ".cache"
_ETCD = "3.6.5"
_COREDNS = "1.15.0"
_COREDNS_SOURCE = Path(__file__).resolve().parent / "coredns" / "main.go"

_COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
CLUSTER = ("etcd", *_COMMANDS)
DNS = ("coredns",)
SUITE = ("agnhost", "e2e.test", "ginkgo")
"""Kubernetes' end-to-end tests, their runner, and the server that their pods run."""

_STRIPPED = "-s -w"
_STAGING = re.compile(r"^\s*(\S+) => \./staging/", re.MULTILINE)


def ensure(say: Say, *, suite: bool = False, version: str = VERSION) -> Path:
    """The directory with all programs, built if they are missing; those of the tests only with ``suite``.

    One process builds at a time. Raises LabError: a KUBE_BIN that lacks one, no go command, a failed build.
    """
    wanted = CLUSTER + DNS + (SUITE if suite else ())
    if named := os.environ.get(VARIABLE):
        if version != VERSION:
            raise LabError(f"{VARIABLE} names built programs; unset it to have Kubernetes {version} built")
        return _given(Path(named), wanted)
    if not re.fullmatch(r"1\.\d+\.\d+", version):
        raise LabError(f"{version!r} is no version of Kubernetes; one looks like {VERSION}")
    root = CACHE / "kubernetes" / version
    if missing(root / "bin", wanted) or dns_is_old(root):
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / "lock", say):
            if dns_is_old(root):
                (root / "bin" / DNS[0]).unlink(missing_ok=True)
            _build(root, version, say, wanted)
    return root / "bin"


def are_built(version: str = VERSION) -> bool:
    """Whether a cluster of ``version`` needs no build; a KUBE_BIN is never built in."""
    if os.environ.get(VARIABLE):
        return True
    root = CACHE / "kubernetes" / version
    return not missing(root / "bin", CLUSTER + DNS) and not dns_is_old(root)


def dns_is_old(root: Path) -> bool:
    """Whether CoreDNS was built with other plugins than are asked for now."""
    source = root / "build" / "coredns" / _COREDNS_SOURCE.name
    return source.exists() and source.read_bytes() != _COREDNS_SOURCE.read_bytes()


def missing(directory: Path, wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of ``wanted`` that are no executable file in ``directory``."""
    return tuple(
        name
        for name in wanted
        if not (directory / name).is_file() or not os.access(directory / name, os.X_OK)
    )


def _given(directory: Path, wanted: Sequence[str]) -> Path:
    if lacks := missing(directory, wanted):
        raise LabError(
            f"{VARIABLE} is {directory}, which lacks {', '.join(lacks)}; "
            "unset it to have everything built, or put them there"
        )
    return directory.resolve()


@contextlib.contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process builds Kubernetes; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True)
class _Workshop:
    """Where one version is built."""

    go: Go
    version: str
    root: Path
    """Of the version, in the cache."""

    def module(self, name: str) -> Path:
        directory = self.root / "build" / name
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    @property
    def output(self) -> Path:
        return self.root / "new"

    def compile(self, module: Path, *arguments: str) -> None:
        self.go.run(["build", "-v", *arguments], cwd=module)

    @property
    def stamp(self) -> str:
        """Linker flags: without them the programs say that they are v0.0.0-master."""
        _, minor, _ = self.version.split(".")
        package = "k8s.io/component-base/version"
        values = {"gitVersion": f"v{self.version}", "gitMajor": "1", "gitMinor": minor}
        return " ".join([_STRIPPED, *(f"-X {package}.{key}={value}" for key, value in values.items())])


def _build(root: Path, version: str, say: Say, wanted: Sequence[str]) -> None:
    """What is still missing, part by part; a part is in the directory whole or not at all."""
    log = root / "build" / "build.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    shop: _Workshop | None = None
    for programs, what, build in _parts(version):
        if not missing(root / "bin", [name for name in programs if name in wanted]):
            continue
        shop = shop or _Workshop(toolchain.find(CACHE / "go", log, say), version, root)
        say(f"building {what}; once, the log is {log}")
        began = time.monotonic()
        shutil.rmtree(shop.output, ignore_errors=True)
        shop.output.mkdir()
        build(shop)
        (root / "bin").mkdir(exist_ok=True)
        for name in programs:
            (shop.output / name).rename(root / "bin" / name)
        shutil.rmtree(shop.output)
        say(f"built {what} in {time.monotonic() - began:.0f} s")


def _parts(version: str) -> tuple[tuple[Sequence[str], str, Callable[[_Workshop], None]], ...]:
    return (
        (CLUSTER, f"Kubernetes {version} and etcd {_ETCD}", _build_cluster),
        (DNS, f"CoreDNS {_COREDNS}", _build_dns),
        (SUITE, f"the end-to-end tests of Kubernetes {version}", _build_suite),
    )


def _build_cluster(shop: _Workshop) -> None:
    module = _kubernetes_module(shop)
    # "tool" is every package of the module file's tool lines: one command shares what they have in common.
    shop.compile(module, "-o", f"{shop.output}/", "-ldflags", shop.stamp, "tool")
    # etcd's main package is the root of its server's module.
    (shop.output / "server").rename(shop.output / "etcd")


def _build_suite(shop: _Workshop) -> None:
    module = _kubernetes_module(shop)
    packages = ["k8s.io/kubernetes/test/images/agnhost", "github.com/onsi/ginkgo/v2/ginkgo"]
    shop.compile(module, "-o", f"{shop.output}/", "-ldflags", shop.stamp, *packages)
    # To vet a package is to look at all that it imports: as long again as to compile them.
    test = ["test", "-c", "-v", "-vet=off", "-o", str(shop.output / "e2e.test"), "-ldflags", shop.stamp]
    shop.go.run([*test, "k8s.io/kubernetes/test/e2e"], cwd=module)


def _build_dns(shop: _Workshop) -> None:
    module = shop.module("coredns")
    shutil.copy(_COREDNS_SOURCE, module)
    pinned = f"module lab.coredns\n\ngo 1.26.0\n\nrequire github.com/coredns/coredns v{_COREDNS}\n"
    (module / "go.mod").write_text(pinned)
    shop.compile(module, "-o", str(shop.output / "coredns"), "-ldflags", _STRIPPED, ".")


def _kubernetes_module(shop: _Workshop) -> Path:
    directory = shop.module("kubernetes")
    (directory / "go.mod").unlink(missing_ok=True)
    answer = shop.go.run(["mod", "download", "-json", f"k8s.io/kubernetes@v{shop.version}"], cwd=directory)
    published = Path(json.loads(answer)["GoMod"]).read_text()
    # The go command completes it.
    (directory / "go.mod").write_text(kubernetes_go_mod(shop.version, published))
    return directory


def kubernetes_go_mod(version: str, published: str) -> str:
    """A module whose tools are Kubernetes' programs. ``published`` is the text of Kubernetes' own go.mod."""
    staged = f"v0.{version.removeprefix('1.')}"
    lines = [
        "module lab.kubernetes",
        "go 1.25.0",
        # As Kubernetes' own go.mod: defaults of the language that do not move with the compiler.
        "godebug default=go1.25",
        *(f"tool k8s.io/kubernetes/cmd/{name}" for name in _COMMANDS),
        "tool go.etcd.io/etcd/server/v3",
        f"require k8s.io/kubernetes v{version}",
        f"require go.etcd.io/etcd/server/v3 v{_ETCD}",
        *(f"replace {name} => {name} {staged}" for name in _STAGING.findall(published)),
    ]
    return "\n".join(lines) + "\n"
