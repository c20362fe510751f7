"""What was skipped where: a test that nobody has run is found."""

from pathlib import Path

import pytest

from tools.vm import suite, table

HEAD = '<?xml version="1.0"?><testsuites><testsuite name="pytest">{cases}</testsuite></testsuites>'
CASE = '<testcase classname="{cls}" file="{file}" name="{name}">{inside}</testcase>'
SKIPPED = '<skipped type="pytest.skip" message="{why}">/x.py:1: {why}</skipped>'


def case(name: str, why: str = "", inside: str = "", file: str = "tests/a/test_b.py") -> str:
    cls = file.removesuffix(".py").replace("/", ".")
    what, _, method = name.rpartition("::")
    return CASE.format(
        cls=f"{cls}.{what}" if what else cls,
        file=file,
        name=method,
        inside=inside or (SKIPPED.format(why=why) if why else ""),
    )


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.xml"


# %% Reading
def test_names_are_those_that_pytest_takes(report: Path) -> None:
    report.write_text(HEAD.format(cases=case("test_x[1-a]") + case("TestC::test_y", "no v2")))
    assert table.read(report) == {
        "tests/a/test_b.py::test_x[1-a]": None,
        "tests/a/test_b.py::TestC::test_y": "no v2",
    }


def test_what_failed_has_run(report: Path) -> None:
    report.write_text(HEAD.format(cases=case("test_x", inside='<failure message="no"/>')))
    assert table.read(report) == {"tests/a/test_b.py::test_x": None}


def test_parts_that_were_skipped(report: Path) -> None:
    inside = '<properties><property name="skipped" value="3 commands need cgroup-v2"/></properties>'
    report.write_text(HEAD.format(cases=case("test_x", inside=inside)))
    part = "tests/a/test_b.py::test_x (3 commands need cgroup-v2)"
    assert table.read(report)[part] is not None
    assert table.read(report)["tests/a/test_b.py::test_x"] is None


# %% Comparing
RAN: dict[str, str | None] = {"f.py::a": None}
NOT: dict[str, str | None] = {"f.py::a": "no v2"}


@pytest.mark.parametrize(
    ("host", "guest", "nowhere"),
    [
        (RAN, RAN, False),
        (RAN, NOT, False),
        (NOT, RAN, False),
        (RAN, {}, False),
        (NOT, NOT, True),
        (NOT, {}, True),
        ({}, NOT, True),
    ],
)
def test_skipped_everywhere_is_an_error(
    host: table.Report, guest: table.Report, nowhere: bool
) -> None:
    found = table.compare(host, guest)
    assert bool(found.nowhere) is nowhere
    assert ("Run nowhere" in found.text()) is nowhere


def test_a_part_that_is_not_reported_has_run() -> None:
    part: table.Report = {"f.py::a": None, "f.py::a (1 command needs v2)": "in this run: 1 …"}
    assert table.compare(part, RAN).nowhere == []
    assert table.compare(part, {}).nowhere == [
        "f.py::a (1 command needs v2): in this run: 1 …; in the VM not in this run"
    ]
    assert len(table.compare(part, part).nowhere) == 1


def test_other_peoples_data_is_no_error_but_listed() -> None:
    why: table.Report = {"f.py::a": f"{table.NOT_IN_THE_TREE[0]} in /x"}
    found = table.compare(why, why)
    assert found.nowhere == [] and len(found.rows) == 1


def test_rows_are_counted_by_file_and_reason() -> None:
    host: table.Report = {"f.py::a": "no v2", "f.py::b": "no v2", "g.py::c": None}
    guest: table.Report = {"f.py::a": None, "f.py::b": None, "g.py::c": None}
    assert table.compare(host, guest).rows == [("f.py", "no v2", "ran", 2)]


# %% The smoke part
def test_smoke_is_what_the_host_could_not_do(report: Path) -> None:
    cases = [
        case("test_x", "no thin pools"),
        case("test_y"),
        case("test_v2", "no v2", file="tests/integration/cgroup2/test_kernel.py"),
        case("test_z", f"{table.NOT_IN_THE_TREE[0]} in /x"),
    ]
    report.write_text(HEAD.format(cases="".join(cases)))
    names = suite.smoke_names(report)
    assert names[: len(suite.ALWAYS)] == suite.ALWAYS
    assert names[len(suite.ALWAYS) :] == ["tests/a/test_b.py::test_x"]


def test_smoke_without_a_report(tmp_path: Path) -> None:
    assert suite.smoke_names(tmp_path / "none.xml") == suite.ALWAYS


def test_the_rest_is_what_the_smoke_part_leaves() -> None:
    rest = suite.rest(suite.Part("smoke", ["tests/a", "tests/b.py::c"], 1), 90.5)
    assert rest.names == ["tests", "--deselect=tests/a", "--deselect=tests/b.py::c"]
    assert (rest.seconds, rest.may_stop, rest.report) == (90, True, suite.REST)


def test_what_is_always_run_exists() -> None:
    for name in suite.ALWAYS:
        path, _, test = name.partition("::")
        assert (suite.TREE / path).exists()
        assert not test or test.partition("[")[0] in _tests(suite.TREE / path)


def _tests(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    return [line[4:].partition("(")[0] for line in lines if line.startswith("def test_")]
