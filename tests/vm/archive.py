"""A kernel out of Debian's archive: fetched by apt, unpacked, and what no test needs left out.

apt is given lists and caches of its own, so that the machine's stay as they are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.vm import modules
from tests.vm.kernels import CACHE, Kernel

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_KEPT = re.compile(
    r"kernel/(net|crypto|lib|arch/x86/crypto|drivers/virtio|fs/(fuse|overlayfs))/"
    r"|kernel/drivers/net/(veth|dummy|ifb|tun|netkit|vxlan|ipvlan/|macvlan|virtio_net)"
)
"""Modules that a machine of ours boots by, and all of the network's."""


class CannotFetch(Exception):
    """apt has no such kernel, or no archive in reach."""


def fetched(kernel: Kernel) -> Path:
    """The directory with vmlinuz and lib/modules of ``kernel``; filled the first time. Raises CannotFetch."""
    if not kernel.directory.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            _unpack(_download(kernel, Path(scratch)), Path(scratch) / "ready")
            (Path(scratch) / "ready").rename(kernel.directory)
    return kernel.directory


def _download(kernel: Kernel, scratch: Path) -> Path:
    options = _own_lists(kernel, scratch)
    _apt("apt-get", *options, "-q", "update")
    depends = _apt("apt-cache", *options, "show", kernel.package)
    found = re.search(r"^Depends: (linux-image-\S+)", depends, re.MULTILINE)
    if found is None:
        raise CannotFetch(f"{kernel.package} of {kernel.release} depends on no kernel: {depends!r}")
    # The signed ones are these once more, and bring no modules of their own.
    _apt("apt-get", *options, "-q", "download", f"{found[1]}-unsigned", cwd=scratch)
    (package,) = scratch.glob("*.deb")
    return package


def _own_lists(kernel: Kernel, scratch: Path) -> list[str]:
    for name in ("lists/partial", "cache/archives/partial"):
        (scratch / name).mkdir(parents=True)
    sources = scratch / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_archive()} {kernel.release} main\n")
    return [
        f"-oDir::Etc::sourcelist={sources}",
        "-oDir::Etc::sourceparts=/dev/null",
        f"-oDir::State::lists={scratch}/lists",
        f"-oDir::Cache={scratch}/cache",
        "-oDir::State::status=/dev/null",
        "-oAPT::Sandbox::User=root",
        "-oAcquire::Languages=none",
        "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        "-oAPT::Architecture=amd64",
    ]


def _archive() -> str:
    """The archive that this machine has its own release from; the others lie beside it."""
    targets = _apt("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
    for line in targets.splitlines():
        where, _, label = line.partition(" ")
        if label == "Debian":
            return where
    raise CannotFetch("apt has lists of no Debian archive; run apt-get update first")


def _apt(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotFetch(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def _unpack(package: Path, ready: Path) -> None:
    whole = ready.with_name("whole")
    subprocess.run(["dpkg", "-x", str(package), str(whole)], check=True)
    ready.mkdir()
    (vmlinuz,) = (whole / "boot").glob("vmlinuz-*")
    vmlinuz.rename(ready / "vmlinuz")
    (source,) = (one for one in whole.rglob("modules/*") if (one / "kernel").is_dir())
    target = ready / "modules" / source.name
    for path in source.rglob("*.ko*"):
        if _KEPT.match(str(path.relative_to(source))):
            kept = target / path.relative_to(source)
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.rename(kept)
    modules.write_lists(target, modules.found_below(target))
    shutil.rmtree(whole)
    package.unlink()
