"""``minidock-lab``, as a student and an instructor use it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labs import cli, sandbox
from labs.table import HERE, ROOT, all_labs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MINIDOCK_LABS", str(tmp_path / "labs"))
    monkeypatch.delenv("MINIDOCK_LAB", raising=False)
    return tmp_path / "labs"


def lab(*words: str) -> int:
    return cli.run_command(list(words))


# %% From start to solution
def test_a_student_s_way(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert lab("start", "repair") == 0
    assert f"yours to write: {home}/repair/repair.sh" in capfd.readouterr().out
    assert lab("start", "repair") == 2
    assert "is there already" in capfd.readouterr().err

    assert lab("solution", "repair") == 1
    assert "nsenter" not in capfd.readouterr().out
    assert lab("check") == 1  # the only one that is started
    out = capfd.readouterr().out
    assert "FAIL  Its processes run (2 points)" in out
    assert "2 of 12 points" in out

    assert lab("hint") == 1
    assert "hint 1 of 3" in capfd.readouterr().out
    assert lab("hint") == 1
    assert "hint 2 of 3" in capfd.readouterr().out

    shutil.copyfile(HERE / "solutions" / "repair.sh", home / "repair" / "repair.sh")
    assert lab("hint") == 0  # the file is new: checked again
    assert "Nothing fails" in capfd.readouterr().out
    assert lab("solution") == 0
    assert "nsenter" in capfd.readouterr().out
    assert lab("list") == 0
    assert "repair       13-engine       12/12    passed" in capfd.readouterr().out

    assert lab("reset", "repair") == 0
    assert "does nothing yet" in (home / "repair" / "repair.sh").read_text()
    assert len(list(home.glob("repair.*/repair.sh"))) == 1
    assert lab("solution") == 0  # what was passed stays passed


def test_the_solution_is_the_engine_s_own_text(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lab("start", "namespaces")
    copy = home / "namespaces" / "minidock" / "namespaces.py"
    shutil.copyfile(ROOT / "minidock" / "namespaces.py", copy)
    assert lab("check", "namespaces") == 0
    capfd.readouterr()
    assert lab("solution", "namespaces") == 0
    out = capfd.readouterr().out
    assert "# minidock/namespaces.py, lines" in out
    for function in ("def flags(", "def enter("):
        assert function in out


def test_an_unknown_lab_and_one_that_is_not_started(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert lab("check", "nonsense") == 2
    assert "no lab 'nonsense' (there are namespaces, " in capfd.readouterr().err
    assert lab("check", "cgroups") == 2
    assert "minidock-lab start cgroups" in capfd.readouterr().err
    assert lab("check") == 2
    assert "which lab?" in capfd.readouterr().err


# %% The work copy
def test_all_but_the_blanked_modules_are_links(home: Path) -> None:
    lab("start", "unionfs")
    package = home / "unionfs" / "minidock"
    real = [path for path in package.rglob("*.py") if not path.is_symlink()]
    assert real == [package / "unionfs" / "overlay.py"]
    text = real[0].read_text()
    assert "# TODO: " in text
    assert 'raise NotImplementedError("OverlayDriver.mount is yours to write")' in text
    assert "class OverlayDriver" in text


def test_what_sudo_makes_belongs_to_the_caller(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "1234")
    lab("start", "cgroups")
    found = [home, *home.rglob("*")]
    assert {path.lstat().st_uid for path in found} == {1234}
    assert (ROOT / "minidock" / "steps.py").stat().st_uid != 1234


# %% Watching
def test_watch_checks_again_when_a_file_changes(home: Path) -> None:
    lab("start", "repair")
    command = [sys.executable, "-m", "labs", "watch", "repair"]
    watcher = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    lines = []
    for line in watcher.stdout:
        lines.append(line)
        if "waiting for a change" in line:
            shutil.copyfile(HERE / "solutions" / "repair.sh", home / "repair" / "repair.sh")
    assert watcher.wait(60) == 0
    watcher.stdout.close()
    assert "12 of 12 points: passed" in lines[-1]


# %% The shell
def test_the_shell_has_the_students_engine_as_it_is_now(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lab("start", "namespaces")
    copy = home / "namespaces" / "minidock" / "namespaces.py"
    script = (
        "minidock run --rm busybox true; echo status $?;"
        f"cat {ROOT}/minidock/namespaces.py > {copy}; touch -d '+1 second' {copy};"
        "minidock run --rm busybox hostname | wc -c; hostname; ip -br link | cut -c1-5"
    )
    capfd.readouterr()
    assert lab("shell", "namespaces", "--", "sh", "-c", script) == 0
    out = capfd.readouterr()
    assert "NotImplementedError: flags is yours to write" in out.err
    assert out.out.split() == ["status", "125", "13", "lab", "lo", "lab0"]


def test_in_the_shell_of_a_repair_lab_check_sees_its_state(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lab("start", "repair")
    script = f"minidock-lab check; bash {HERE}/solutions/repair.sh; minidock-lab check"
    assert lab("shell", "repair", "--", "sh", "-c", script) == 0
    out = capfd.readouterr().out
    assert out.index("2 of 12 points") < out.index("12 of 12 points: passed")
    assert lab("solution", "repair") == 1  # only the script counts


# %% The report
def test_the_report_is_gradescope_s_form(home: Path, tmp_path: Path) -> None:
    lab("start", "repair")
    shutil.copyfile(HERE / "solutions" / "repair.sh", home / "repair" / "repair.sh")
    target = tmp_path / "results.json"
    assert lab("report", "-o", str(target)) == 0
    assert json.loads(target.read_text())["score"] == 0  # never checked
    assert lab("report", "--fresh", "-o", str(target)) == 0
    report = json.loads(target.read_text())
    assert report["score"] == 12
    assert len(report["tests"]) == sum(len(one.checks) for one in all_labs().values())
    for test in report["tests"]:
        assert set(test) == {
            "name", "number", "score", "max_score", "status", "output", "visibility"
        }  # fmt: skip
        assert test["status"] == ("passed" if test["score"] else "failed")
        assert 0 <= test["score"] <= test["max_score"]


# %% The sandbox
def test_a_grader_that_hangs_is_ended(tmp_path: Path) -> None:
    started = time.monotonic()
    assert sandbox.run(["sleep", "1000"], None, {}, seconds=0.5) == 124
    assert time.monotonic() - started < 30


def test_what_a_killed_parent_leaves_is_swept_up(tmp_path: Path) -> None:
    code = "from labs import sandbox; sandbox.run(['sh', '-c', 'echo here; exec sleep 1000'], None, {})"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    prefix = f"{sandbox.PREFIX}{parent.pid}-"

    def left() -> list[Path]:
        groups = Path("/sys/fs/cgroup").glob(f"**/{prefix}*")
        return [*groups, *Path("/tmp").glob(f"{prefix}*")]

    assert left()
    deadline = time.monotonic() + 30
    while left() and time.monotonic() < deadline:  # the kernel takes a moment to end the sandbox
        sandbox.sweep()
        time.sleep(0.1)
    assert left() == []


def test_the_host_is_as_it_was() -> None:
    ttl = Path("/proc/sys/net/ipv4/ip_default_ttl")
    before = ttl.read_text()
    script = (
        f"mount -t tmpfs sown /mnt; hostname sown; echo 77 > {ttl}; ip link add sown type bridge;"
        " nft add table ip sown; nft list tables; kill -9 -1"
    )
    sandbox.run(["sh", "-c", script], None, {})
    assert ttl.read_text() == before != "77\n"
    assert "sown" not in Path("/proc/self/mountinfo").read_text()
    assert os.uname().nodename != "sown"
    for look in (["ip", "link"], ["nft", "list", "tables"]):
        assert "sown" not in subprocess.run(look, capture_output=True, text=True, check=True).stdout
