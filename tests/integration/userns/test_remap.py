"""``--userns-remap`` on the real kernel: root in there is nobody out here."""

import contextlib
import http.client
import io
import os
import secrets
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.conftest import Daemon, archive, wait_until_quiet
from tests.integration.faults.test_every_step import call
from tests.speed import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FIRST = 300000

PATCH = """
from minidock.engine import remap
remap.SUBUID = remap.SUBGID = {path!r}
"""


class Remapped(Daemon):
    """A daemon with a table of subordinate ids of its own, and a storage driver."""

    def __init__(self, directory: Path, driver: str) -> None:
        super().__init__(directory)
        table = directory / "subuid"
        table.write_text(f"nobody:{FIRST}:1000\nother:1:1\nnobody:{FIRST + 5000}:64536\n")
        (directory / "patch").mkdir()
        (directory / "patch" / "sitecustomize.py").write_text(PATCH.format(path=str(table)))
        self.environment["PYTHONPATH"] = f"{directory / 'patch'}:{Path.cwd()}"
        self.driver = driver

    def start(self, *prefix: str) -> None:
        reads, writes = os.pipe()
        with open(self.directory / "daemon.log", "ab") as log:
            command = [*prefix, sys.executable, "-m", "minidock", "daemon"]
            command += ["--ready-fd", str(writes)]
            self.process = subprocess.Popen(
                [*command, "--userns-remap", "nobody", "--storage-driver", self.driver],
                env=self.environment, pass_fds=[writes], stdout=log, stderr=log,
            )  # fmt: skip
        os.close(writes)
        with open(reads, "rb") as ready:
            assert ready.readline() == b"ready\n", (self.directory / "daemon.log").read_text()


@pytest.fixture(scope="module", params=["overlay", "vfs"])
def remapped(request: pytest.FixtureRequest) -> Iterator[Remapped]:
    with tempfile.TemporaryDirectory(prefix="mdu") as name:
        os.chmod(name, 0o711)  # the container's root must get to its own directory
        daemon = Remapped(Path(name), request.param)
        daemon.start()
        try:
            daemon.ok("load", "-i", str(archive("busybox")))
            yield daemon
        finally:
            daemon.remove_everything()
            daemon.stop()
            wait_until_quiet(daemon)


def pid_of(daemon: Daemon, container: str) -> int:
    return int(daemon.ok("inspect", "-f", "{{.State.Pid}}", container))


# %% Who is who
def test_root_is_somebody_else_outside(remapped: Remapped) -> None:
    container = remapped.ok("run", "-d", "busybox", "sleep", "1000").strip()
    pid = pid_of(remapped, container)
    assert os.stat(f"/proc/{pid}").st_uid == FIRST
    assert [line.split() for line in Path(f"/proc/{pid}/uid_map").read_text().splitlines()] == [
        ["0", str(FIRST), "1000"],
        ["1000", str(FIRST + 5000), "64536"],
    ]
    assert remapped.ok("exec", container, "id", "-u") == "0\n"
    sleeper = remapped.ok("exec", "-d", "-u", "1000", container, "sleep", "999")
    assert sleeper == ""
    owners = {os.stat(f"/proc/{line}").st_uid for line in _pids(remapped, container)}
    assert owners == {FIRST, FIRST + 5000}


def _pids(daemon: Daemon, container: str) -> list[str]:
    return [line.split()[0] for line in daemon.ok("top", container, "-eo", "pid").splitlines()[1:]]


# %% Files: the image's are root's in there, and what is written is root's on the disk
def test_files_are_its_own_and_root_s_on_the_disk(remapped: Remapped) -> None:
    script = "stat -c %u /bin/busybox /etc /etc/hosts; echo x > /new; chown 7 /new; rm -r /root; sleep 1000"
    container = remapped.ok("run", "-d", "busybox", "sh", "-c", script).strip()
    assert remapped.ok("exec", container, "stat", "-c", "%u", "/new") == "7\n"
    assert remapped.ok("logs", container).split() == ["0", "0", "0"]
    upper = remapped.directory / "root" / "containers" / container / "upper"
    assert (upper / "new").stat().st_uid == 7
    assert "A /new" in remapped.ok("diff", container).splitlines()
    remapped.ok("restart", "-t", "0", container)
    assert remapped.ok("exec", container, "cat", "/new") == "x\n"


def test_the_host_s_files_are_not_its_own(remapped: Remapped, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    volume = f"{tmp_path}:/host"
    done = remapped.docker("run", "--rm", "-v", volume, "busybox", "cat", "/host/secret")
    assert "Permission denied" in done.stderr
    shared = ["--userns", "host", "-v", volume, "busybox", "cat", "/host/secret"]
    assert remapped.ok("run", "--rm", *shared) == "the host's"


def test_its_directory_is_closed_to_others(remapped: Remapped) -> None:
    container = remapped.ok("run", "-d", "busybox", "sleep", "1000").strip()
    rootfs = remapped.directory / "root" / "containers" / container / "rootfs"
    for uid, status in ((FIRST, 0), (12345, 2)):
        done = subprocess.run(
            ["ls", rootfs], user=uid, group=uid, extra_groups=[], capture_output=True, check=False
        )
        assert done.returncode == status


# %% The network namespace is its own, too
def test_it_may_configure_its_network(remapped: Remapped) -> None:
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip route del default; ip route"
    out = remapped.ok("run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", script)
    assert out.startswith("0\n") and "default" not in out
    none = ["--network", "none", "--sysctl", "net.ipv4.ip_default_ttl=9", "busybox"]
    assert remapped.ok("run", "--rm", *none, "cat", "/proc/sys/net/ipv4/ip_default_ttl") == "9\n"


# %% What cannot be shared with the host
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--privileged", "privileged mode is incompatible with user namespaces"),
        ("--network=host", "cannot share the host's network namespace"),
        ("--pid=host", "cannot share the host's PID namespace"),
    ],
)
def test_refused(remapped: Remapped, option: str, words: str) -> None:
    done = remapped.docker("run", "--rm", option, "busybox", "true")
    assert done.returncode == 125 and words in done.stderr
    assert remapped.ok("run", "--rm", "--userns", "host", option, "busybox", "id", "-u") == "0\n"


