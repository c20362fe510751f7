"""Version 2 as a container sees it, and as an operator sees a container."""

import json
import subprocess
from pathlib import Path

from tests.conformance.conftest import Daemon
from tests.integration.cgroup2.conftest import ROOT
from tests.speed import wait_until


def directory(daemon: Daemon, name: str) -> Path:
    """The cgroup of a container."""
    pid = int(daemon.ok("inspect", "-f", "{{.State.Pid}}", name))
    line = Path(f"/proc/{pid}/cgroup").read_text().strip()
    return ROOT / line.partition("::/")[2]


def test_the_container_sees_its_own_group_as_the_root(daemon: Daemon) -> None:
    script = "cat /proc/self/cgroup /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; mount | grep -c cgroup"
    done = daemon.ok(
        "run", "--rm", "-m", "32m", "--pids-limit", "20", "busybox", "sh", "-c", script
    )
    assert done.split() == ["0::/", str(32 << 20), "20", "1"]


def test_the_container_may_not_change_it(daemon: Daemon) -> None:
    done = daemon.docker("run", "--rm", "busybox", "mkdir", "/sys/fs/cgroup/x")
    assert done.returncode == 1 and "Read-only file system" in done.stderr


def test_docker_hears_of_version_2(daemon: Daemon) -> None:
    assert daemon.ok("info", "-f", "{{.CgroupVersion}} {{.CgroupDriver}}").strip() == "2 cgroupfs"


def test_out_of_memory_is_told(daemon: Daemon) -> None:
    script = "head -c 100000000 /dev/zero | tail"
    daemon.docker("run", "--name", "hog", "-m", "8m", "busybox", "sh", "-c", script)
    assert daemon.ok("inspect", "-f", "{{.State.OOMKilled}}", "hog").strip() == "true"


def test_exec_joins_and_the_end_leaves_nothing(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "one", "busybox", "sleep", "100")
    place = directory(daemon, "one")
    daemon.ok("exec", "-d", "one", "sleep", "50")
    wait_until(lambda: len((place / "cgroup.procs").read_text().split()) >= 2)
    daemon.ok("rm", "-f", "one")
    assert not place.exists()


def test_groups_made_inside_are_counted_killed_and_removed(daemon: Daemon) -> None:
    """What systemd, or an engine, does in a privileged container."""
    script = (
        "cd /sys/fs/cgroup && mkdir -p inner/deep && echo 1 > inner/deep/cgroup.procs"
        " && echo +pids > cgroup.subtree_control && echo ready && sleep 100"
    )
    daemon.ok("run", "-d", "--privileged", "--name", "one", "busybox", "sh", "-c", script)
    place = directory(daemon, "one").parent.parent
    wait_until(lambda: "ready" in daemon.ok("logs", "one"))
    assert daemon.ok("exec", "one", "cat", "/proc/self/cgroup").strip() == "0::/inner/deep"
    assert "sleep 100" in daemon.ok("top", "one")
    assert directory(daemon, "one") == place / "inner/deep"
    daemon.ok("rm", "-f", "one")
    assert not place.exists()


# %% Beside systemd
def test_systemd_leaves_our_groups_alone(daemon: Daemon) -> None:
    """It reconsiders the controllers of the whole tree at a reload; ours must stay on."""
    daemon.ok("run", "-d", "--name", "one", "-m", "32m", "--cpus", "0.5", "busybox", "sleep", "100")
    place = directory(daemon, "one")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemd-run", "-q", "--wait", "-p", "MemoryMax=64M", "true"], check=True)
    limits = [(place / name).read_text().strip() for name in ("memory.max", "cpu.max")]
    assert limits == [str(32 << 20), "50000 100000"]
    assert "Up" in daemon.ok("ps", "--filter", "name=one", "--format", "{{.Status}}")


def test_a_daemon_in_a_unit_of_its_own(daemon: Daemon) -> None:
    """The containers are not below the unit, so its end is not theirs."""
    words = ["systemd-run", "-q", "--wait", "--pipe", "-p", "KillMode=process"]
    words += [f"--setenv={name}={value}" for name, value in daemon.environment.items()
              if name.startswith("MINIDOCK_") or name in ("PATH", "PYTHONPATH")]  # fmt: skip
    words += ["docker", "-H", daemon.host, "run", "-d", "--name", "one", "busybox", "sleep", "100"]
    subprocess.run(words, check=True, capture_output=True)
    state = json.loads(daemon.ok("inspect", "one"))[0]["State"]
    assert state["Running"] and directory(daemon, "one").parent == ROOT / "minidock"
