"""Restarts, pause, update, stats and cp, as the stock docker command line uses them."""

import io
import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Daemon, docker_28
from tests.speed import wait_until


def inspect(daemon: Daemon, name: str) -> Any:
    return json.loads(daemon.ok("inspect", name))[0]


# %% Restart policies
def test_on_failure_restarts_so_many_times(daemon: Daemon) -> None:
    script = "echo run; exit 3"
    daemon.ok(
        "run", "-d", "--name", "ff", "--restart", "on-failure:2", "busybox", "sh", "-c", script
    )
    wait_until(lambda: inspect(daemon, "ff")["State"]["Status"] == "exited")
    known = inspect(daemon, "ff")
    assert (known["RestartCount"], known["State"]["ExitCode"]) == (2, 3)
    assert daemon.ok("logs", "ff") == "run\nrun\nrun\n"


def test_success_is_no_failure(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "ss", "--restart", "on-failure", "busybox", "true")
    assert daemon.ok("wait", "ss") == "0\n"
    assert inspect(daemon, "ss")["RestartCount"] == 0


def test_always_goes_on_until_it_is_stopped(daemon: Daemon) -> None:
    daemon.ok(
        "run", "-d", "--name", "aa", "--restart", "always", "-p", "0:80", "busybox", "sleep", "0.1"
    )
    port, address = daemon.ok("port", "aa"), "{{.NetworkSettings.IPAddress}}"
    where = daemon.ok("inspect", "-f", address, "aa")
    wait_until(lambda: inspect(daemon, "aa")["RestartCount"] >= 3)
    assert (daemon.ok("port", "aa"), daemon.ok("inspect", "-f", address, "aa")) == (port, where)
    daemon.ok("stop", "-t", "1", "aa")
    known = inspect(daemon, "aa")
    assert not known["State"]["Running"] and not known["State"]["Restarting"]
    time.sleep(0.5)
    assert inspect(daemon, "aa")["RestartCount"] == known["RestartCount"]
    daemon.ok("start", "aa")  # counted anew, and it may have ended once more by now
    assert inspect(daemon, "aa")["RestartCount"] < known["RestartCount"]


def test_between_two_runs_it_is_restarting(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "rr", "--restart", "always", "busybox", "false")
    wait_until(
        lambda: (
            inspect(daemon, "rr")["State"]["Restarting"]
            and inspect(daemon, "rr")["RestartCount"] > 3
        )
    )
    assert "Restarting (1)" in daemon.ok("ps", "--format", "{{.Status}}")
    done = daemon.docker("exec", "rr", "true")
    assert (
        done.returncode == 1 and "is restarting, wait until the container is running" in done.stderr
    )
    daemon.ok("kill", "rr")
    assert inspect(daemon, "rr")["State"]["Status"] == "exited"
    daemon.ok("rm", "rr")


def test_events_tell_of_every_run(daemon: Daemon) -> None:
    since = str(time.time() - 0.001)
    daemon.ok("run", "-d", "--name", "ee", "--restart", "on-failure:1", "busybox", "false")
    wait_until(lambda: inspect(daemon, "ee")["State"]["Status"] == "exited")
    out = daemon.ok(
        "events", "--since", since, "--until", str(time.time()), "--format", "{{.Action}}"
    )
    actions = [line for line in out.split() if line in ("start", "die")]
    assert actions == ["start", "die", "start", "die"]


def test_restarts_go_on_while_the_daemon_is_away(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "alone", "--restart", "always", "busybox", "sleep", "0.2")
    daemon.stop(signal.SIGKILL)
    time.sleep(1.5)
    daemon.start()
    assert inspect(daemon, "alone")["RestartCount"] >= 2
    assert len(daemon.ok("ps", "-q").split()) == 1
    daemon.ok("rm", "-f", "alone")