def test_info_says_so(remapped: Remapped) -> None:
    assert "name=userns" in remapped.ok("info", "-f", "{{.SecurityOptions}}")


@pytest.mark.parametrize("how", ["fail", "kill"])
def test_a_start_that_breaks_leaves_nothing(remapped: Remapped, how: str) -> None:
    remapped.remove_everything()
    steps = ["make the user namespace", "take an address", "mount the layers"]
    if remapped.driver == "overlay":
        steps += ["map the ids of layers.mapped", "map the ids of own.mapped"]
    else:
        steps[2] = "mount the copy"
    for step in steps:
        name = f"broken-{secrets.token_hex(3)}"
        remapped.ok("create", "--name", name, "busybox", "true")
        fault = {"X-MiniDock-Trace": name, "X-MiniDock-Fault": f"{how}={step}"}
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, answer = call(remapped, "POST", f"/containers/{name}/start", None, fault)
            assert status == 500 and "injected fault" in answer["message"]
        if how == "kill":
            assert remapped.process is not None and remapped.process.wait(10) == -9
            remapped.start()
        remapped.ok("rm", "-f", name)
        assert list((remapped.directory / "run" / "userns").iterdir()) == [], step
        assert "/containers/" not in "".join(
            line for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if str(remapped.directory) in line
        ), step  # fmt: skip


def test_nothing_is_left(remapped: Remapped) -> None:
    remapped.ok("run", "--rm", "busybox", "true")
    remapped.remove_everything()
    assert list((remapped.directory / "run" / "userns").iterdir()) == []
    # nobody waits for the cable to be pulled: see Cables.disconnect
    wait_until(lambda: str(remapped.directory) not in Path("/proc/self/mountinfo").read_text())


def test_where_every_mount_is_shared() -> None:
    """As systemd has it. What goes with the mapped clones must not be the container's own mount."""
    with tempfile.TemporaryDirectory(prefix="mdu") as name:
        os.chmod(name, 0o711)
        daemon = Remapped(Path(name), "overlay")
        daemon.start("unshare", "--mount", "--propagation", "shared")
        try:
            daemon.ok("load", "-i", str(archive("busybox")))
            assert daemon.ok("run", "--rm", "--network", "none", "busybox", "id", "-u") == "0\n"
        finally:
            daemon.stop()
            wait_until_quiet(daemon)


# %% Versions
def test_commits_and_exports_have_the_owners_of_the_inside(remapped: Remapped) -> None:
    script = "echo 1 >/mine; echo 2 >/theirs; chown 7:8 /theirs; sleep 1000"
    name = remapped.ok("run", "-d", "busybox", "sh", "-c", script).strip()
    for _ in range(100):
        if "/theirs" in remapped.ok("diff", name):
            break
    time.sleep(0.2)
    running = owners(remapped, name)
    remapped.ok("commit", name, "owned:1")
    remapped.ok("kill", name)
    assert running == owners(remapped, name) == {"mine": (0, 0), "theirs": (7, 8), "bin": (0, 0)}
    shown = remapped.ok("run", "--rm", "owned:1", "stat", "-c", "%u:%g", "/mine", "/theirs")
    assert shown.split() == ["0:0", "7:8"]
    remapped.ok("rm", name)
    remapped.ok("rmi", "owned:1")


def owners(daemon: Daemon, container: str) -> dict[str, tuple[int, int]]:
    words = ["docker", "-H", daemon.host, "export", container]
    data = subprocess.run(words, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {one.name: one for one in archive}
    return {name: (members[name].uid, members[name].gid) for name in ("mine", "theirs", "bin")}


# %% cp
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_cp_knows_the_owners_of_the_inside(
    remapped: Remapped, tmp_path: Path, running: bool
) -> None:
    """The numbers are the same on both sides of the archive, whatever the container's ids are on the host."""
    name = f"cp-{secrets.token_hex(3)}"
    script = "echo 1 >/mine; echo 2 >/theirs; chown 7:8 /theirs; mkdir /there; echo ready; exec sleep 1000"
    remapped.ok("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    while "ready" not in remapped.ok("logs", name):
        time.sleep(0.05)
    if not running:
        remapped.ok("kill", name)
    for file, owner in (("root", (0, 0)), ("other", (21, 22))):
        (tmp_path / file).write_text(file)
        os.chown(tmp_path / file, *owner)
        remapped.ok("cp", str(tmp_path / file), f"{name}:/there/{file}")
    words = ["docker", "-H", remapped.host, "cp", f"{name}:/theirs", "-"]
    out = subprocess.run(words, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as packed:
        assert [(one.uid, one.gid) for one in packed] == [(7, 8)]
    if not running:
        remapped.ok("start", name)
    shown = remapped.ok(
        "exec", name, "stat", "-c", "%u:%g", "/there/root", "/there/other", "/theirs"
    )
    assert shown.split() == ["0:0", "21:22", "7:8"]  # root's, somebody's, and as it was
    assert remapped.ok("exec", name, "cat", "/there/other") == "other"
    remapped.ok("rm", "-f", name)
