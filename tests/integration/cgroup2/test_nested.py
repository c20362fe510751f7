"""``minidock`` in ``minidock``: the engine in a privileged container of the engine.

The inner engine finds a tree whose top is the outer container's cgroup, with
itself in it; a network namespace without a bridge; a root file system that
is an overlay already. The host's programs (Python, nft, iptables) and their
libraries are lent to it by bind mounts.
"""

import sys
from pathlib import Path

import pytest

from tests.conformance.conftest import Daemon, archive

TREE = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def outer(daemon: Daemon) -> Daemon:
    """A running privileged container called ``outer``, with the tree and the programs of the host."""
    lent = [Path(name) for name in ("/usr", "/lib", "/lib64", "/etc/alternatives")]
    binds = [TREE, Path(sys.prefix), archive("busybox"), *[path for path in lent if path.exists()]]
    mounts = [word for path in dict.fromkeys(binds) for word in ("-v", f"{path}:{path}:ro")]
    # The file system below an overlay's upper layer may not be an overlay: a tmpfs is none.
    mounts += ["--tmpfs", "/var/lib/minidock:exec", "--tmpfs", "/run", "--tmpfs", "/tmp"]
    daemon.ok("run", "-d", "--privileged", "--name", "outer", "-m", "512m", *mounts,
              "-w", str(TREE), "busybox", "sleep", "1000")  # fmt: skip
    return daemon


def inside(daemon: Daemon, *command: str) -> str:
    """What the inner engine says."""
    python = str(Path(sys.prefix) / "bin/python")
    done = daemon.docker("exec", "-e", "MINIDOCK_SUBNET=10.99.99.0/24", "outer",
                         python, "-m", "minidock", *command, timeout=300)  # fmt: skip
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_an_engine_in_an_engine(outer: Daemon) -> None:
    inside(outer, "load", "-i", str(archive("busybox")))
    # A limit needs controllers in the top group, where the inner engine itself was sitting.
    script = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max; ip -4 -o address show eth0 | grep -c 10.99.99; echo $$"
    words = inside(
        outer, "run", "--rm", "--pids-limit", "7", "-m", "64m", "busybox", "sh", "-c", script
    )
    assert words.split() == ["7", str(64 << 20), "1", "1"]


def test_the_inner_engine_sees_nothing_of_the_outer(outer: Daemon) -> None:
    inside(outer, "load", "-i", str(archive("busybox")))
    inside(outer, "run", "-d", "--name", "inner", "busybox", "sleep", "1000")
    assert inside(outer, "ps", "--format", "{{.Names}}").split() == ["inner"]
    assert outer.ok("ps", "--format", "{{.Names}}").split() == ["outer"]
    # But the host sees all: the end of the outer container is the end of everybody in it.
    assert "sleep 1000" in outer.ok("top", "outer")
    outer.ok("rm", "-f", "outer")
