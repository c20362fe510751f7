"""The default profile beside that of a real dockerd: every call, on every architecture, by the filter."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidock import capabilities
from minidock.seccomp import names
from minidock.seccomp.compiler import compile_filter
from minidock.seccomp.default import default_filter
from minidock.spec.codec import decode
from minidock.spec.seccomp import Seccomp
from tests.conformance.conftest import archive
from tests.seccomp import data, run

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("dockerd") is None, reason="needs dockerd"),
]


# %% Docker's own
class Docker:
    """A dockerd of our own, without a network."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = f"unix://{directory}/docker.sock"
        self.process = subprocess.Popen(
            [
                "dockerd",
                "--data-root",
                str(directory / "data"),
                "--exec-root",
                str(directory / "exec"),
            ]
            + ["-H", self.host, "--pidfile", str(directory / "pid"), "--bridge", "none"]
            + ["--iptables=false"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def call(self, *arguments: str) -> str:
        """``docker …``."""
        return subprocess.run(
            ["docker", "-H", self.host, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    def filter(self, *options: str) -> Seccomp:
        """What it tells its runtime to filter, for a container with ``options``."""
        name = f"probe{secrets.token_hex(3)}"
        self.call(
            "run", "-d", "--network", "none", "--name", name, *options, "busybox", "sleep", "99"
        )
        try:
            container = self.call("inspect", "-f", "{{.Id}}", name)
            # its containerd is its own, or the host's where that is running
            places = (self.directory / "exec", Path("/run/containerd"))
            (config,) = [
                path for place in places for path in place.glob(f"**/{container}/config.json")
            ]
            return decode(Seccomp, json.loads(config.read_text())["linux"]["seccomp"])
        finally:
            self.call("rm", "-f", name)

    def stop(self) -> None:
        """End it, and its containerd."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with tempfile.TemporaryDirectory(prefix="mdd", ignore_cleanup_errors=True) as name:
        one = Docker(Path(name))
        try:
            for _ in range(150):
                with contextlib.suppress(subprocess.CalledProcessError):
                    one.call("version")
                    break
                time.sleep(0.1)
            one.call("load", "-i", str(archive("busybox")))
            yield one
        finally:
            one.stop()


# %% Where we mean to differ
NEWER = set(names.NEWER) - {"clone3"}  # a profile of 2023 cannot know them, or knows them as new
PROTECTION_KEYS = {"pkey_alloc", "pkey_free", "pkey_mprotect"}
MEANT = NEWER | PROTECTION_KEYS | {"clock_settime64"}
ARGUMENTS = ([], [2**64 - 1] * 6, [0x10000000], [8], [1], [0x20008], [40, 1])


@pytest.mark.parametrize(
    "added", ["", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_TIME", "SYS_NICE", "SYSLOG"]
)
def test_the_same_calls_are_denied(docker: Docker, added: str) -> None:
    options = ["--cap-add", added] if added else []
    ours = compile_filter(default_filter(frozenset(capabilities.select([added] * bool(added), []))))
    theirs = compile_filter(docker.filter(*options))
    different = set()
    for name in names.native():
        one = names.architecture(name)
        for call, number in names.numbers(name).items():
            for arguments in ARGUMENTS:
                packet = data(number, one.token, arguments)
                if run(ours, packet) != run(theirs, packet):
                    different.add((call, arguments[0] if arguments else None))
    unexpected = {pair for pair in different if pair[0] not in MEANT} - {("socket", 40)}
    assert not unexpected
    assert ("socket", 40) in different  # or this test compares nothing
