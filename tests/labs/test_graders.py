"""The graders, graded: the stub fails, the engine passes, every wrong answer hears what is wrong with it."""

import ast
import os
import re
import tomllib
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
    """A row of labs/wrong/: which check fails, and what it ``says`` (a regular expression)."""

    name: str
    mistake: str
    check: str
    says: str
    changes: tuple[tuple[str, str], ...] = ()
    script: str = ""


def wrong_answers(name: str) -> list[WrongAnswer]:
    """Those in ``labs/wrong/<name>.toml``."""
    with open(HERE / "wrong" / f"{name}.toml", "rb") as file:
        rows = tomllib.load(file)["answer"]
    return [
        WrongAnswer(**{**row, "changes": tuple(map(tuple, row.get("changes", ())))}) for row in rows
    ]


def wrong_here(lab: str) -> list[WrongAnswer]:
    """Those for this host's version of cgroups, where it matters."""
    return wrong_answers(f"cgroups-{cgroup_version()}" if lab == "cgroups" else lab)


WRONG = [
    pytest.param(lab, wrong, id=f"{lab}-{wrong.name}") for lab in LABS for wrong in wrong_here(lab)
]


# %% Making work copies, grading them
def sources(lab: Lab, version: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """The modules that the lab blanks on hosts of ``version``, as the engine has them, and the functions."""
    texts: dict[str, str] = {}
    names: dict[str, set[str]] = defaultdict(set)
    for blank in lab.blanks:
        if blank.only in ("", version):
            texts[blank.module] = (ROOT / blank.module).read_text()
            names[blank.module] |= set(blank.todos)
    return texts, names


def changed(lab: Lab, wrong: WrongAnswer, version: str) -> dict[str, str]:
    """The modules with the wrong answer in them. Raises :class:`LookupError` where the engine has moved on."""
    texts, names = sources(lab, version)
    for old, new in wrong.changes:
        homes = [
            path
            for path, text in texts.items()
            if any(old in splice.text_of(text, name) + "\n" for name in names[path])
        ]
        if len(homes) != 1:
            raise LookupError(f"{wrong.name}: {old!r} stands in {homes or 'no module'}")
        texts[homes[0]] = splice.change(texts[homes[0]], names[homes[0]], old, new)
    return texts


def answer(lab: Lab, place: Path, wrong: WrongAnswer | None) -> None:
    """A work copy with the engine's own functions, or with a wrong answer."""
    place.mkdir()
    if not lab.blanks:
        solution = (HERE / "solutions" / f"{lab.name}.sh").read_text()
        (place / "repair.sh").write_text(solution if wrong is None else wrong.script)
    elif wrong is None:
        workcopy.shadow(place, sources(lab, cgroup_version())[0])
    else:
        workcopy.shadow(place, changed(lab, wrong, cgroup_version()))


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


@pytest.mark.parametrize("file", sorted(path.stem for path in (HERE / "wrong").glob("*.toml")))
def test_wrong_answers_fit_the_engine_and_are_enough(file: str) -> None:
    name, _, version = file.partition("-")
    lab, wrong = all_labs()[name], wrong_answers(file)
    assert len({one.name for one in wrong}) == len(wrong) >= 5
    assert {one.check for one in wrong} <= {check.name for check in lab.checks}
    for one in wrong:
        assert bool(one.script) != bool(one.changes)
        for text in changed(lab, one, version).values():
            ast.parse(text)


def test_every_lab_has_wrong_answers() -> None:
    for name in LABS:
        assert wrong_here(name)


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
    assert re.search(wrong.says, said(verdicts)), said(verdicts)
    for other, text in HEARD[name].items():
        if other is not wrong:
            assert not re.search(wrong.says, text), f"{other.name} hears the same: {text}"
            assert not re.search(other.says, said(verdicts)), f"as {other.name}"


# %% The host
def test_grading_leaves_nothing(tmp_path: Path) -> None:
    before = leaks.look()
    lab = lab_here("repair")
    workcopy.make(lab, tmp_path / "repair")  # the shop stays frozen: even that must go
    cli.grade(lab, tmp_path / "repair", "quiet")
    ours = [line for line in leaks.compare(before, leaks.look()) if "minidock-lab" in line]
    assert ours == []
    assert not list(Path("/sys/fs/cgroup").glob(f"**/minidock-lab-{os.getpid()}-*"))