@pytest.mark.parametrize(
    ("policy", "stop", "again"),
    [
        ("always", True, True),
        ("always", False, True),
        ("unless-stopped", True, False),
        ("unless-stopped", False, True),
        ("no", False, False),
    ],
)
def test_what_a_starting_daemon_starts(
    daemon: Daemon, policy: str, stop: bool, again: bool
) -> None:
    daemon.ok("run", "-d", "--name", "pp", "--restart", policy, "busybox", "sleep", "100")
    monitor = json.loads(state_file(daemon, "pp").read_text())["monitor"]
    if stop:
        daemon.ok("stop", "-t", "0", "pp")
    daemon.stop(signal.SIGKILL)
    if not stop:  # as after a power failure: neither the container nor its monitor is there
        os.kill(monitor, signal.SIGKILL)
    daemon.start()
    if again:
        wait_until(lambda: inspect(daemon, "pp")["State"]["Running"])
    else:
        time.sleep(0.3)
        assert not inspect(daemon, "pp")["State"]["Running"]


def state_file(daemon: Daemon, name: str) -> Path:
    return daemon.directory / "root" / "containers" / inspect(daemon, name)["Id"] / "state.json"


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("nonsense", "unknown policy 'nonsense'"),
        ("always:3", "maximum retry count can only be used with 'on-failure'"),
        ("on-failure:-1", "maximum retry count cannot be negative"),
    ],
)
def test_bad_policy(daemon: Daemon, flag: str, words: str) -> None:
    done = daemon.docker("run", "--restart", flag, "busybox", "true")
    assert done.returncode == 125 and words in done.stderr


# %% Pause
def test_pause_stops_everything_and_unpause_lets_it_go_on(daemon: Daemon) -> None:
    script = "while true; do echo x; sleep 0.05; done"
    daemon.ok("run", "-d", "--name", "pp", "busybox", "sh", "-c", script)
    daemon.ok("pause", "pp")
    assert inspect(daemon, "pp")["State"] | {"Pid": 0} == inspect(daemon, "pp")["State"] | {
        "Pid": 0, "Status": "paused", "Running": True, "Paused": True,
    }  # fmt: skip
    assert "(Paused)" in daemon.ok("ps", "--format", "{{.Status}}")
    before = len(daemon.ok("logs", "pp"))
    time.sleep(0.3)
    assert len(daemon.ok("logs", "pp")) == before
    for command in (["exec", "pp", "true"], ["pause", "pp"]):
        done = daemon.docker(*command)
        assert done.returncode == 1 and "paused" in done.stderr
    daemon.ok("unpause", "pp")
    wait_until(lambda: len(daemon.ok("logs", "pp")) > before)
    done = daemon.docker("unpause", "pp")
    assert done.returncode == 1 and "is not paused" in done.stderr


def test_a_paused_container_survives_the_daemon_and_can_be_stopped(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "pp", "busybox", "sleep", "100")
    daemon.ok("pause", "pp")
    daemon.stop(signal.SIGKILL)
    daemon.start()
    assert inspect(daemon, "pp")["State"]["Paused"]
    daemon.ok("stop", "-t", "1", "pp")
    assert inspect(daemon, "pp")["State"]["Status"] == "exited"


def test_pause_of_what_does_not_run(daemon: Daemon) -> None:
    daemon.ok("create", "--name", "cc", "busybox", "true")
    done = daemon.docker("pause", "cc")
    assert done.returncode == 1 and "is not running" in done.stderr


# %% Update
def limit(name: str, v1: str, v2: str, container: str) -> int:
    files = Path("/sys/fs/cgroup")
    old, new = files / name / "minidock" / container / v1, files / "minidock" / container / v2
    return int((old if old.exists() else new).read_text().split()[0])


