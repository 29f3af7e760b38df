"""What the image holds besides the system, laid out as it will lie below /opt/terway.

::

    bin/             terwayd, terway-cli, install-cni
    cni control datapath
                     the product's packages; cni/.output/terway is the executable for the node
    bpf/.output/     the programs of the fast path, compiled
    bpf/include/     reasons.h, which says what their reasons mean
    site-packages/   pyproject.toml's run-time dependencies, each file by its hash in requirements/agent.txt

Nothing of lab, perf and tests. Byte code is made here, as the image's file system is read-only where it runs.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from control.aliyun.actions import Action
from deploy.image import base, cache
from deploy.image.command import run
from deploy.image.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "/opt/terway"
PACKAGES = ("cni", "control", "datapath")
OBJECTS = ("pod_egress", "pod_egress_ct", "eni_ingress", "eni_ingress_ct", "pod_ingress", "eni_egress")
"""The fabric is the lab's."""
_BUILT = ("cni/.output/terway", "datapath/ebpf/_libbpf.abi3.so")
_READ = ("bpf/include/reasons.h",)
"""Of the source tree, what is read at run time besides Python."""

_UNUSED = (
    # The asynchronous client, and the typed one: the agent sends and reads plain JSON.
    "kubernetes/aio",
    "kubernetes/client/api/*_api.py",
    "kubernetes/client/models/v*.py",
    # control/aliyun/sdk_import.py puts placeholders in their place.
    "aiohttp",
    "cryptography",
    # Compilers, tests, stubs.
    "numpy/distutils",
    "numpy/f2py",
    "numpy/**/tests",
    "numpy/**/*.pyi",
    "numpy/_core/include",
    "numpy/_core/lib/*.a",
    "numpy/random/lib",
    "websocket/tests",
    "bin",
)
"""Of the dependencies, what nothing here imports; models of actions that are not called go as well."""

_CHECKS = (
    "import control.agent.main, control.cli.main",
    """
import importlib
from control.aliyun import worker
worker.Sdk(dict(connect_timeout=1, read_timeout=1, http_proxy="", https_proxy="", ca_file=""))
for action, (package, _) in worker._METHODS.items():
    models = importlib.import_module(package + ".models")
    for kind in ("Request", "Response", "ResponseBody"):
        getattr(models, action + kind)()
""",
)
"""Whether all that the agent and its SDK worker import is still there, where there is nothing else."""


def dependencies(directory: Path) -> Path:
    """site-packages without what is not used, from ``directory`` if the wanted ones have not changed."""
    path = directory / dependencies_name()
    cache.kept(path, _install)
    return path


def dependencies_name() -> str:
    """Of that directory: another one if the wanted ones, or what is left of them, are others."""
    rules = Path(__file__).read_text()
    return f"site-{cache.digest([_requirements().read_text(), rules, *Action, sys.version])}"


def _requirements() -> Path:
    """Each package with the hashes of its files; `python -m deploy.lock` makes it."""
    return ROOT / "requirements" / "agent.txt"


def _install(path: Path) -> None:
    if sys.version_info[:2] != base.PYTHON:
        raise ImageError(
            f"this is Python {sys.version_info[0]}.{sys.version_info[1]}, the image's is "
            f"{base.PYTHON[0]}.{base.PYTHON[1]}: build on Debian 12, with the environment of ./run setup"
        )
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--disable-pip-version-check",
    ]
    checked = ["--require-hashes", "--no-deps", "--requirement", str(_requirements())]
    run([*command, "--target", str(path), *checked])
    for pattern in _UNUSED:
        for found in path.glob(pattern):
            cache.remove(found)
    for model in path.glob("alibabacloud_*20*/models/_*.py"):
        if model.name != "__init__.py" and not _is_called(model.name):
            model.unlink()
    for check in _CHECKS:
        code = f"import sys; sys.path[:0] = sys.argv[1:]\n{check}"
        run([sys.executable, "-I", "-S", "-B", "-c", code, str(path), str(ROOT)])
    _compile(path, f"{PREFIX}/site-packages")


def _is_called(model: str) -> bool:
    """Of ``_describe_vswitches_response_body.py`` and its like: it belongs to one of the agent's actions."""
    words = model.replace("_", "")
    return any(words.startswith((f"{a.lower()}request", f"{a.lower()}response")) for a in Action)


def product(path: Path) -> None:
    """Lay the product out in ``path``, which is emptied first. Raises ImageError if it is not built."""
    cache.remove(path)
    for source in _sources():
        target = path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (path / "cni/.output/terway").chmod(0o755)
    shutil.copytree(ROOT / "deploy" / "bin", path / "bin")
    for program in (path / "bin").iterdir():
        program.chmod(0o755)
    for package in PACKAGES:
        _compile(path / package, f"{PREFIX}/{package}")


def product_digest() -> str:
    """Another one if anything differs that ``product`` would lay out. Raises ImageError as it does."""
    programs = sorted((ROOT / "deploy" / "bin").iterdir())
    found = [*_sources(), *programs, ROOT / "deploy" / "Containerfile"]
    return cache.digest(part for path in found for part in (str(path.relative_to(ROOT)), path.read_bytes()))


def _sources() -> Iterator[Path]:
    built = [*_BUILT, *(f"bpf/.output/{name}.bpf.o" for name in OBJECTS)]
    for name in built:
        if not (ROOT / name).is_file():
            raise ImageError(f"{ROOT / name} is not built: ./run setup builds it")
        yield ROOT / name
    yield from (ROOT / name for name in _READ)
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def _compile(path: Path, place: str) -> None:
    """Byte code that is never compared with its source: time stamps do not matter, and none is made later."""
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    run([*command, "-s", str(path), "-p", place, str(path)])
