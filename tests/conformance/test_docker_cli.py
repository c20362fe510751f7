"""The stock docker command line must not notice that it speaks to MiniDock."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conformance.conftest import Daemon


# %% run
def test_run_prints_and_leaves_nothing(daemon: Daemon) -> None:
    assert daemon.ok("run", "--rm", "busybox", "echo", "hi") == "hi\n"
    assert daemon.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["busybox", "sh", "-c", "exit 7"], 7, ""),
        (["busybox", "nope"], 127, "executable file not found in $PATH"),
        (["busybox", "/nope"], 127, "no such file or directory"),
        (["busybox", "/etc/passwd"], 126, "permission denied"),
        (["busybox", "/etc"], 126, "is a directory"),
        (["no-such-image"], 125, "no-such-image"),
        (["-m", "1m", "busybox", "true"], 125, "Minimum memory limit allowed is 6MB"),
        (["--cpus", "1000", "busybox", "true"], 125, "range of CPUs"),
        (["--network", "nowhere", "busybox", "true"], 125, "nowhere"),
        (["-u", "nobody-here", "busybox", "true"], 125, "nobody-here"),
        (["-v", "relative:x", "busybox", "true"], 125, "relative"),
        (["--mount", "type=bind,src=/not/there,dst=/x", "busybox", "true"], 125, "/not/there"),
        (["--restart", "always", "busybox", "true"], 125, "restart"),
    ],
)
def test_status_and_words(daemon: Daemon, arguments: list[str], status: int, words: str) -> None:
    done = daemon.docker("run", "--rm", *arguments)
    assert (done.returncode, words in done.stderr) == (status, True), done
    assert daemon.ok("ps", "-aq") == ""


def test_streams_are_kept_apart(daemon: Daemon) -> None:
    done = daemon.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_stdin_reaches_the_program_and_ends(daemon: Daemon) -> None:
    text = "line\n" * 20000
    assert daemon.ok("run", "--rm", "-i", "busybox", "cat", stdin=text) == text


def test_much_output_arrives_whole(daemon: Daemon) -> None:
    script = "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done"
    lines = daemon.ok("run", "--rm", "busybox", "sh", "-c", script).splitlines()
    assert lines == [f"line {number}" for number in range(30000)]


# %% What a container sees
def test_identity(daemon: Daemon) -> None:
    script = "id -u; hostname; pwd; echo $FOO; echo $$"
    out = daemon.ok(
        "run", "--rm", "-u", "1000:1000", "--hostname", "box", "-w", "/tmp/new", "-e", "FOO=bar",
        "busybox", "sh", "-c", script,
    )  # fmt: skip
    assert out.split() == ["1000", "box", "/tmp/new", "bar", "1"]


def test_capabilities_are_dockers_default(daemon: Daemon) -> None:
    out = daemon.ok("run", "--rm", "busybox", "grep", "CapEff", "/proc/self/status")
    assert out.split()[1] == "00000000a80425fb"
    none = daemon.ok(
        "run", "--rm", "--cap-drop", "ALL", "busybox", "grep", "CapEff", "/proc/self/status"
    )
    assert int(none.split()[1], 16) == 0


def test_masked_and_readonly(daemon: Daemon) -> None:
    script = (
        "wc -c < /proc/keys; ls /sys/firmware | wc -l; "
        "echo 1 > /proc/sys/kernel/panic || echo refused; mkdir /sys/x || echo refused"
    )
    out = daemon.ok("run", "--rm", "busybox", "sh", "-c", script)
    assert out.split() == ["0", "0", "refused", "refused"]


def test_limits(daemon: Daemon) -> None:
    name = daemon.ok(
        "run", "-d", "-m", "32m", "--cpus", "0.5", "--pids-limit", "20", "busybox", "sleep", "100"
    ).strip()
    host = json.loads(daemon.ok("inspect", name))[0]["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (32 << 20, 500000000, 20)
    files = Path("/sys/fs/cgroup")
    v1 = files / "memory/minidock" / name / "memory.limit_in_bytes"
    v2 = files / "minidock" / name / "memory.max"
    assert int((v1 if v1.exists() else v2).read_text()) == 32 << 20


def test_out_of_memory(daemon: Daemon) -> None:
    script = "head -c 100000000 /dev/zero | tail"
    done = daemon.docker("run", "--name", "oom", "-m", "8m", "busybox", "sh", "-c", script)
    assert done.returncode in (137, 1)
    assert json.loads(daemon.ok("inspect", "oom"))[0]["State"]["OOMKilled"] is True


def test_fork_bomb_is_stopped(daemon: Daemon) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 2 & done; echo done"
    done = daemon.docker("run", "--rm", "--pids-limit", "4", "busybox", "sh", "-c", script)
    assert "can't fork" in done.stderr


# %% Files
def test_bind_and_readonly(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    script = "cat /data/file; echo x > /data/other && echo wrote"
    out = daemon.ok("run", "--rm", "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", script)
    assert out == "from the host\nwrote\n" and (tmp_path / "other").read_text() == "x\n"
    refused = daemon.docker(
        "run", "--rm", "-v", f"{tmp_path}:/data:ro", "busybox", "touch", "/data/y"
    )
    assert refused.returncode == 1 and "Read-only" in refused.stderr


def test_tmpfs_and_readonly_root(daemon: Daemon) -> None:
    script = "echo x > /scratch/file && cat /scratch/file; touch /file || echo refused"
    out = daemon.ok(
        "run", "--rm", "--read-only", "--tmpfs", "/scratch", "busybox", "sh", "-c", script
    )
    assert out.split() == ["x", "refused"]


def test_init_reaps(daemon: Daemon) -> None:
    out = daemon.ok("run", "--rm", "--init", "busybox", "ps", "-o", "pid,args")
    assert "docker-init" in out.splitlines()[1]


def test_diff(daemon: Daemon) -> None:
    daemon.ok("run", "--name", "changed", "busybox", "sh", "-c", "touch /new; rm /etc/passwd")
    assert set(daemon.ok("diff", "changed").splitlines()) == {"A /new", "C /etc", "D /etc/passwd"}


# %% Networks
def test_network_none_has_only_loopback(daemon: Daemon) -> None:
    out = daemon.ok("run", "--rm", "--network", "none", "busybox", "ip", "-o", "link")
    assert len(out.splitlines()) == 1 and "lo:" in out


def test_network_host_is_the_hosts(daemon: Daemon) -> None:
    ours = os.readlink("/proc/self/ns/net")
    out = daemon.ok("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net")
    assert out.strip() == ours


def test_published_port_answers_on_localhost(daemon: Daemon) -> None:
    script = "while true; do echo hello | nc -l -p 80; done"
    daemon.ok("run", "-d", "--name", "web", "-p", "127.0.0.1:0:80", "busybox", "sh", "-c", script)
    where = daemon.ok("port", "web", "80").strip()
    port = where.rpartition(":")[2]
    assert where.startswith("127.0.0.1:")
    for _ in range(50):
        answer = subprocess.run(
            ["timeout", "2", "busybox", "nc", "127.0.0.1", port],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.stdout:
            break
        time.sleep(0.1)
    assert answer.stdout == "hello\n"


def test_a_taken_port_is_refused_and_leaves_nothing(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "first", "-p", "0:80", "busybox", "sleep", "100")
    port = daemon.ok("port", "first", "80").splitlines()[0].rpartition(":")[2]
    done = daemon.docker("run", "--rm", "-p", f"{port}:80", "busybox", "true")
    assert done.returncode == 125 and "port is already allocated" in done.stderr
    assert len(daemon.ok("ps", "-aq").split()) == 1


def test_containers_reach_each_other(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "other", "busybox", "sleep", "100")
    address = daemon.ok("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "other").strip()
    assert daemon.docker("run", "--rm", "busybox", "ping", "-c", "1", address).returncode == 0


# %% The lifecycle
def test_detached_logs_wait_rm(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", "echo a; echo b >&2; exit 3").strip()
    assert daemon.ok("wait", name) == "3\n"
    logs = daemon.docker("logs", name)
    assert (logs.stdout, logs.stderr) == ("a\n", "b\n")
    assert daemon.ok("logs", "--tail", "1", "-t", name).count("Z ") <= 1
    assert re.search(r"Exited \(3\)", daemon.ok("ps", "-a"))
    daemon.ok("rm", name)
    assert daemon.docker("inspect", name).returncode == 1


def test_logs_follow_ends_with_the_container(daemon: Daemon) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.2; done"
    daemon.ok("run", "-d", "--name", "talker", "busybox", "sh", "-c", script)
    assert daemon.ok("logs", "-f", "talker") == "1\n2\n3\n"


def test_stop_is_quick_when_the_program_listens(daemon: Daemon) -> None:
    script = "trap 'exit 5' TERM; while true; do sleep 0.1; done"
    daemon.ok("run", "-d", "--name", "polite", "busybox", "sh", "-c", script)
    begun = time.monotonic()
    daemon.ok("stop", "polite")
    assert time.monotonic() - begun < 5
    assert daemon.ok("inspect", "-f", "{{.State.ExitCode}}", "polite") == "5\n"


def test_stop_kills_who_does_not_listen(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "deaf", "busybox", "sleep", "100")
    daemon.ok("stop", "-t", "1", "deaf")
    assert daemon.ok("inspect", "-f", "{{.State.ExitCode}}", "deaf") == "137\n"


def test_kill(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "victim", "busybox", "sleep", "100")
    daemon.ok("kill", "victim")
    assert daemon.ok("wait", "victim") == "137\n"
    done = daemon.docker("kill", "victim")
    assert done.returncode == 1 and "is not running" in done.stderr


def test_start_again_keeps_what_was_written(daemon: Daemon) -> None:
    script = "echo once >> /file; wc -l < /file"
    assert daemon.ok("run", "--name", "again", "busybox", "sh", "-c", script) == "1\n"
    assert daemon.ok("start", "-a", "again") == "2\n"
    assert daemon.ok("logs", "again") == "1\n2\n"


def test_names_are_unique(daemon: Daemon) -> None:
    daemon.ok("create", "--name", "taken", "busybox")
    done = daemon.docker("create", "--name", "taken", "busybox")
    assert done.returncode == 1 and 'The container name "/taken" is already in use' in done.stderr
    daemon.ok("rename", "taken", "free")
    daemon.ok("create", "--name", "taken", "busybox")


def test_a_running_container_is_removed_only_by_force(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "busy", "busybox", "sleep", "100")
    done = daemon.docker("rm", "busy")
    assert done.returncode == 1 and "container is running" in done.stderr
    daemon.ok("rm", "-f", "busy")


# %% exec
def test_exec(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    assert (
        daemon.ok("exec", "-e", "A=b", "-w", "/etc", "box", "sh", "-c", "echo $A; pwd")
        == "b\n/etc\n"
    )
    assert daemon.ok("exec", "-i", "box", "cat", stdin="typed\n") == "typed\n"
    assert daemon.docker("exec", "box", "sh", "-c", "exit 9").returncode == 9
    assert daemon.docker("exec", "box", "nope").returncode == 127
    assert daemon.docker("exec", "box", "/etc/passwd").returncode == 126
    out = daemon.ok("exec", "box", "ps", "-o", "pid,args")
    assert "sleep 100" in out
    daemon.ok("stop", "-t", "0", "box")
    done = daemon.docker("exec", "box", "true")
    assert done.returncode == 1 and "is not running" in done.stderr


# %% Terminals
def run_in_terminal(command: list[str], keys: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Run ``command`` in a pseudo-terminal; for each pair wait for the one and type the other."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    seen, status, deadline = b"", None, time.monotonic() + 30
    waiting = list(keys)
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 0.1)
        if ready:
            try:
                data = os.read(master, 65536)
            except OSError:
                data = b""
            if not data:
                break
            seen += data
        if waiting and waiting[0][0] in seen:
            os.write(master, waiting.pop(0)[1])
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    return os.waitstatus_to_exitcode(status), seen


def test_terminal(daemon: Daemon) -> None:
    command = ["docker", "-H", daemon.host, "run", "--rm", "-it", "busybox", "sh"]
    status, seen = run_in_terminal(command, [(b"#", b"tty; stty size; exit 4\n")])
    assert status == 4 and b"/dev/pts/0" in seen


def test_exec_in_a_terminal(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "shell", "busybox", "sleep", "100")
    command = ["docker", "-H", daemon.host, "exec", "-it", "shell", "sh"]
    status, seen = run_in_terminal(command, [(b"#", b"tty; exit 6\n")])
    assert status == 6 and b"/dev/pts/0" in seen


# %% The daemon may die
def test_containers_survive_kill_9_of_the_daemon(daemon: Daemon) -> None:
    script = "i=0; while true; do echo $i; i=$((i+1)); sleep 0.1; done"
    daemon.ok("run", "-d", "--name", "survivor", "-p", "0:80", "busybox", "sh", "-c", script)
    daemon.ok("run", "-d", "--name", "mortal", "busybox", "sh", "-c", "sleep 0.5; exit 8")
    pid = daemon.ok("inspect", "-f", "{{.State.Pid}}", "survivor")
    port = daemon.ok("port", "survivor")
    daemon.stop(signal.SIGKILL)
    time.sleep(1)
    daemon.start()
    assert daemon.ok("inspect", "-f", "{{.State.Pid}}", "survivor") == pid
    assert daemon.ok("port", "survivor") == port
    assert daemon.ok("inspect", "-f", "{{.State.ExitCode}}", "mortal") == "8\n"
    assert daemon.ok("exec", "survivor", "echo", "still here") == "still here\n"
    lines = daemon.ok("logs", "survivor").split()
    assert lines == [str(number) for number in range(len(lines))] and len(lines) > 8
    daemon.ok("stop", "-t", "0", "survivor")


# %% Images, the system
def test_images_and_rmi(daemon: Daemon) -> None:
    assert "busybox" in daemon.ok("images")
    daemon.ok("tag", "busybox", "mine:1")
    assert "Untagged: mine:1" in daemon.ok("rmi", "mine:1")
    daemon.ok("create", "--name", "user", "busybox")
    done = daemon.docker("rmi", "busybox")
    assert done.returncode == 1 and "conflict" in done.stderr


def test_version_and_info(daemon: Daemon) -> None:
    assert "MiniDock" in daemon.ok("version")
    assert daemon.ok("info", "-f", "{{.Driver}} {{.OSType}}") == "overlay2 linux\n"
    assert "bridge" in daemon.ok("network", "ls")


def test_events(daemon: Daemon) -> None:
    since = str(time.time() - 0.001)
    daemon.ok("run", "--rm", "--name", "eventful", "busybox", "true")
    out = daemon.ok(
        "events", "--since", since, "--until", str(time.time()), "--filter", "type=container"
    )
    actions = [line.split()[2] for line in out.splitlines() if "name=eventful" in line]
    assert [action for action in actions if action in ("create", "start", "die", "destroy")] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def test_a_restarted_container_stays(daemon: Daemon) -> None:
    """The silence of the old monitor is no news of the new one."""
    container = daemon.ok("run", "-d", "busybox", "sleep", "1000").strip()
    for _ in range(4):
        daemon.ok("restart", "-t", "0", container)
        time.sleep(0.1)
        assert daemon.ok("inspect", "-f", "{{.State.Running}}", container) == "true\n"
