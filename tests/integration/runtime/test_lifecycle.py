"""The runtime's operations, what they refuse, and what they leave when they are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.runtime.conftest import Runtime

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# %% Life
def test_a_life(runtime: Runtime, tmp_path: Path) -> None:
    """create, start, kill, delete; what state says in between."""
    runtime.config["process"]["args"] = ["sh", "-c", "touch /started; exec sleep 1000"]
    runtime.config["root"]["readonly"] = False
    runtime.write()
    name, pid_file = runtime.name(), tmp_path / "pid"
    assert runtime.status_of("create", "--pid-file", str(pid_file), name) == 0
    state = json.loads(runtime.ok("state", name))
    assert (state["status"], state["id"], state["bundle"]) == ("created", name, str(runtime.bundle))
    assert state["pid"] == int(pid_file.read_text())
    assert not (runtime.bundle / "rootfs/started").exists()
    runtime.config["process"]["args"] = ["true"]
    runtime.write()  # too late to matter
    runtime.ok("start", name)
    assert runtime.status(name) == "running"
    assert (runtime.bundle / "rootfs/started").exists()
    assert runtime.ok("exec", name, "cat", "/proc/1/comm") == "sleep"
    runtime.ok("kill", name, "KILL")
    _wait_for(runtime, name, "stopped")
    assert json.loads(runtime.ok("state", name))["pid"] == 0
    runtime.ok("delete", name)
    assert runtime.left() == {}


def _wait_for(runtime: Runtime, name: str, status: str) -> None:
    for _ in range(100):
        if runtime.status(name) == status:
            return
        time.sleep(0.02)
    raise AssertionError(f"{name} is {runtime.status(name)}, not {status}")


def test_pause_ps_events_update(runtime: Runtime) -> None:
    """Everything that is asked of a container that runs."""
    runtime.config["linux"]["resources"]["memory"] = {"limit": 64 << 20}
    name = runtime.detached("sleep", "1000")
    assert len(json.loads(runtime.ok("ps", "-f", "json", name))) == 1
    assert "sleep 1000" in runtime.ok("ps", name)
    runtime.ok("pause", name)
    assert runtime.status(name) == "paused"
    assert "cannot exec in a paused container" in runtime.fails("exec", name, "true", status=255)
    runtime.ok("resume", name)
    runtime.ok("update", "--memory", "32m", name)
    usage = json.loads(runtime.ok("events", "--stats", name))["data"]
    assert usage["memory"]["usage"]["limit"] == 32 << 20
    assert [one["id"] for one in json.loads(runtime.ok("list", "-f", "json"))] == [name]
    runtime.ok("delete", "--force", name)
    assert runtime.ok("list", "-q") == ""


def test_exec_is_a_variation_of_the_process(runtime: Runtime, tmp_path: Path) -> None:
    """User, groups, directory, variables, capabilities; or all of it from a file."""
    name = runtime.detached("sleep", "1000")
    flags = ["-u", "1000:1000", "-g", "100", "--cwd", "/tmp", "-e", "A=b"]
    said = runtime.ok("exec", *flags, name, "sh", "-c", "id -u; id -G; pwd; echo $A $HOME")
    assert said.splitlines() == ["1000", "1000 100", "/tmp", "b /"]
    wanted = {"cwd": "/", "args": ["sh", "-c", "exit 7"], "env": ["PATH=/bin"]}
    (tmp_path / "process.json").write_text(json.dumps(wanted))
    assert runtime.call("exec", "-p", str(tmp_path / "process.json"), name).returncode == 7
    assert "executable file not found" in runtime.fails("exec", name, "nonexistent", status=255)


# %% What is refused
def test_unknown_and_taken_names(runtime: Runtime) -> None:
    """One clear line, status 1, in runc's words."""
    for verb in ("start", "state", "kill", "delete", "pause", "resume", "ps", "update", "events"):
        assert "container does not exist" in runtime.fails(verb, "nobody"), verb
    assert runtime.call("delete", "--force", "nobody").returncode == 0
    assert "container id cannot be empty" in runtime.fails("state", "")
    assert "invalid container ID format" in runtime.fails("run", "a/b")
    assert "invalid container ID format" in runtime.fails("delete", "..")
    assert "requires exactly 1 argument(s)" in runtime.fails("start")
    name = runtime.detached("sleep", "1000")
    assert "container with given ID already exists" in runtime.fails("run", name)
    assert runtime.status(name) == "running"


