"""python -m deploy.render: the plain manifests, rendered from the chart. A test holds both equal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from deploy import helm

HERE = Path(__file__).resolve().parent
CHART = HERE / "chart" / "terway"
MANIFESTS: Mapping[Path, tuple[str, ...]] = {
    HERE / "terway.yaml": (),
    HERE / "terway-lab.yaml": ("--values", str(HERE / "lab-values.yaml")),
}
"""File, and how the chart is rendered for it."""
POD_IPS = HERE / "terway-pod-ips.yaml"
"""Beside terway.yaml, where the annotation pod-ips is wanted."""
_POD_IPS = ("--set", "podIps.annotate=true", "--show-only", "templates/pod-ips.yaml")
_HEADING = "# Rendered from deploy/chart/terway{} by `python -m deploy.render`; change that.\n"


def rendered(tool: Path, manifest: Path) -> str:
    """What the file ``manifest`` should hold. Raises HelmError."""
    if manifest == POD_IPS:
        return _HEADING.format(f" with {_POD_IPS[1]}") + helm.template(tool, CHART, _POD_IPS)
    options = MANIFESTS[manifest]
    values = f" with {Path(options[-1]).name}" if options else ""
    return _HEADING.format(values) + helm.template(tool, CHART, options)


def main() -> int:
    try:
        tool = helm.present()
        if tool is None:
            raise helm.HelmError(
                f"no Helm is built: `python -m lab.kubernetes.helm` does it, or name one in {helm.VARIABLE}"
            )
        for manifest in (*MANIFESTS, POD_IPS):
            manifest.write_text(rendered(tool, manifest))
    except helm.HelmError as exc:
        print(f"deploy.render: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
