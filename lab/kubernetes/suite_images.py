"""Images for Kubernetes' own tests, under local names: one layer that is all of them.

The suite takes registries from the file that KUBE_TEST_REPO_LIST names, so that every image it asks for
becomes one of REGISTRY. What its network tests need is here: the agnhost program with the tools that its
Dockerfile adds (from this machine, with their libraries), and stand-ins for a web server and a shell.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.kubernetes import archive, images
from lab.kubernetes.archive import Image
from lab.messages import LabError

REGISTRY = "localhost/e2e"
VARIABLE = "KUBE_TEST_REPO_LIST"
_REGISTRIES = ("promoterE2eRegistry", "gcRegistry", "buildImageRegistry")
_KINDS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "agnhost": (["/agnhost"], ["pause"]),
    "busybox": ([], ["sh"]),
    "httpd": (["/agnhost", "test-webserver"], []),
    "jessie-dnsutils": ([], ["/agnhost", "pause"]),
    # Any server that answers at port 80 does.
    "nginx": (["/agnhost", "test-webserver"], []),
    "pause": (["/pause"], []),
}
"""Entrypoint and command of the images that are made; others are of tests of storage and the like."""
_TOOLS = {
    "bash": "bash",
    "curl": "curl",
    "dig": "bind9-dnsutils",
    "getent": "libc-bin",
    "ip": "iproute2",
    "iperf": "iperf",
    "nc": "netcat-openbsd",
    "ss": "iproute2",
}
"""What tests call inside agnhost, and the Debian package that has it."""
_ACCOUNTS: Mapping[str, bytes] = {
    "etc/group": images.ACCOUNTS["etc/group"]
    + b"user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n",
    "etc/nsswitch.conf": images.ACCOUNTS["etc/nsswitch.conf"],
    "etc/passwd": images.ACCOUNTS["etc/passwd"] + b"user-defined-in-image:x:1000:1000::/:/bin/sh\n",
}
WGET = b"""#!/bin/sh
# busybox 1.35 of Debian crashes in `wget -T`.
limit=900
words=$#
while [ "$words" -gt 0 ]; do
	word=$1
	shift
	words=$((words - 1))
	if [ "$word" = -T ]; then
		limit=$1
		shift
		words=$((words - 1))
	else
		set -- "$@" "$word"
	fi
done
exec busybox timeout "$limit" busybox wget "$@"
"""
"""Before busybox's own on the PATH."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIBRARY = re.compile(r"(?:^|=>)\s*(/\S+)", re.MULTILINE)
_TAG = re.compile(rf"{REGISTRY}/(?P<kind>[a-z-]+):\S+")


def write_registries(path: Path) -> None:
    """The file for VARIABLE."""
    path.write_text("".join(f"{name}: {REGISTRY}\n" for name in _REGISTRIES))


def references(bin_dir: Path, registries: Path) -> tuple[str, ...]:
    """Names of REGISTRY that the suite in ``bin_dir`` asks for and that are made here. Raises LabError."""
    argv = [str(bin_dir / "e2e.test"), "--list-images"]
    result = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, VARIABLE: str(registries)}
    )
    if result.returncode != 0:
        raise LabError(f"{' '.join(argv)} ended with {result.returncode}: {result.stderr.strip()[-200:]}")
    return wanted(result.stdout.split())


def wanted(names: Sequence[str]) -> tuple[str, ...]:
    found = (_TAG.fullmatch(name) for name in names)
    return tuple(sorted({match[0] for match in found if match and match["kind"] in _KINDS}))


def make(bin_dir: Path, cache: Path, names: Sequence[str]) -> Path:
    """The archive of ``names``, made below ``cache`` if it is missing or older than what is in it.

    Raises LabError that names the Debian packages that are missing.
    """
    cache.mkdir(parents=True, exist_ok=True)
    programs = {tool: _find(tool) for tool in _TOOLS}
    if missing := sorted({_TOOLS[tool] for tool, path in programs.items() if path is None}):
        raise LabError(
            "the tests' images need tools that this machine lacks; install them with "
            f"`apt-get install --no-install-recommends {' '.join(missing)}`"
        )
    found = {tool: path for tool, path in programs.items() if path is not None}
    sources = _sources(bin_dir, cache, found)
    path = cache / "suite.tar"
    inputs = [
        Path(__file__),
        bin_dir / "e2e.test",
        *(source for source in sources.values() if isinstance(source, Path)),
    ]
    if images.stale(path, inputs):
        links = images.applets(images.busybox(), without=["bash", "ip", "nc", "sh"])
        archive.write_images(
            path,
            [Image(name, *_KINDS[_kind(name)]) for name in names],
            files=sources,
            links=[*links, ("agnhost-2", "agnhost")],
        )
    return path


def _kind(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


def _find(tool: str) -> Path | None:
    path = shutil.which(tool, path=_PATH)
    return None if path is None else Path(path).resolve()


def _sources(bin_dir: Path, cache: Path, tools: Mapping[str, Path]) -> dict[str, Path | bytes]:
    certificate, key = _certificate(cache)
    files: dict[str, Path | bytes] = {
        **_ACCOUNTS,
        "agnhost": bin_dir / "agnhost",
        "bin/busybox": images.busybox(),
        "coredns": bin_dir / "coredns",
        # agnhost's `porter` serves with these.
        "localhost.crt": certificate,
        "localhost.key": key,
        "pause": images.pause_program(cache),
        "uploads/.keep": b"",
        "usr/bin/wget": WGET,
    }
    # busybox's shell runs its own nc whatever the PATH says; tests want OpenBSD's.
    dash = Path("/bin/dash").resolve()
    for name, program in {"bin/sh": dash, **{f"usr/bin/{t}": path for t, path in tools.items()}}.items():
        files[name] = program
        files.update(_libraries(program))
    return files


def _libraries(program: Path) -> dict[str, Path]:
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    return {path.lstrip("/"): Path(path).resolve() for path in _LIBRARY.findall(listed)}


def _certificate(cache: Path) -> tuple[Path, Path]:
    """Of localhost, signed by itself, good for ten years; made once."""
    paths = (cache / "localhost.crt", cache / "localhost.key")
    if all(path.exists() for path in paths):
        return paths
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*encoding))
    return paths