def test_the_wrong_moment(runtime: Runtime) -> None:
    """start after start, kill of the dead, delete of the living."""
    name = runtime.detached("sleep", "1000")
    assert "cannot start an already running container" in runtime.fails("start", name)
    assert "cannot delete container" in runtime.fails("delete", name)
    assert "unknown signal" in runtime.fails("kill", name, "NONSENSE")
    assert "container not paused" in runtime.fails("resume", name)
    runtime.ok("kill", name, "9")
    _wait_for(runtime, name, "stopped")
    assert "container not running" in runtime.fails("kill", name)
    assert "cannot start a container that has stopped" in runtime.fails("start", name)
    assert "cannot exec in a stopped container" in runtime.fails("exec", name, "true", status=255)


def test_bad_bundles(runtime: Runtime) -> None:
    """No configuration, no JSON, no such root: said before anything is made."""
    (runtime.bundle / "config.json").unlink()
    assert "config.json not found" in runtime.fails("run", runtime.name())
    (runtime.bundle / "config.json").write_text("{")
    assert "config.json is not JSON" in runtime.fails("run", runtime.name())
    runtime.config["root"]["path"] = "nowhere"
    runtime.write()
    assert "invalid rootfs" in runtime.fails("run", runtime.name())
    runtime.config["root"]["path"] = "rootfs"
    runtime.config["process"]["args"] = ["nonexistent"]
    runtime.write()
    assert "executable file not found in $PATH" in runtime.fails("run", runtime.name())
    assert runtime.left() == {}


def test_errors_go_to_the_log(runtime: Runtime, tmp_path: Path) -> None:
    """As JSON, where an engine looks for the reason."""
    log = tmp_path / "log"
    done = runtime.call("start", "nobody", log=log)
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["level"], last["msg"]) == ("error", "container does not exist")
    assert done.stderr.strip() == "container does not exist"


# %% Killed at any step
def _titles(runtime: Runtime) -> list[str]:
    """The steps of a run that succeeds, in order."""
    done = runtime.call("--debug", "run", runtime.name())
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "level=debug" in line]
    words = [line.partition(": ")[2].partition(" [")[0] for line in lines]
    return list(dict.fromkeys(words))


def test_every_step_fails_and_is_the_last(runtime: Runtime) -> None:
    """After a failure nothing is left; after a kill ``delete --force`` leaves nothing."""
    runtime.config["process"]["args"] = ["true"]
    runtime.config["hooks"] = {"createContainer": [{"path": "/bin/true"}]}
    runtime.config["linux"]["namespaces"].append({"type": "time"})
    runtime.write()
    titles = _titles(runtime)
    assert len(titles) > 20, titles
    for title in titles:
        for how in ("fail", "kill"):
            name = runtime.name()
            assert runtime.status_of("run", name, fault=f"{how}={title}") != 0, (how, title)
            if how == "kill":
                assert runtime.call("delete", "--force", name).returncode == 0
            assert runtime.left() == {}, (how, title)
            assert not _processes(name), (how, title)


def _processes(name: str) -> list[str]:
    """Processes that still work for the container: our program with its name among the arguments."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if name.encode() in words and state != "Z":
            found.append(f"{pid} {state}")
    return found


def test_signals_reach_the_program(runtime: Runtime) -> None:
    """``run`` in the foreground passes them on, and returns the program's status."""
    runtime.config["process"]["args"] = [
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done",
    ]
    runtime.write()
    command = [sys.executable, "-m", "minidock.cli.runtime", "--root", str(runtime.state)]
    process = subprocess.Popen(
        [*command, "run", runtime.name()],
        cwd=runtime.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 9
    process.stdout.close()
