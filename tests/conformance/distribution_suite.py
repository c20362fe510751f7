"""Run the OCI distribution conformance suite, which somebody has built, against our registry and Debian's.

``python -m tests.conformance.distribution_suite SUITE`` prints the table of docs/conformance.md.
SUITE is the program that ``go build`` makes of the directory ``conformance`` of the distribution
specification's repository.
"""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.registries import Registry, docker_registry, ours

LINE = re.compile(r"^ {2}([A-Z][^.:]*?)\.+: +(\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What the suite found: counts by status, statuses by API and by kind of data."""

    counts: dict[str, int]
    lines: dict[str, str]
    report: str


def run(suite: str, registry: Registry, version: str) -> Result:
    """The suite's verdict; ``version`` is of the specification: 1.1, or dev for all that is new."""
    with tempfile.TemporaryDirectory(prefix="mddist") as directory:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OCI_")},
            "OCI_REGISTRY": registry.address,
            "OCI_TLS": "disabled",
            "OCI_VERSION": version,
            "OCI_LOG": "error",
            "OCI_RESULTS_DIR": directory,
        }
        done = subprocess.run(
            [suite], env=environment, cwd=directory, capture_output=True, text=True, check=False
        )
    summary = done.stdout.partition("OCI Conformance Result:")[2]
    assert summary, done.stdout + done.stderr
    found = dict(LINE.findall(summary))
    counts = {name: int(value) for name, value in found.items() if value.isdecimal()}
    lines = {name: value for name, value in found.items() if not value.isdecimal()}
    return Result(counts, lines, done.stdout)


def table(results: list[tuple[str, Result]]) -> str:
    """In Markdown: one column for each registry."""
    rows = [["", *(title for title, _ in results)], ["---"] * (len(results) + 1)]
    for status in ("Pass", "FAIL", "Skip", "Disabled"):
        rows.append([f"**{status}**", *(str(one.counts[status]) for _, one in results)])
    for name in results[0][1].lines:
        rows.append([name, *(one.lines.get(name, "") for _, one in results)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    """Both registries, both versions of the specification."""
    suite = str(Path(sys.argv[1]).resolve())
    results = []
    with tempfile.TemporaryDirectory(prefix="mddist") as name:
        for version in ("1.1", "dev"):
            with ours(Path(name) / f"ours-{version}") as registry:
                results.append((f"MiniDock, {version}", run(suite, registry, version)))
            with docker_registry(Path(name) / f"theirs-{version}") as other:
                if other is not None:
                    results.append((f"docker-registry, {version}", run(suite, other, version)))
    print(table(results))
    return int(any(one.counts["FAIL"] for title, one in results if title.startswith("MiniDock")))


if __name__ == "__main__":
    raise SystemExit(main())
