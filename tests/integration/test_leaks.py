"""The leak check must find what it is for: each kind of leak is made, found, and taken away.

It happens in a network namespace and a mount namespace of the test's own, because some tools
leave something of theirs behind for good: ``ip netns`` the mount of ``/run/netns``, ``iptables``
an nftables table.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minidock.linux import syscalls
from minidock.linux.syscalls import Clone, Mount
from tests import leaks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NAME = f"mdleak{secrets.token_hex(3)}"

Leak = tuple[Callable[[], object], Callable[[], object]]


def sh(command: str) -> Callable[[], object]:
    return lambda: subprocess.run(command, shell=True, check=True)


def cgroup() -> Path:
    root = Path("/sys/fs/cgroup")
    top = next(path for path in (root / "unified", root) if (path / "cgroup.procs").exists())
    return top / "minidock" / NAME


LEAKS: dict[str, Leak] = {
    "mounts": (
        sh(f"mkdir /var/tmp/{NAME} && mount -t tmpfs none /var/tmp/{NAME}"),
        sh(f"umount /var/tmp/{NAME} && rmdir /var/tmp/{NAME}"),
    ),
    "cgroups": (
        lambda: cgroup().mkdir(parents=True),
        lambda: cgroup().rmdir(),
    ),
    "network devices": (sh(f"ip link add {NAME} type bridge"), sh(f"ip link del {NAME}")),
    "network namespaces": (sh(f"ip netns add {NAME}"), sh(f"ip netns del {NAME}")),
    "nftables": (sh(f"nft add table ip {NAME}"), sh(f"nft delete table ip {NAME}")),
    "iptables": (
        sh(f"iptables -A INPUT -i {NAME} -j ACCEPT"),
        sh(f"iptables -D INPUT -i {NAME} -j ACCEPT"),
    ),
    "files": (sh(f"touch /tmp/{NAME}"), sh(f"rm /tmp/{NAME}")),
}


@pytest.fixture
def own_namespaces() -> Iterator[None]:
    """This thread, and what it starts, where its mounts and its firewall are nobody else's."""
    kinds = {"net": Clone.NEWNET, "mnt": Clone.NEWNS}
    home = {kind: os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in kinds}
    directory = os.getcwd()
    syscalls.unshare(Clone.NEWNET | Clone.NEWNS)
    try:
        syscalls.mount("none", "/", flags=Mount.REC | Mount.PRIVATE)
        yield
    finally:
        for kind, fd in home.items():
            syscalls.setns(fd, kinds[kind])
            os.close(fd)
        os.chdir(directory)  # setns(2) has put us at the root


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_is_found(own_namespaces: None, kind: str) -> None:
    before = leaks.look()
    make, remove = LEAKS[kind]
    make()
    try:
        found = leaks.compare(before, leaks.look())
        assert any(line.startswith(f"{kind}: ") and NAME in line for line in found), found
    finally:
        remove()


def test_a_process_is_found() -> None:
    before = leaks.look()
    script = "import os,time; os.write(os.open('/proc/self/comm', os.O_WRONLY), b'md leak'); time.sleep(30)"
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        time.sleep(0.3)
        assert any("md leak" in line for line in leaks.compare(before, leaks.look()))
    finally:
        process.kill()
        process.wait()


def test_a_leak_fails_the_session(tmp_path: Path) -> None:
    """Whatever else it did, pytest's status is 1, and the last lines say what was left."""
    path = tmp_path / "test_leaky.py"
    path.write_text(f"def test_leaky():\n    open('/tmp/{NAME}', 'w').close()\n")
    words = ["-p", "tests.conftest", "-c", "/dev/null", "--rootdir", tmp_path, path]
    outer = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words],
            env=outer,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stdout
        assert f"files: /tmp/{NAME}" in done.stdout
        assert "1 passed" in done.stdout
    finally:
        Path(f"/tmp/{NAME}").unlink()
