"""Ways out by the kernel's own doors. Each is tried; its twin takes one lock away, and it opens.

Nothing is ever written to a file of the host's kernel: that it *can be opened for
writing* is the proof.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.conftest import Daemon
from tests.integration.escapes.conftest import HOST_PYTHON, PYTHON


def opens_for_writing(daemon: Daemon, path: str, *options: str) -> bool:
    script = f"( : >> {path} ) 2>/dev/null && echo open"
    return "open" in daemon.docker("run", "--rm", *options, "busybox", "sh", "-c", script).stdout


def python(daemon: Daemon, code: str, *options: str) -> str:
    """What the host's Python prints in a container; ``call`` makes a system call, and gives -errno."""
    helpers = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.syscall.restype = ctypes.c_long\n"
        "def call(*a):\n"
        "    r = libc.syscall(*(ctypes.c_long(x) if isinstance(x, int) else x for x in a))\n"
        "    return -ctypes.get_errno() if r == -1 else r\n"
    )
    run = ["run", "--rm", "--network", "none", *options, *HOST_PYTHON, "busybox"]
    return daemon.ok(*run, PYTHON, "-I", "-c", helpers + code).strip()


# %% Files of the kernel: core_pattern runs a program as the host's root, sysrq-trigger reboots
@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/panic"]
)
def test_files_of_the_kernel(daemon: Daemon, path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"this kernel has no {path}")
    assert not opens_for_writing(daemon, path)
    assert not opens_for_writing(daemon, path, "--cap-add", "ALL")
    assert opens_for_writing(daemon, path, "--security-opt", "systempaths=unconfined")


def test_masked_files_say_nothing(daemon: Daemon) -> None:
    script = "cat /proc/keys /proc/timer_list; ls /sys/firmware"
    assert daemon.ok("run", "--rm", "busybox", "sh", "-c", script) == ""
    open_paths = ["--security-opt", "systempaths=unconfined"]
    assert daemon.ok("run", "--rm", *open_paths, "busybox", "head", "-1", "/proc/timer_list") != ""


# %% Device nodes
def test_a_node_of_ones_own_making(daemon: Daemon) -> None:
    script = "mknod /disk b 7 0 && head -c 0 /disk 2>&1 && echo read"
    run = ["run", "--rm"]
    denied = daemon.docker(*run, "busybox", "sh", "-c", script)
    assert "Operation not permitted" in denied.stdout and "read" not in denied.stdout, denied
    assert "read" in daemon.ok(
        *run, "--device-cgroup-rule", "b 7:* r", "busybox", "sh", "-c", script
    )


def test_no_node_without_the_capability(daemon: Daemon) -> None:
    done = daemon.docker(
        "run", "--rm", "--cap-drop", "MKNOD", "busybox", "mknod", "/disk", "b", "7", "0"
    )
    assert "Operation not permitted" in done.stderr


# %% /sys, and cgroup v1's release_agent, which runs a program as the host's root (CVE-2022-0492)
def test_sys_stays_readonly(daemon: Daemon) -> None:
    remount = ["busybox", "mount", "-o", "remount,rw", "/sys"]
    assert daemon.docker("run", "--rm", *remount).returncode != 0
    assert daemon.docker("run", "--rm", "--cap-add", "SYS_ADMIN", *remount).returncode == 0


MOUNT_CGROUP = "mkdir /cg && mount -t cgroup -o memory cgroup /cg"


def test_release_agent(daemon: Daemon) -> None:
    if not Path("/sys/fs/cgroup/memory/release_agent").exists():
        pytest.skip("release_agent is of cgroup v1")
    attack = f"{MOUNT_CGROUP} && ( : >> /cg/release_agent ) && echo open"
    shell = ["busybox", "sh", "-c"]
    assert "open" not in daemon.docker("run", "--rm", *shell, attack).stdout
    # As root of a user namespace one may mount, so even that is not to be had:
    detour = f"unshare -Urm sh -c '{attack}'"
    assert "open" not in daemon.docker("run", "--rm", *shell, detour).stdout
    # Privileged: the cgroup namespace still shows a tree whose root has no such file ...
    assert "open" not in daemon.docker("run", "--rm", "--privileged", *shell, attack).stdout
    # ... and without that it works.
    loose = ["--privileged", "--cgroupns", "host"]
    assert "open" in daemon.docker("run", "--rm", *loose, *shell, attack).stdout


def test_no_user_namespaces_inside(daemon: Daemon) -> None:
    """They make everybody root over kernel code that was never meant for everybody."""
    unshare = ["busybox", "unshare", "-Ur", "id", "-u"]
    assert "Operation not permitted" in daemon.docker("run", "--rm", *unshare).stderr
    assert daemon.ok("run", "--rm", "--security-opt", "seccomp=unconfined", *unshare) == "0\n"


# %% Keys have no namespace
def test_key_rings(daemon: Daemon) -> None:
    code = "import platform; print(call({'x86_64': 250, 'aarch64': 219}[platform.machine()], 0, -3, 0))"
    assert python(daemon, code) == "-1"  # EPERM
    assert int(python(daemon, code, "--security-opt", "seccomp=unconfined")) > 0


# %% A file by its number, past every path: "shocker", 2014
HANDLE = """
import platform, struct
number = {'x86_64': 304, 'aarch64': 265}[platform.machine()]
handle = ctypes.create_string_buffer(struct.pack('=Ii', 8, 1) + struct.pack('=II', 2, 0))
door = os.open('/etc/hosts', os.O_RDONLY)  # on the host's disk
fd = call(number, door, ctypes.byref(handle), 0)
print(fd if fd < 0 else sorted(os.listdir(fd)))
"""


def test_open_by_handle(daemon: Daemon) -> None:
    assert python(daemon, HANDLE) == "-1"
    assert python(daemon, HANDLE, "--security-opt", "seccomp=unconfined") == "-1"
    loose = python(daemon, HANDLE, "--cap-add", "DAC_READ_SEARCH")
    if loose == "-116":
        pytest.skip("the host's file system numbers its root otherwise")
    assert "lost+found" in loose or "etc" in loose


# %% Other people's processes
@pytest.fixture
def victim() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the host's."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_ptrace_of_the_host(daemon: Daemon, victim: "subprocess.Popen[bytes]") -> None:
    seize = f"import platform; print(call({{'x86_64': 101, 'aarch64': 117}}[platform.machine()], 0x4206, {victim.pid}, 0, 0))"
    assert python(daemon, seize) == "-3"  # ESRCH: not in our pid namespace
    assert python(daemon, seize, "--pid", "host") == "-1"
    assert python(daemon, seize, "--pid", "host", "--cap-add", "ALL") == "0"


# %% Set-user-id programs
def test_no_new_privileges(daemon: Daemon, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    program = tmp_path / "python"
    shutil.copy(Path(PYTHON).resolve(), program)
    program.chmod(0o4755)
    run = ["run", "--rm", "-u", "1000", "-v", f"{tmp_path}:/suid", *HOST_PYTHON]
    command = ["busybox", "/suid/python", "-I", "-c", "import os; print(os.geteuid())"]
    assert daemon.ok(*run, "--security-opt", "no-new-privileges", *command) == "1000\n"
    assert daemon.ok(*run, *command) == "0\n"


# %% What privileged grants, and what the host has not got
def test_privileged_is_what_the_host_has(daemon: Daemon) -> None:
    out = daemon.ok("run", "--rm", "--privileged", "busybox", "grep", "CapEff", "/proc/self/status")
    ours = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in line
    )
    assert out.split()[1] == ours.split()[1]
