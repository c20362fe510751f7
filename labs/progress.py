"""What was reached: a JSON file in the student's directory, and the report for Gradescope.

The trap: it is the student's own file and can be edited. So ``report
--fresh`` grades again from the work copies, and that is what an instructor
runs (``docs/instructors.md``).

**Interface:** :class:`State`, :func:`load`, :func:`save`, :func:`gradescope`.

**See:** Gradescope, "Autograder Specifications", ``results.json``.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from labs import workcopy
from labs.grader import Verdict
from labs.table import Lab
from minidock.paths import read_json, write_json


# %% One lab's state
@dataclass(frozen=True, slots=True)
class State:
    """``best`` points ever; ``verdicts`` of the last check, at ``checked``; ``shown`` hints by check."""

    best: int = 0
    tries: int = 0
    passed: bool = False
    checked: float = 0.0
    verdicts: tuple[Verdict, ...] = ()
    shown: dict[str, int] = field(default_factory=dict)

    @property
    def points(self) -> int:
        """Of the last check."""
        return sum(one.points for one in self.verdicts if one.passed)

    def after(self, verdicts: Sequence[Verdict]) -> "State":
        """The state after a check with these verdicts."""
        new = replace(self, verdicts=tuple(verdicts), tries=self.tries + 1, checked=time.time())
        passed = self.passed or all(one.passed for one in verdicts)
        return replace(new, best=max(self.best, new.points), passed=passed)


# %% On disk
def load() -> dict[str, State]:
    """All labs' states, by name; empty at first."""
    try:
        data = read_json(workcopy.home() / "progress.json")
    except FileNotFoundError:
        return {}
    return {name: _state(entry) for name, entry in data.items()}


def _state(entry: dict[str, Any]) -> State:
    verdicts = tuple(Verdict.from_json(one) for one in entry["verdicts"])
    return State(**{**entry, "verdicts": verdicts})


def save(states: Mapping[str, State]) -> None:
    """Replace the file."""
    workcopy.home().mkdir(parents=True, exist_ok=True)
    data = {name: asdict(state) for name, state in states.items()}
    write_json(workcopy.home() / "progress.json", data, durable=False)


# %% The report
def gradescope(labs: Sequence[Lab], verdicts: Mapping[str, Sequence[Verdict]]) -> dict[str, Any]:
    """``results.json``: a test for each check; of a lab that was never checked, no points."""
    tests = []
    for number, lab in enumerate(labs, 1):
        known = {one.name: one for one in verdicts.get(lab.name, ())}
        for place, check in enumerate(lab.checks, 1):
            verdict = known.get(check.name)
            passed = verdict is not None and verdict.passed
            tests.append(
                {
                    "name": f"{lab.name}: {verdict.title if verdict else check.name}",
                    "number": f"{number}.{place}",
                    "score": check.points if passed else 0,
                    "max_score": check.points,
                    "status": "passed" if passed else "failed",
                    "output": _output(verdict),
                    "visibility": "visible",
                }
            )
    score = sum(int(str(test["score"])) for test in tests)
    return {"score": score, "visibility": "visible", "stdout_visibility": "visible", "tests": tests}


def _output(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not checked"
    if verdict.passed:
        return "as expected"
    return f"expected: {verdict.expected}\nthe machine said: {verdict.said}\nread: {verdict.read}"
