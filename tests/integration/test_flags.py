"""Flags of ``run`` on the real kernel, by the stock command line."""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidock import cgroups
from tests.conformance.conftest import Daemon, daemon, session_daemon

__all__ = ["daemon", "session_daemon"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
v1 = pytest.mark.skipif(
    os.geteuid() == 0 and cgroups.hierarchy() is cgroups.Version.V2, reason="needs cgroup v1"
)
v2 = pytest.mark.skipif(
    os.geteuid() == 0 and cgroups.hierarchy() is not cgroups.Version.V2, reason="needs cgroup v2"
)


def run(daemon: Daemon, options: str, script: str) -> str:
    return daemon.ok("run", "--rm", *options.split(), "busybox", "sh", "-c", script)


def refused(daemon: Daemon, options: str) -> str:
    done = daemon.docker("run", "--rm", *options.split(), "busybox", "true")
    assert done.returncode == 125, done
    assert daemon.ok("ps", "-aq") == ""
    return done.stderr


# %% Limits
@v1
@pytest.mark.parametrize(
    ("options", "file", "value"),
    [
        ("-m 64m", "memory/memory.limit_in_bytes", "67108864"),
        ("-m 64m", "memory/memory.memsw.limit_in_bytes", "134217728"),
        ("-m 64m --memory-swap 64m", "memory/memory.memsw.limit_in_bytes", "67108864"),
        ("-m 64m --memory-reservation 32m", "memory/memory.soft_limit_in_bytes", "33554432"),
        ("-m 64m --memory-swappiness 10", "memory/memory.swappiness", "10"),
        ("-m 64m --oom-kill-disable", "memory/memory.oom_control", "oom_kill_disable 1"),
        ("--cpu-shares 77", "cpu/cpu.shares", "77"),
        ("--cpu-period 20000 --cpu-quota 5000", "cpu/cpu.cfs_quota_us", "5000"),
        ("--cpus 0.5", "cpu/cpu.cfs_quota_us", "50000"),
        ("--cpuset-cpus 0 --cpuset-mems 0", "cpuset/cpuset.cpus", "0"),
        ("--pids-limit 9", "pids/pids.max", "9"),
    ],
)
def test_limits(daemon: Daemon, options: str, file: str, value: str) -> None:
    assert run(daemon, options, f"cat /sys/fs/cgroup/{file}").splitlines()[0] == value


@v2
@pytest.mark.parametrize(
    ("options", "file", "value"),
    [
        ("-m 64m", "memory.max", "67108864"),
        ("-m 64m --memory-reservation 32m", "memory.low", "33554432"),
        ("--cpus 0.5", "cpu.max", "50000 100000"),
        ("--cpuset-cpus 0", "cpuset.cpus", "0"),
        ("--pids-limit 9", "pids.max", "9"),
    ],
)
def test_limits_of_version_2(daemon: Daemon, options: str, file: str, value: str) -> None:
    assert run(daemon, options, f"cat /sys/fs/cgroup/{file}").strip() == value


def a_disk() -> str:
    """A block device with a queue: loop devices are on every Linux."""
    for name in sorted(os.listdir("/sys/block")):
        if name.startswith(("vd", "sd", "nvme", "loop")) and Path(f"/dev/{name}").exists():
            return f"/dev/{name}"
    pytest.skip("no block device")


@v1
def test_disks(daemon: Daemon) -> None:
    disk = a_disk()
    number = os.stat(disk).st_rdev
    at = f"{os.major(number)}:{os.minor(number)}"
    options = f"--device-read-bps {disk}:1mb --device-write-iops {disk}:100"
    script = "cd /sys/fs/cgroup/blkio; cat blkio.throttle.read_bps_device blkio.throttle.write_iops_device"
    assert run(daemon, options, script).split() == [at, "1048576", at, "100"]
    weight = run(daemon, "--blkio-weight 300", "cat /sys/fs/cgroup/blkio/blkio.*weight | head -1")
    assert weight.split()[-1] == "300"


def test_limits_that_are_refused(daemon: Daemon) -> None:
    assert "not a block device" in refused(daemon, "--device-read-bps /dev/null:1mb")
    assert "supported only for overlay over xfs" in refused(daemon, "--storage-opt size=1g")
    assert "CPUs are not available" in refused(daemon, "--cpuset-cpus 4000")


# %% Of the single process
def test_open_files(daemon: Daemon) -> None:
    """Fewer than the runtime itself has open."""
    assert run(daemon, "--ulimit nofile=5:20", "ulimit -n; ulimit -Hn").split() == ["5", "20"]


def test_what_the_host_cannot_grant(daemon: Daemon) -> None:
    held = int(Path("/proc/self/status").read_text().partition("CapBnd:\t")[2].split()[0], 16)
    if held >> 24 & 1:
        pytest.skip("this host has CAP_SYS_RESOURCE")
    options = "--ulimit nproc=99999999 --oom-score-adj -500 --cap-add SYS_RESOURCE"
    done = daemon.docker(
        "run", "--rm", *options.split(), "busybox", "cat", "/proc/self/oom_score_adj"
    )
    assert done.stdout == "0\n"
    for words in (
        "ulimit nproc is cut to",
        "OomScoreAdj discarded",
        "CAP_SYS_RESOURCE is not granted",
    ):
        assert words in done.stderr


def test_oom_score_groups_and_sysctls(daemon: Daemon) -> None:
    options = (
        "--oom-score-adj 300 --group-add 44 --sysctl net.core.somaxconn=77 --sysctl kernel.sem=5"
    )
    script = "cat /proc/self/oom_score_adj; id -G; cat /proc/sys/net/core/somaxconn"
    assert run(daemon, options.replace("--sysctl kernel.sem=5", ""), script).split() == [
        "300", "0", "44", "77",
    ]  # fmt: skip


# %% Devices
def test_devices(daemon: Daemon) -> None:
    script = "ls -l /dev/hole | cut -c1; echo x > /dev/hole"
    done = daemon.docker(
        "run", "--rm", "--device", "/dev/zero:/dev/hole:r", "--device-cgroup-rule", "c 1:5 r",
        "busybox", "sh", "-c", script,
    )  # fmt: skip
    assert done.stdout == "c\n"
    listed = run(daemon, "--device /dev/net:/dev/mynet", "ls /dev/mynet")
    assert "tun" in listed
    assert "not a device" in refused(daemon, "--device /etc/passwd")


# %% Where the cgroup is
def test_a_parent_of_ones_own(daemon: Daemon) -> None:
    parent = f"mdtest-{secrets.token_hex(4)}"
    try:
        out = run(daemon, f"--cgroup-parent /{parent} --cgroupns host", "cat /proc/self/cgroup")
        assert all(f":/{parent}/" in line for line in out.splitlines())
        container = daemon.ok(
            "run", "-d", "--cgroup-parent", parent, "busybox", "sleep", "99"
        ).strip()
        assert "sleep" in daemon.ok("top", container)
        daemon.ok("rm", "-f", container)
        for directory in cgroups.open(f"/{parent}").directories():
            assert os.path.isdir(directory) and cgroups.children(f"/{parent}") == []
    finally:
        for directory in cgroups.open(f"/{parent}").directories():
            os.rmdir(directory)


# %% Namespaces of others
@pytest.fixture
def donor(daemon: Daemon) -> Iterator[str]:
    name = f"donor-{secrets.token_hex(4)}"
    script = "echo lent > /dev/shm/x; hostname donor; sleep 1000"
    daemon.ok("run", "-d", "--name", name, "--ipc", "shareable", "busybox", "sh", "-c", script)
    yield name
    daemon.docker("rm", "-f", name)


def test_ipc_pid_and_network_of_another(daemon: Daemon, donor: str) -> None:
    assert run(daemon, f"--ipc container:{donor}", "cat /dev/shm/x") == "lent\n"
    assert "sleep 1000" in run(daemon, f"--pid container:{donor}", "ps")
    theirs = daemon.ok("exec", donor, "ip", "-4", "addr")
    assert run(daemon, f"--network container:{donor}", "ip -4 addr") == theirs


def test_private_memory_is_not_lent(daemon: Daemon) -> None:
    container = daemon.ok("run", "-d", "busybox", "sleep", "1000").strip()
    done = daemon.docker("run", "--rm", "--ipc", f"container:{container}", "busybox", "true")
    assert "non-shareable IPC" in done.stderr


def test_lent_memory_is_given_back(daemon: Daemon, donor: str) -> None:
    daemon.ok("rm", "-f", donor)
    assert "/shm " not in "".join(
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(daemon.directory) in line
    )  # fmt: skip


def test_namespaces_of_the_host(daemon: Daemon) -> None:
    links = {
        name: os.readlink(f"/proc/self/ns/{name}")
        for name in ("pid", "ipc", "uts", "net", "cgroup")
    }
    options = "--pid host --ipc host --uts host --network host --cgroupns host"
    script = "for n in pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done"
    assert run(daemon, options, script).split() == list(links.values())
    assert not set(run(daemon, "", script).split()) & set(links.values())


def test_no_shared_memory_at_all(daemon: Daemon) -> None:
    assert "No such file" in run(daemon, "--ipc none", "ls -d /dev/shm 2>&1; true")
    assert run(daemon, "--shm-size 8m", "df -k /dev/shm | tail -1").split()[1] == "8192"


def test_docker_is_here() -> None:
    """Else all of the above were skipped, and nothing was tested."""
    assert shutil.which("docker")
