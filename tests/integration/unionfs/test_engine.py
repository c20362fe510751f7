"""A daemon with each driver: a container runs, its changes are seen, its root is kept."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidock.unionfs.choice import load
from tests.conformance.conftest import Daemon, archive
from tests.integration.unionfs.stacks import DRIVERS

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("docker") is None, reason="needs root and the docker command"
)


def start(daemon: Daemon, driver: str) -> None:
    daemon.environment["MINIDOCK_STORAGE_DRIVER"] = driver
    daemon.start()


@pytest.fixture
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    """Not started; on btrfs if the test's parameter wants it."""
    callspec = getattr(request.node, "callspec", None)
    driver = str(callspec.params["driver"]) if callspec else ""
    parent = request.getfixturevalue("btrfs_root") if driver == "btrfs" else None
    with tempfile.TemporaryDirectory(prefix="mde", dir=parent) as name:
        one = Daemon(Path(name))
        if lack := load(driver or "overlay").lacks(Path(name)):
            pytest.skip(f"{driver}: {lack}")
        yield one
        if one.process is not None and one.process.poll() is None:
            one.remove_everything()
            for image in one.ok("images", "-q").split():
                one.docker("rmi", "-f", image)
            one.stop()
            time.sleep(0.3)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_container_with_each_driver(daemon: Daemon, driver: str) -> None:
    start(daemon, driver)
    shown = daemon.ok("info", "-f", "{{.Driver}}|{{json .DriverStatus}}")
    assert shown.startswith("overlay2|" if driver == "overlay" else f"{driver}|")
    assert "Backing Filesystem" in shown
    daemon.ok("load", "-i", str(archive("busybox")))
    script = "echo mine > /etc/mine; rm /etc/passwd; cat /etc/mine; sleep 0.1"
    assert daemon.ok("run", "--name", "one", "busybox", "sh", "-c", script) == "mine\n"
    assert daemon.ok("diff", "one").split("\n")[:3] == ["C /etc", "A /etc/mine", "D /etc/passwd"]
    daemon.ok("run", "-d", "--name", "two", "busybox", "sleep", "1000")
    daemon.stop(signal.SIGKILL)
    daemon.start()  # the tree is still there, whoever makes it
    assert daemon.ok("exec", "two", "ls", "/bin/sh") == "/bin/sh\n"
    daemon.ok("rm", "-f", "two")
    assert daemon.ok("start", "-a", "one") == "mine\n"


LAYER = {}  # what the commit below has made with each driver


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_commit_with_each_driver(daemon: Daemon, driver: str) -> None:
    """The same layer with all of them; on top of it another; after a kill -9 they are still there."""
    start(daemon, driver)
    daemon.ok("load", "-i", str(archive("busybox")))
    script = (
        "mkdir /new && echo mine > /new/file && ln /new/file /new/link && chown 5:6 /new/file &&"
        " rm /etc/passwd && touch -d @1000000000 /new/file /new /etc /"
    )
    daemon.ok("run", "--name", "one", "--network", "none", "busybox", "sh", "-c", script)
    daemon.ok("commit", "-c", "ENV A=b", "-m", "first", "one", "made:1")
    layers = daemon.ok("inspect", "-f", "{{json .RootFS.Layers}}", "made:1")
    LAYER[driver] = layers
    assert LAYER[driver] == LAYER[next(iter(LAYER))]
    bare = ("run", "--rm", "--network", "none")
    look = "stat -c '%u:%g %h %Y' /new/link; ls /etc/passwd; echo $A"
    assert daemon.docker(*bare, "made:1", "sh", "-c", look).stdout == "5:6 2 1000000000\nb\n"
    daemon.ok("run", "-d", "--name", "two", "made:1", "sh", "-c", "rm /new/file; sleep 1000")
    while daemon.docker("exec", "two", "ls", "/new/file").returncode == 0:
        time.sleep(0.05)
    daemon.ok("commit", "two", "made:2")  # while it runs
    daemon.stop(signal.SIGKILL)
    daemon.start()
    assert daemon.ok("exec", "two", "ls", "/new") == "link\n"
    assert daemon.ok(*bare, "made:2", "ls", "/new") == "link\n"
    assert daemon.ok("history", "--format", "{{.Comment}}", "made:2").split("\n")[1] == "first"
    daemon.ok("rm", "-f", "one", "two")
    daemon.ok("rmi", "made:2", "made:1")
    assert daemon.ok(*bare, "busybox", "ls", "/etc/passwd") == "/etc/passwd\n"


def test_a_root_that_was_used_with_another_driver(daemon: Daemon) -> None:
    start(daemon, "overlay")
    daemon.ok("load", "-i", str(archive("busybox")))
    daemon.ok("run", "--name", "first", "busybox", "touch", "/mine")
    daemon.stop()
    start(daemon, "vfs")
    assert daemon.ok("ps", "-aq") == ""
    assert daemon.ok("run", "--rm", "busybox", "echo", "again") == "again\n"
    daemon.stop()
    start(daemon, "overlay2")
    assert daemon.ok("ps", "-a", "--format", "{{.Names}}") == "first\n"
    assert "A /mine" in daemon.ok("diff", "first")


def test_what_is_not_there_is_said(daemon: Daemon) -> None:
    for name, words in (
        ("aufs", "aufs is gone"),
        ("zfs", "unknown storage driver 'zfs' (overlay, btrfs, fuse-overlayfs, devicemapper, vfs)"),
    ):
        done = daemon.minidock("daemon", "--storage-driver", name)
        assert done.returncode != 0
        assert words in done.stderr
    if "device-mapper" not in Path("/proc/misc").read_text():
        done = daemon.minidock("daemon", "-s", "devicemapper")
        assert "this kernel has no device mapper" in done.stderr
