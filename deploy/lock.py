"""python -m deploy.lock: what is installed of Python's packages, each file by its hash, in requirements/.

constraints.txt has the versions and is edited by hand, or by whatever updates it; pip resolves the groups of
pyproject.toml with it, and tells the SHA-256 of each file: wheels for Python 3.11 on x86_64 and aarch64, and
of the source where a package has no wheel. `pip install --require-hashes --no-deps -r` then takes these bytes
and no others, from whatever index. It runs in the environment of ./run setup, on Debian 12.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DIRECTORY = ROOT / "requirements"
GROUPS: Mapping[str, tuple[str, ...]] = {"agent": (), "lab": ("lab",), "dev": ("lab", "dev")}
"""File, and the optional dependencies of pyproject.toml that it has besides the run-time ones."""
_OTHER_MACHINE = tuple(f"manylinux{version}_aarch64" for version in ("2014", "_2_17", "_2_28"))
_HEADING = """\
# Made by `python -m deploy.lock` of pyproject.toml and constraints.txt; change those.
# pip install --require-hashes --no-deps -r {name}
"""

Files = dict[str, tuple[str, set[str]]]
"""By normal name: version, and SHA-256 of each file."""


def wanted(group: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(one for name in GROUPS[group] for one in extras[name])]


def normal(name: str) -> str:
    """As the index calls the package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def written(name: str, files: Files) -> str:
    """The text of a requirements file."""
    lines = [_HEADING.format(name=name)]
    for package, (version, hashes) in sorted(files.items()):
        told = "".join(f" \\\n    --hash=sha256:{one}" for one in sorted(hashes))
        lines.append(f"{package}=={version}{told}\n")
    return "".join(lines)


def _pip(*arguments: str) -> list[dict[str, Any]]:
    """What pip would install."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        target = ["--target", f"{scratch}/none"] if "--platform" in arguments else []
        subprocess.run([*command, *target, "--report", str(report), *arguments], check=True)
        found: list[dict[str, Any]] = json.loads(report.read_text())["install"]
        return found


def _files(items: Iterable[dict[str, Any]]) -> Files:
    found: Files = {}
    for item in items:
        archive, metadata = item["download_info"]["archive_info"], item["metadata"]
        digest = archive.get("hashes", {}).get("sha256") or archive["hash"].removeprefix("sha256=")
        found[normal(metadata["name"])] = metadata["version"], {digest}
    return found


def _is_of_one_machine(item: dict[str, Any]) -> bool:
    url = str(item["download_info"]["url"])
    return url.endswith(".whl") and not url.endswith("-any.whl")


def _other_machines(pins: Sequence[str]) -> Files:
    platforms = (word for one in _OTHER_MACHINE for word in ("--platform", one))
    abis = ("--abi", "cp311", "--abi", "abi3", "--abi", "none")
    python = ("--python-version", "3.11", "--implementation", "cp")
    return _files(_pip("--no-deps", "--only-binary=:all:", *platforms, *abis, *python, *pins))


def main() -> int:
    if sys.version_info[:2] != (3, 11):
        print(
            "deploy.lock: the hashes are those of Python 3.11's wheels: run it on Debian 12", file=sys.stderr
        )
        return 1
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    reports = {group: _pip(*constraints, *wanted(group)) for group in GROUPS}
    everything = _files(reports["dev"])
    built = {normal(one["metadata"]["name"]) for one in reports["dev"] if _is_of_one_machine(one)}
    others = _other_machines([f"{name}=={everything[name][0]}" for name in sorted(built)])
    for name, (_, hashes) in others.items():
        everything[name][1].update(hashes)
    DIRECTORY.mkdir(exist_ok=True)
    for group, report in reports.items():
        names = {normal(one["metadata"]["name"]) for one in report}
        file = DIRECTORY / f"{group}.txt"
        file.write_text(written(f"requirements/{file.name}", {name: everything[name] for name in names}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