def test_update_changes_the_kernels_limits_and_what_inspect_says(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "-m", "64m", "busybox", "sleep", "100").strip()
    daemon.ok("update", "-m", "128m", "--memory-swap", "256m", "--pids-limit", "50", name)
    assert limit("memory", "memory.limit_in_bytes", "memory.max", name) == 128 << 20
    assert limit("pids", "pids.max", "pids.max", name) == 50
    host = inspect(daemon, name)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (128 << 20, 256 << 20, 50)
    daemon.ok("update", "--cpus", "0.5", name)
    host = inspect(daemon, name)["HostConfig"]
    assert (host["NanoCpus"], host["Memory"]) == (500000000, 128 << 20)
    daemon.ok("restart", "-t", "0", name)
    assert limit("memory", "memory.limit_in_bytes", "memory.max", name) == 128 << 20


def test_update_refuses_in_dockers_words_and_changes_nothing(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "-m", "64m", "busybox", "sleep", "100").strip()
    for flags, words in (
        (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (["-m", "256m"], "Memory limit should be smaller than already set memoryswap limit"),
        (["--cpus", "1000"], "range of CPUs"),
        (["--restart", "nonsense"], "unknown policy"),
        (["--blkio-weight", "5"], "Range of blkio weight is from 10 to 1000"),
    ):
        done = daemon.docker("update", *flags, name)
        assert done.returncode == 1 and words in done.stderr, done
    assert limit("memory", "memory.limit_in_bytes", "memory.max", name) == 64 << 20
    assert inspect(daemon, name)["HostConfig"]["Memory"] == 64 << 20


def test_update_of_the_restart_policy(daemon: Daemon) -> None:
    script = "until [ -e /go ]; do sleep 0.1; done; exit 1"
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", script).strip()
    daemon.ok("update", "--restart", "on-failure:1", name)
    daemon.ok("exec", name, "touch", "/go")
    wait_until(lambda: inspect(daemon, name)["RestartCount"] == 1)


# %% Stats
def test_stats(daemon: Daemon) -> None:
    script = "while true; do :; done"
    daemon.ok("run", "-d", "--name", "busy", "-m", "64m", "busybox", "sh", "-c", script)
    template = "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}"
    for run in (daemon.docker, daemon.minidock):
        done = run("stats", "--no-stream", "--format", template, "busy")
        name, share, _, slash, most, processes = done.stdout.split()
        assert (name, slash, most, processes) == ("busy", "/", "64MiB", "1"), done
        assert float(share.rstrip("%")) > 5
    assert daemon.docker("stats", "--no-stream", "nobody").returncode == 1


# %% cp
def test_cp_in_and_out(daemon: Daemon, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_text("hello\n")
    (tree / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (tree / "sub" / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("file")
    daemon.ok("run", "-d", "--name", "cc", "busybox", "sleep", "100")
    daemon.ok("create", "--name", "still", "busybox", "true")
    for number, run in enumerate((daemon.docker, daemon.minidock)):
        for container in ("cc", "still"):
            where = f"/in{number}"
            assert run("cp", str(tree), f"{container}:{where}").returncode == 0
            out = tmp_path / f"out-{number}-{container}"
            done = run("cp", f"{container}:{where}", str(out))
            assert done.returncode == 0, done
            assert (out / "file").read_text() == "hello\n"
            assert os.readlink(out / "link") == "file"
            assert (out / "sub" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert daemon.ok("exec", "cc", "cat", "/in1/file") == "hello\n"


def entries(path: Path) -> list[str]:
    return sorted(str(one.relative_to(path)) for one in path.rglob("*"))


@docker_28
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("file", "/new"), ("file", "/etc"), ("file", "/etc/"), ("file", "/none/new"), ("file", "/nodir/"),
        ("tree", "/new"), ("tree", "/etc"), ("tree/.", "/new"), ("tree/.", "/etc"), ("tree", "/etc/passwd"),
        ("missing", "/x"), ("file", "/linkdir"), ("tree", "/linkdir"), ("link", "/new"),
    ],
)  # fmt: skip
def test_cp_in_means_what_docker_means(
    daemon: Daemon, tmp_path: Path, source: str, target: str
) -> None:
    """The same copy by both command lines: the same result, or the same words."""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "aa").write_text("aa")
    (tmp_path / "file").write_text("ff")
    (tmp_path / "link").symlink_to("file")
    outcomes = []
    for name, run in (("theirs", daemon.docker), ("ours", daemon.minidock)):
        script = "ln -s /etc /linkdir; sleep 100"
        daemon.ok("run", "-d", "--name", name, "busybox", "sh", "-c", script)
        wait_until(lambda name=name: "linkdir" in daemon.ok("exec", name, "ls", "/"))  # type: ignore[misc]
        done = run("cp", str(tmp_path / source), f"{name}:{target}")
        noise = "level=error msg"  # Docker's own library, about its own pipe
        words = "\n".join(line for line in done.stderr.splitlines() if noise not in line)
        words = words.replace(name, "NAME").replace("docker", "minidock")
        outcomes.append(
            (
                done.returncode,
                words.strip() if done.returncode else "",
                sorted(daemon.ok("diff", name).splitlines()),
            )
        )
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("/etc/passwd", "new"), ("/etc/passwd", "."), ("/etc/passwd", "dir"), ("/etc/passwd", "none/new"),
        ("/etc", "new"), ("/etc", "dir"), ("/etc/.", "new"), ("/etc/.", "dir"), ("/etc", "file"),
        ("/nothing", "new"), ("/etc/passwd", "none/"), ("etc/passwd", "new"), ("/bin/sh", "new"),
    ],
)  # fmt: skip
def test_cp_out_means_what_docker_means(
    daemon: Daemon, tmp_path: Path, source: str, target: str
) -> None:
    outcomes = []
    daemon.ok("run", "-d", "--name", "src", "busybox", "sleep", "100")
    for name, program in (("theirs", ["docker", "-H", daemon.host]), ("ours", ["minidock"])):
        place = tmp_path / name
        (place / "dir").mkdir(parents=True)
        (place / "file").write_text("ff")
        if program == ["minidock"]:
            import sys

            program = [sys.executable, "-m", "minidock"]
        environment = {**daemon.environment, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
        done = subprocess.run(
            [*program, "cp", f"src:{source}", target], cwd=place, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        outcomes.append((done.returncode, entries(place)))
    assert outcomes[0] == outcomes[1], done.stderr


def test_cp_as_archive(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "cc", "busybox", "sleep", "100")
    for command in (["docker", "-H", daemon.host], None):
        if command is None:
            import sys

            command = [sys.executable, "-m", "minidock"]
        made = subprocess.run(
            [*command, "cp", "cc:/etc/passwd", "-"],
            env=daemon.environment,
            capture_output=True,
            check=True,
        )
        with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
            assert archive.getnames() == ["passwd"]
        subprocess.run(
            [*command, "cp", "-", "cc:/tmp"],
            env=daemon.environment,
            input=made.stdout,
            check=True,
            capture_output=True,
        )
        assert "root" in daemon.ok("exec", "cc", "cat", "/tmp/passwd")
        daemon.ok("exec", "cc", "rm", "/tmp/passwd")


def test_cp_sees_the_containers_mounts(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bound\n")
    daemon.ok(
        "run",
        "-d",
        "--name",
        "cc",
        "-v",
        f"{tmp_path}:/data",
        "--tmpfs",
        "/t",
        "busybox",
        "sleep",
        "100",
    )
    daemon.ok("cp", "cc:/data/file", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "bound\n"
    daemon.ok("cp", str(tmp_path / "file"), "cc:/t/")
    assert daemon.ok("exec", "cc", "cat", "/t/file") == "bound\n"


def test_cp_does_not_follow_a_link_out_of_the_container(daemon: Daemon, tmp_path: Path) -> None:
    """CVE-2018-15664, the plain form: in the container the link leads to the container's own path."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("the host's")
    script = f"mkdir -p {tmp_path}; ln -s {secret} /out; ln -s ../../../../../../..{secret} /up; sleep 100"
    daemon.ok("run", "-d", "--name", "cc", "busybox", "sh", "-c", script)
    wait_until(lambda: "up" in daemon.ok("exec", "cc", "ls", "/"))
    for link in ("/out", "/up"):
        assert daemon.docker("cp", f"cc:{link}/file", str(tmp_path / "got")).returncode != 0
        (tmp_path / "evil").write_text("from outside")
        daemon.docker("cp", str(tmp_path / "evil"), f"cc:{link}/evil")
    assert not (tmp_path / "got").exists() and os.listdir(secret) == ["file"]


def test_cp_and_links_in_a_container_that_does_not_run(daemon: Daemon, tmp_path: Path) -> None:
    """Its root is mounted on the host then: a link must not be followed by the host's root either."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("the host's")
    (tmp_path / "evil").write_text("from outside")
    script = (
        f"ln -s {secret} /out; ln -s ../../../../../../..{secret} /up; ln -s {secret}/file /single"
    )
    daemon.ok("run", "--name", "cc", "busybox", "sh", "-c", script)
    for link in ("/out", "/up"):
        assert daemon.docker("cp", f"cc:{link}/file", str(tmp_path / "got")).returncode != 0
        daemon.docker("cp", str(tmp_path / "evil"), f"cc:{link}/evil")
    daemon.docker("cp", str(tmp_path / "evil"), "cc:/single")
    daemon.docker("cp", "-L", "cc:/single", str(tmp_path / "got"))
    assert not (tmp_path / "got").exists() and os.listdir(secret) == ["file"]
    assert (secret / "file").read_text() == "the host's"


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_an_archive_that_plants_a_link_and_walks_through_it(
    daemon: Daemon, tmp_path: Path, running: bool
) -> None:
    """A hostile archive, on standard input: first a link out of the container, then a file behind it."""
    secret = tmp_path / "secret"
    secret.mkdir()
    made = tmp_path / "made.tar"
    with tarfile.open(made, "w") as tar:
        for name, target in (("absolute", str(secret)), ("climbing", f"../../../../../..{secret}")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
            behind = tarfile.TarInfo(f"{name}/planted")
            behind.size = 4
            tar.addfile(behind, io.BytesIO(b"evil"))
    program = ["sleep", "100"] if running else ["true"]
    daemon.ok("run", "-d", "--name", "cc", "busybox", *program)
    if not running:
        daemon.ok("wait", "cc")
    command = ["docker", "-H", daemon.host, "cp", "-", "cc:/tmp"]
    with open(made, "rb") as file:
        subprocess.run(command, stdin=file, capture_output=True, timeout=60, check=False)
    assert os.listdir(secret) == []


def test_cp_and_a_link_that_is_swapped_all_the_time(daemon: Daemon, tmp_path: Path) -> None:
    """CVE-2018-15664, the race: the container swaps a directory for a link while we write and read."""
    target = tmp_path / "host"
    target.mkdir()
    (target / "w").write_text("untouched")
    script = (
        f"mkdir -p /a/dir {target.parent}; echo inside > /a/dir/w; ln -s {target} /a/link;"
        " while true; do mv /a/dir /a/x; mv /a/link /a/dir; mv /a/dir /a/link; mv /a/x /a/dir; done"
    )
    daemon.ok("run", "-d", "--name", "cc", "busybox", "sh", "-c", script)
    (tmp_path / "w").write_text("from outside")
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        daemon.docker("cp", str(tmp_path / "w"), "cc:/a/dir/w")
        daemon.docker("cp", "cc:/a/dir/w", str(tmp_path / "got"))
        assert (target / "w").read_text() == "untouched"
        if (tmp_path / "got").is_file():
            assert (tmp_path / "got").read_text() != "untouched"


def test_cp_into_a_read_only_container(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    daemon.ok("run", "-d", "--name", "ro", "--read-only", "busybox", "sleep", "100")
    done = daemon.docker("cp", str(tmp_path / "file"), "ro:/etc/")
    assert done.returncode == 1 and "read-only" in done.stderr


# %% Detaching, ports
def test_a_range_of_host_ports_takes_the_first_free_one(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "one", "-p", "0:80", "busybox", "sleep", "100")
    first = int(daemon.ok("port", "one", "80").splitlines()[0].rpartition(":")[2])
    daemon.ok(
        "run", "-d", "--name", "two", "-p", f"{first}-{first + 20}:80", "busybox", "sleep", "100"
    )
    second = int(daemon.ok("port", "two", "80").splitlines()[0].rpartition(":")[2])
    assert first < second <= first + 20


def test_prune(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "up", "busybox", "sleep", "100")
    gone = daemon.ok("create", "busybox", "true").strip()
    out = daemon.minidock("container", "prune", "-f")
    assert gone in out.stdout and "Total reclaimed space" in out.stdout
    assert daemon.ok("ps", "-a", "--format", "{{.Names}}") == "up\n"
    assert daemon.minidock("container", "prune", stdin="n\n").returncode == 0  # no is no failure


def test_attach_shows_what_comes(daemon: Daemon) -> None:
    script = "sleep 0.7; echo late; exit 4"
    daemon.ok("run", "-d", "--name", "tt", "busybox", "sh", "-c", script)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(daemon.minidock("attach", "tt")))
    thread.start()
    thread.join(20)
    assert (results[0].stdout, results[0].returncode) == ("late\n", 4)
    done = daemon.minidock("attach", "tt")
    assert (
        done.returncode == 1
        and "cannot attach to a stopped container, start it first" in done.stderr
    )


def test_the_first_bytes_of_a_stream_are_never_lost(daemon: Daemon) -> None:
    """They may come in one piece with the head of the answer: a failed exec says all at once."""
    daemon.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    for _ in range(15):
        done = daemon.minidock("exec", "-u", "nonesuch", "box", "id")
        assert (done.returncode, "unable to find user nonesuch" in done.stdout) == (126, True)


@pytest.mark.parametrize(
    ("arguments", "status", "out", "words"),
    [
        (["ps", "-a", "--format", '{{.Label "tier"}} {{.Command}}'], 0, "front \"sh -c 'sleep 100'\"\n", ""),
        (["ps", "-a", "--format", "{{.Nope}}"], 1, "", "failed to execute template"),
        (["ps", "-a", "--format", "{{.Names"], 1, "", "failed to parse template"),
        (["inspect", "-f", "{{.Nope}}", "box"], 1, "", 'map has no entry for key "Nope"'),
        (["inspect", "-f", "{{.Config.Labels.nope}}", "box"], 0, "<no value>\n", ""),
        (["inspect", "--type", "image", "box"], 1, "[]\n", "No such image: box:latest"),
        (["ps", "--filter", "status=nonsense"], 1, "", "invalid filter 'status=nonsense'"),
        (["exec", "-w", "/nowhere", "box", "pwd"], 126, "", ""),
        (["exec", "-e", "A=b", "-e", "NOT_SET", "box", "sh", "-c", "echo $A"], 0, "b\n", ""),
        (["exec", "--env-file", "/nonesuch", "box", "true"], 1, "", "open /nonesuch: no such file"),
        (["port", "box", "80"], 1, "", "Error: No public port '80' published for box"),
        (["rename", "box", "box"], 1, "", "Error: failed to rename container named box"),
        (["start", "nonesuch"], 1, "", "Error: failed to start containers: nonesuch"),
        (["rm", "-f", "nonesuch"], 0, "", "No such container: nonesuch"),
        (["rm", "nonesuch"], 1, "", "No such container: nonesuch"),
        (["rmi", "-f", "nonesuch"], 0, "", "No such image: nonesuch:latest"),
        (["tag", "busybox", "BAD"], 1, "", 'Error parsing reference: "BAD" is not a valid'),
        (["logs", "--tail", "x", "box"], 0, "", ""),
        (["logs", "--since", "nonsense", "box"], 1, "", "failed to parse value as time or duration"),
        (["update", "box"], 1, "", "you must provide one or more flags when using this command"),
        (["run", "--rm", "busybox", "nonesuch"], 127, "", "Run 'minidock run --help' for more"),
        (["run", "--rm", "--cpuset-cpus", "9999", "busybox"], 125, "", "Requested CPUs are not available"),
        (["run", "--rm", "--stop-signal", "NONSENSE", "busybox"], 125, "", "Invalid signal: NONSENSE"),
        (["run", "--rm", "-v", "/a:b", "busybox"], 125, "", "mount path must be absolute"),
        (["run", "--rm", "-v", "/b", "busybox"], 125, "", "anonymous volumes are not supported"),
        (["run", "--rm", "--gpus", "all", "busybox"], 125, "", "--gpus is not supported"),
        (["run", "--rm", "--ip", "10.0.0.9", "busybox"], 125, "", "--ip is not supported"),
        (["run", "--rm", "--health-cmd", "true", "busybox"], 125, "", "--health-cmd is not supported"),
        (["run", "--rm", "--log-driver", "syslog", "busybox"], 125, "", "no log driver named 'syslog'"),
        (["run", "--rm", "--log-opt", "max-size=1m", "busybox"], 125, "", "--log-opt max-size is not"),
        (["container", "prune", "-f", "--filter", "nonsense=x"], 1, "", "invalid filter 'nonsense'"),
        (["container", "prune", "-f", "--filter", "until=1h"], 0, "Total reclaimed space: 0B\n", ""),
    ],
)  # fmt: skip
def test_words_and_status_as_dockers(
    daemon: Daemon, arguments: list[str], status: int, out: str, words: str
) -> None:
    """Found by running the same lines with docker against dockerd 20.10, side by side."""
    label = ["--label", "tier=front"]
    daemon.ok("run", "-d", "--name", "box", *label, "busybox", "sh", "-c", "sleep 100")
    done = daemon.minidock(*arguments)
    assert done.returncode == status and words in done.stderr, done
    assert done.stdout == out or status == 126, done
    assert "Traceback" not in done.stderr


def test_a_mac_address_is_kept(daemon: Daemon) -> None:
    for run in (daemon.docker, daemon.minidock):
        done = run(
            "run",
            "--rm",
            "--mac-address",
            "02:42:0a:01:02:03",
            "busybox",
            "ip",
            "link",
            "show",
            "eth0",
        )
        assert "02:42:0a:01:02:03" in done.stdout, done


def test_detach_keys(daemon: Daemon) -> None:
    import sys

    from tests.conformance.test_docker_cli import run_in_terminal

    os.environ.update(
        {name: daemon.environment[name] for name in ("MINIDOCK_RUN", "MINIDOCK_ROOT")}
    )
    ours = [sys.executable, "-m", "minidock", "run", "-it", "--name", "left"]
    try:
        for keys, typed in (([], b"\x10\x11"), (["--detach-keys", "ctrl-a,x"], b"\x01x")):
            status, _ = run_in_terminal([*ours, *keys, "busybox", "sh"], [(b"#", typed)])
            assert status == 0 and inspect(daemon, "left")["State"]["Running"]
            daemon.ok("rm", "-f", "left")
    finally:
        for name in ("MINIDOCK_RUN", "MINIDOCK_ROOT"):
            del os.environ[name]


def test_the_silence_of_an_old_monitor_is_not_the_new_ones(daemon: Daemon) -> None:
    """The monitor of the last run may hang up after the next run has begun."""
    daemon.ok("run", "-d", "--name", "quick", "busybox", "sleep", "100")
    for _ in range(12):
        daemon.ok("restart", "-t", "0", "quick")
        pid = inspect(daemon, "quick")["State"]["Pid"]
        time.sleep(0.15)
        assert inspect(daemon, "quick")["State"] | {"Pid": pid} == inspect(daemon, "quick")["State"]
        assert inspect(daemon, "quick")["State"]["Running"]
