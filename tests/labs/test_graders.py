"""The graders, graded: the stub fails, the engine passes, every wrong answer hears what is wrong with it."""

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from labs import cli, splice, workcopy
from labs.grader import Verdict
from labs.table import HERE, ROOT, Lab, all_labs, cgroup_version, missing, problems
from tests import leaks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LABS = list(all_labs())


# %% Wrong answers
@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """A file of labs/wrong/: which check fails, and what it says (a regular expression)."""

    path: Path
    check: str
    expected: str

    @classmethod
    def read(cls, path: Path) -> "WrongAnswer":
        text = path.read_text()
        check, expected = re.search(r"# check: (.*)\n# expect: (.*)\n", text).groups()  # type: ignore[union-attr]
        return cls(path, check, expected)


def wrong_answers(lab: str) -> list[WrongAnswer]:
    """Those for this host's version of cgroups, where it matters."""
    folder = HERE / "wrong" / (f"cgroups-{cgroup_version()}" if lab == "cgroups" else lab)
    return [WrongAnswer.read(path) for path in sorted(folder.iterdir())]


WRONG = [
    pytest.param(lab, wrong, id=f"{lab}-{wrong.path.stem}")
    for lab in LABS
    for wrong in wrong_answers(lab)
]


# %% Making work copies, grading them
def engine_sources(lab: Lab) -> dict[str, str]:
    """The modules that the lab blanks, as the engine has them."""
    return {blank.module: (ROOT / blank.module).read_text() for blank in lab.here()}


def with_functions_of(sources: dict[str, str], other: str) -> dict[str, str]:
    """``sources`` with the functions of ``other`` in them, each in the module that has one of its name."""
    result = dict(sources)
    for name in splice.functions(other):
        homes = [path for path, source in result.items() if name in splice.functions(source)]
        assert len(homes) == 1, f"{name} is in {homes}"
        result[homes[0]] = splice.replace(result[homes[0]], other, [name])
    return result


def answer(lab: Lab, place: Path, wrong: WrongAnswer | None) -> None:
    """A work copy with the engine's own functions, or with a wrong answer."""
    place.mkdir()
    if not lab.blanks:
        script = HERE / "solutions" / f"{lab.name}.sh" if wrong is None else wrong.path
        shutil.copyfile(script, place / "repair.sh")
        return
    sources = engine_sources(lab)
    if wrong is not None:
        sources = with_functions_of(sources, wrong.path.read_text())
    workcopy.shadow(place, sources)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("MINIDOCK_LABS", str(tmp_path_factory.getbasetemp() / "labs"))


def lab_here(name: str) -> Lab:
    lab = all_labs()[name]
    if missing(lab):
        pytest.skip(f"needs {', '.join(missing(lab))}")
    return lab


def said(verdicts: Sequence[Verdict]) -> str:
    """All that the student would read."""
    return "\n".join(f"{one.expected}; {one.said}" for one in verdicts if not one.passed)


# %% The table
def test_the_table_fits_the_engine() -> None:
    assert problems() == []


@pytest.mark.parametrize("name", LABS)
def test_every_lab_has_enough_wrong_answers(name: str) -> None:
    checks = {check.name for check in all_labs()[name].checks}
    wrong = wrong_answers(name)
    assert len(wrong) >= 5
    assert {one.check for one in wrong} <= checks
    if name == "cgroups":
        other = {"v1": "v2", "v2": "v1"}[cgroup_version()]
        assert len(list((HERE / "wrong" / f"cgroups-{other}").iterdir())) >= 5


# %% The graders
@pytest.mark.parametrize("name", LABS)
def test_the_stub_fails_for_the_right_reason(name: str, tmp_path: Path) -> None:
    lab = lab_here(name)
    workcopy.make(lab, tmp_path / name)
    verdicts = cli.grade(lab, tmp_path / name, "quiet")
    assert [one.name for one in verdicts] == [one.name for one in lab.checks]
    failed = [one for one in verdicts if not one.passed]
    if lab.blanks:
        assert len(failed) == len(lab.checks)
        assert all("NotImplementedError: " in one.said for one in failed), said(failed)
        for blank in lab.here():
            for function in blank.todos:
                assert function in said(failed) + "".join(one.hints[0] for one in failed)
    else:
        assert {one.name for one in verdicts if one.passed} == {"same"}
    assert all(one.hints and one.read for one in failed)


@pytest.mark.parametrize("name", LABS)
def test_the_engine_passes(name: str, tmp_path: Path) -> None:
    lab = lab_here(name)
    answer(lab, tmp_path / name, None)
    verdicts = cli.grade(lab, tmp_path / name, "quiet")
    assert all(one.passed for one in verdicts), said(verdicts)
    assert sum(one.points for one in verdicts) == lab.points


HEARD: dict[str, dict[WrongAnswer, str]] = defaultdict(dict)


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_wrong_answer_hears_its_own_message(
    name: str, wrong: WrongAnswer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIDOCK_LAB_PATIENCE", "2")
    lab = lab_here(name)
    answer(lab, tmp_path / name, wrong)
    verdicts = cli.grade(lab, tmp_path / name, "quiet", f"only={wrong.check}")
    HEARD[name][wrong] = said(verdicts)
    assert [one.name for one in verdicts] == [wrong.check]
    assert not verdicts[0].passed
    assert re.search(wrong.expected, said(verdicts)), said(verdicts)
    for other, text in HEARD[name].items():
        if other is not wrong:
            assert not re.search(wrong.expected, text), f"{other.path.name} hears the same: {text}"
            assert not re.search(other.expected, said(verdicts)), f"as {other.path.name}"


# %% The host
def test_grading_leaves_nothing(tmp_path: Path) -> None:
    before = leaks.look()
    lab = lab_here("repair")
    workcopy.make(lab, tmp_path / "repair")  # the shop stays frozen: even that must go
    cli.grade(lab, tmp_path / "repair", "quiet")
    ours = [line for line in leaks.compare(before, leaks.look()) if "minidock-lab" in line]
    assert ours == []
    assert not list(Path("/sys/fs/cgroup").glob(f"**/minidock-lab-{os.getpid()}-*"))
