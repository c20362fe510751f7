"""What was skipped where; a test that is skipped everywhere is an error.

A skipped test looks green. Our hosts differ (version 1, hybrid and version 2
of cgroups; device mapper or none), and so every test is skipped somewhere;
what must not be is that one is skipped *everywhere*, and nobody notices. So
the reports of the two runs, the host's and the virtual machine's, are laid
side by side.

A part of a test can be skipped, too: the book's transcripts skip a block whose
need is not met, and say so by a property ``skipped`` of the test.

**Interface:** :func:`read`, :func:`compare`, :class:`Table`.

**See:** pytest's documentation, "Creating JUnitXML format files" (family ``xunit1``).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

# Skipped for want of what is other people's, and not ours to put into the tree. Listed, no error.
NOT_IN_THE_TREE = (
    "no description of the Engine API",
    "the OCI runtime schema is not here",
    "$MINIDOCK_DISTRIBUTION_SUITE is not set",
    "compares words with those of the docker command line 28",
)

Report = dict[str, str | None]  # a test's id, and why it was skipped; None: it ran


# %% Reading a report
def read(path: Path) -> Report:
    """The tests in a JUnit report. What failed has run: the run itself says so."""
    report: Report = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = identity(case)
        skipped = case.find("skipped")
        report[name] = None if skipped is None else _reason(skipped)
        for part in _skipped_parts(case):
            report[f"{name} ({part})"] = f"in this run: {part}"
    return report


def identity(case: ElementTree.Element) -> str:
    """As pytest takes it on its command line: ``file::class::test``; just the file, if all of it was skipped."""
    file, name = case.get("file", ""), case.get("name", "")
    classes = (case.get("classname") or "").removeprefix(file.removesuffix(".py").replace("/", "."))
    words = [file, *[word for word in classes.split(".") if word], name]
    return "::".join(word for word in words if word)


def _reason(skipped: ElementTree.Element) -> str:
    return (skipped.get("message") or "no reason given").splitlines()[0]


def _skipped_parts(case: ElementTree.Element) -> Iterator[str]:
    for item in case.iter("property"):
        if item.get("name") == "skipped":
            yield item.get("value") or ""


# %% Laying them side by side
@dataclass(frozen=True, slots=True)
class Table:
    """``rows``: file, why not here, why not there, how many; ``nowhere``: what nobody has run."""

    rows: list[tuple[str, str, str, int]]
    nowhere: list[str]
    counts: dict[str, int]

    def text(self) -> str:
        """As Markdown."""
        lines = ["| tests in | on the host | in the VM | number |", "|---|---|---|---|"]
        lines += [
            f"| {file} | {here} | {there} | {count} |" for file, here, there, count in self.rows
        ]
        lines += [
            "",
            ", ".join(f"{words}: {number}" for words, number in self.counts.items()) + ".",
        ]
        if self.nowhere:
            lines += ["", "Run nowhere, which is an error:", ""]
            lines += [f"- {name}" for name in self.nowhere]
        return "\n".join(lines) + "\n"


def compare(host: Report, guest: Report) -> Table:
    """The host's run beside the virtual machine's, which may be a part of the tests only."""
    rows: Counter[tuple[str, str, str]] = Counter()
    nowhere = []
    for name in sorted({*host, *guest}):
        here, there = _word(host, name), _word(guest, name)
        if "ran" not in (here, there) and not _excused(here, there):
            nowhere.append(f"{name}: {here}; in the VM {there}")
        if here != "ran" or there not in ("ran", MISSING):
            rows[name.partition("::")[0], here, there] += 1
    counts = {
        "on the host": sum(why is None for why in host.values()),
        "in the VM": sum(why is None for why in guest.values()),
        "tests known": len({*host, *guest}),
        "run nowhere": len(nowhere),
    }
    return Table([(*row, count) for row, count in sorted(rows.items())], nowhere, counts)


MISSING = "not in this run"


def _word(report: Report, name: str) -> str:
    """A part that is not reported as skipped has run, if its test has."""
    if name in report:
        return report[name] or "ran"
    whole = name.partition(" (")[0]
    return _word(report, whole) if whole != name else MISSING


def _excused(here: str, there: str) -> bool:
    return all(word == MISSING or word.startswith(NOT_IN_THE_TREE) for word in (here, there))
