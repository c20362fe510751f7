"""``--systemd-cgroup``, with a real systemd: as process 1 of a container of ours.

No host needs to be booted with it for that. The container has the host's
``/usr``, a directory of units with next to nothing in it, and all rights.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from minidock import capabilities, cgroups
from tests.integration.runtime.conftest import HERE, Runtime
from tests.speed import wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("systemd-run"), reason="systemd is not installed"),
]

V2 = cgroups.hierarchy() is cgroups.Version.V2
PATH = "/test.slice/test-a.slice/md-{}.scope"


# %% A machine with systemd
class Machine:
    """A container in which systemd is process 1; calls of the runtime go in there."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.name = runtime.name()
        self.rootfs = runtime.bundle / "rootfs"
        self.inner: dict[str, Any] = json.loads(json.dumps(runtime.config))
        self.furnish()
        self.configure()
        runtime.write()
        assert runtime.status_of("run", "-d", self.name) == 0
        wait_until(
            lambda: self.run("systemctl", "is-system-running").stdout.strip() == "running", 30
        )

    def furnish(self) -> None:
        """The busybox tree becomes the bundle inside; the rest is empty, or the host's."""
        box = self.rootfs.rename(self.rootfs.with_name("box"))
        for name in (
            "usr",
            "etc/systemd/system",
            "run",
            "tmp",
            "proc",
            "sys",
            "dev",
            "code",
            "bundle",
        ):
            (self.rootfs / name).mkdir(parents=True)
        box.rename(self.rootfs / "bundle/rootfs")
        for name in ("bin", "lib", "lib64", "sbin"):
            (self.rootfs / name).symlink_to(f"usr/{name}")
        for name, text in {
            "systemd/system/quiet.target": "[Unit]\nDescription=nothing\n",
            "machine-id": f"{1:032x}\n",
            "os-release": "ID=test\n",
            "passwd": "root:x:0:0::/root:/bin/sh\n",
            "group": "root:x:0:\n",
        }.items():
            (self.rootfs / "etc" / name).write_text(text)

    def configure(self) -> None:
        """All rights, its own cgroups to write to, and systemd."""
        config, process = self.runtime.config, self.runtime.config["process"]
        everything = sorted(capabilities.NUMBERS)
        held = [
            name
            for name in everything
            if capabilities.mask([name]) & capabilities.host_bounding_set()
        ]
        process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), held)
        process["noNewPrivileges"] = False
        process["rlimits"] = []
        process["env"] = ["PATH=/usr/sbin:/usr/bin", "container=oci"]
        process["args"] = ["/lib/systemd/systemd", "--unit=quiet.target", "--log-target=null"]
        config["root"]["readonly"] = False
        config["linux"] |= {"maskedPaths": [], "readonlyPaths": []}
        kinds = {one["type"] for one in config["linux"]["namespaces"]} | {"cgroup"}
        config["linux"]["namespaces"] = [{"type": kind} for kind in sorted(kinds)]
        free = ["nosuid", "noexec", "nodev"]
        mounts = [one for one in config["mounts"] if not one["destination"].startswith("/sys")]
        for target, kind, source, options in (
            ("/sys", "sysfs", "sysfs", free),
            ("/sys/fs/cgroup", "cgroup", "cgroup", free),
            ("/run", "tmpfs", "tmpfs", ["mode=755"]),
            ("/tmp", "tmpfs", "tmpfs", []),  # noqa: S108
            ("/usr", "bind", "/usr", ["rbind", "ro"]),
            ("/usr/lib/systemd/system", "tmpfs", "tmpfs", []),
            ("/code", "bind", str(HERE), ["rbind", "ro"]),
        ):
            mounts.append(
                {"destination": target, "type": kind, "source": source, "options": options}
            )
        config["mounts"] = mounts

    def run(self, *words: str, wait: bool = True) -> "subprocess.CompletedProcess[str]":
        """A program in the machine."""
        where = subprocess.PIPE if wait else subprocess.DEVNULL
        command = [sys.executable, "-m", "minidock.cli.runtime", "--root", str(self.runtime.state)]
        return subprocess.run(
            [*command, "exec", "--cwd", "/bundle", "--env", "PYTHONPATH=/code", self.name, *words],
            env={**os.environ, "PYTHONPATH": str(HERE)}, stdin=subprocess.DEVNULL, stdout=where,
            stderr=where, text=True, timeout=60, check=False,
        )  # fmt: skip

    def call(
        self, *words: str, wait: bool = True, fault: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """The runtime in the machine, with ``--systemd-cgroup``."""
        program = ["/usr/bin/python3", "-m", "minidock.cli.runtime", "--systemd-cgroup"]
        return self.run("env", f"MINIDOCK_FAULT={fault}", *program, *words, wait=wait)

    def write(
        self, cgroups_path: str, resources: dict[str, Any] | None = None, **more: Any
    ) -> None:
        """The bundle's configuration."""
        config = json.loads(json.dumps(self.inner))
        config["process"] |= {"args": ["sleep", "1000"], "rlimits": []}
        config["linux"] |= {"cgroupsPath": cgroups_path, "resources": resources or {}}
        (self.rootfs / "bundle/config.json").write_text(json.dumps({**config, **more}))

    def unit(self, name: str) -> dict[str, str]:
        """What systemd knows of a unit."""
        lines = self.run("systemctl", "show", name).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def file(self, controller: str, path: str) -> str:
        """A file of a cgroup, as the machine sees it."""
        place = "/sys/fs/cgroup" if V2 else f"/sys/fs/cgroup/{controller}"
        return self.run("cat", f"{place}{path}").stdout.strip()


@pytest.fixture
def machine(runtime: Runtime) -> Iterator[Machine]:
    one = Machine(runtime)
    yield one
    runtime.call("delete", "--force", one.name)


# %% A scope's life
LIMITS = {
    "memory": {"limit": 64 << 20},
    "cpu": {"quota": 25_500, "period": 100_000, "shares": 512},
    "pids": {"limit": 20},
}
LIMIT = "MemoryMax" if V2 else "MemoryLimit"
FILE = "memory.max" if V2 else "memory.limit_in_bytes"


def test_a_scope_and_its_limits(machine: Machine) -> None:
    machine.write(
        "test-a.slice:md:one",
        LIMITS,
        annotations={"org.systemd.property.TimeoutStopUSec": "uint64 7000000"},
    )
    assert machine.call("run", "-d", "one", wait=False).returncode == 0
    pid = json.loads(machine.call("state", "one").stdout)["pid"]
    path = PATH.format("one")
    lines = machine.run("cat", f"/proc/{pid}/cgroup").stdout.splitlines()
    trees = {line.split(":")[1] for line in lines if line.endswith(path)}
    assert trees >= ({""} if V2 else {"memory", "pids", "cpu", "freezer", "devices"})
    unit = machine.unit("md-one.scope")
    assert (unit["ActiveState"], unit["Slice"], unit["Delegate"]) == (
        "active",
        "test-a.slice",
        "yes",
    )
    assert unit["ControlGroup"] == path
    assert (unit[LIMIT], unit["TasksMax"], unit["TimeoutStopUSec"]) == (str(64 << 20), "20", "7s")
    assert unit["CPUQuotaPerSecUSec"] == "260ms"  # rounded up
    quota = "/cpu.max" if V2 else "/cpu.cfs_quota_us"
    assert machine.file("cpu", path + quota).split()[0] == "25500"  # exact
    assert machine.run("systemctl", "show", "-p", "Description", "--value", "md-one.scope").stdout.strip() == "libcontainer container one"  # fmt: skip
    assert machine.call("update", "--memory", str(32 << 20), "one").returncode == 0
    assert machine.run("systemctl", "daemon-reload").returncode == 0
    assert (
        machine.unit("md-one.scope")[LIMIT]
        == machine.file("memory", f"{path}/{FILE}")
        == str(32 << 20)
    )
    exec_ = machine.call("exec", "one", "cat", "/proc/self/cgroup")
    assert exec_.returncode == 0
    assert machine.call("delete", "--force", "one").returncode == 0
    assert machine.unit("md-one.scope")["LoadState"] == "not-found"
    assert machine.file("memory", f"{path}/{FILE}") == ""


def test_in_the_foreground_nothing_is_left(machine: Machine) -> None:
    machine.write("test-a.slice:md:two")
    config = json.loads((machine.rootfs / "bundle/config.json").read_text())
    config["process"]["args"] = ["sh", "-c", "exit 9"]
    (machine.rootfs / "bundle/config.json").write_text(json.dumps(config))
    assert machine.call("run", "two").returncode == 9
    assert machine.unit("md-two.scope")["LoadState"] == "not-found"


@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.parametrize("step", ["ask systemd for a scope", "make the cgroup", "enter the cgroup"])
def test_broken_off(machine: Machine, how: str, step: str) -> None:
    machine.write("test-a.slice:md:three")
    assert machine.call("create", "three", wait=False, fault=f"{how}={step}").returncode != 0
    machine.call("delete", "--force", "three")
    assert machine.unit("md-three.scope")["LoadState"] == "not-found"
    assert machine.call("list", "-q").stdout == ""


# %% What is refused
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/a/b", "expected cgroupsPath to be of format"),
        ("a:b", "expected cgroupsPath to be of format"),
        ("test--a.slice:md:x", "invalid slice name: test--a.slice"),
        ("test:md:x", "invalid slice name: test"),
        ("test.slice:md:../x", "is no name of a unit"),
        ("test.slice:md:", "is no name of a unit"),
    ],
)
def test_names_that_are_none(machine: Machine, path: str, said: str) -> None:
    machine.write(path)
    done = machine.call("run", "x")
    assert done.returncode == 1 and said in done.stderr, done
    assert len(done.stderr.splitlines()) == 1


def test_a_unit_that_is_there(machine: Machine) -> None:
    machine.write("test-a.slice:md:four")
    assert machine.call("run", "-d", "four", wait=False).returncode == 0
    for name in ("test-a.slice", "test-b.slice"):
        machine.write(f"{name}:md:four")
        again = machine.call("run", "five")
        assert again.returncode == 1 and "unable to start unit 'md-four.scope'" in again.stderr
    assert machine.unit("md-four.scope")["ActiveState"] == "active"
    assert machine.call("delete", "--force", "four").returncode == 0


def test_without_any_name(machine: Machine) -> None:
    machine.write("")
    assert machine.call("run", "-d", "six", wait=False).returncode == 0
    assert machine.unit("runc-six.scope")["Slice"] == "system.slice"
    assert machine.call("delete", "--force", "six").returncode == 0
