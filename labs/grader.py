"""The program in the sandbox: runs a lab's checks, and writes each verdict as it is reached.

``python -m labs.grader LAB PLACE ARCHIVE FD [quiet] [live] [only=CHECK]`` with the work copy first on
Python's path: ``import minidock`` is the student's. A verdict is one line of
JSON on the descriptor FD. After a check that failed, the lab's hint for it
is asked *then*, while the broken state can still be looked at.

**Interface:** :func:`grade`, :class:`Verdict`; as a program, :func:`main`.
"""

import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from labs.bench import Bench, Wrong, command, describe
from labs.splice import functions
from labs.table import Check, Lab, get
from labs.workcopy import own_files

LONGEST = 1000  # characters of a message: nobody reads more


# %% A verdict
@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one check; ``hints`` go from the vague to the plain."""

    name: str
    title: str
    points: int
    passed: bool
    expected: str = ""
    said: str = ""
    read: str = ""
    hints: list[str] = field(default_factory=list)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Verdict":
        """The verdict that :func:`dataclasses.asdict` made ``data`` of."""
        return cls(**data)


# %% Running the checks
def grade(lab: Lab, bench: Bench, only: str = "") -> Iterator[Verdict]:
    """The checks of ``lab`` (or ``only`` one), in order; each begins without containers. Ends early with the sandbox."""
    checks = importlib.import_module(f"labs.checks.{lab.name}")
    for check in lab.checks:
        if only not in ("", check.name):
            continue
        yield _judge(lab, check, getattr(checks, check.name), bench)
        if lab.blanks and not bench.clear():
            return


def _judge(lab: Lab, check: Check, function: Callable[[Bench], None], bench: Bench) -> Verdict:
    title = (function.__doc__ or check.name).strip().rstrip(".")
    try:
        function(bench)
    except Wrong as error:
        wrong = error
    except Exception as error:  # noqa: BLE001 (a student's code may raise anything)
        wrong = Wrong("no error", describe(error))
    else:
        return Verdict(check.name, title, check.points, True)
    return Verdict(
        check.name,
        title,
        check.points,
        False,
        wrong.expected[:LONGEST],
        wrong.said[:LONGEST],
        check.read,
        list(hints(lab, check.name, wrong, bench)),
    )


def hints(lab: Lab, check: str, wrong: Wrong, bench: Bench) -> Iterator[str]:
    """What ``labs/hints/<lab>.py`` says for the check, as the machine is now."""
    module: ModuleType = importlib.import_module(f"labs.hints.{lab.name}")
    if "NotImplementedError" in wrong.said:
        yield f"It is not written yet: {', '.join(_unwritten(bench.place))}."
    function = getattr(module, check, None)
    if function is None:
        return
    try:
        yield from function(wrong, bench)
    except Exception as error:  # noqa: BLE001 (a hint that finds nothing to look at is no verdict)
        yield f"(no more can be said: {describe(error)})"


def _unwritten(place: Path) -> list[str]:
    """The student's functions that still raise NotImplementedError."""
    return [
        f"{name}() in {path.relative_to(place)}"
        for path in own_files(place)
        for name in functions(path.read_text())
        if f'raise NotImplementedError("{name} is yours' in path.read_text()
    ]


# %% What the student reads
_LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def show(verdict: Verdict) -> str:
    """A verdict as text."""
    points = f"{verdict.points} point{'s' if verdict.points > 1 else ''}"
    if verdict.passed:
        return f"  ok    {verdict.title} ({points})"
    said = _LONG_ID.sub(r"\1…", verdict.said)
    return (
        f"  FAIL  {verdict.title} ({points})\n"
        f"          expected: {verdict.expected}\n"
        f"          but:      {said}\n"
        f"          read:     {verdict.read}"
    )


def say(text: str) -> None:
    """Print it; when nobody reads any more (``| head``), the verdicts are wanted all the same."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


# %% As a program
def prepare(lab: Lab, bench: Bench) -> None:
    """Make what a lab begins with: for a repair lab, the damage."""
    if not lab.blanks:
        importlib.import_module(f"labs.checks.{lab.name}").break_it(bench)


def main(arguments: list[str]) -> int:
    """Grade; returns 0 if all checks passed."""
    lab, place, archive, mode = get(arguments[0]), Path(arguments[1]), arguments[2], arguments[4:]
    bench = Bench(place, archive)
    if "live" not in mode:
        prepare(lab, bench)
        if not lab.blanks:
            _run_script(place / "repair.sh")
    only = next((word[5:] for word in mode if word.startswith("only=")), "")
    passed = True
    with open(int(arguments[3]), "w") as out:
        for verdict in grade(lab, bench, only):
            passed = passed and verdict.passed
            out.write(json.dumps(asdict(verdict)) + "\n")
            out.flush()
            if "quiet" not in mode:
                say(show(verdict))
    return 0 if passed else 1


def _run_script(path: Path) -> None:
    done = command("bash", str(path))
    for line in (done.out + done.err).splitlines():
        say(f"  repair.sh: {line}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
