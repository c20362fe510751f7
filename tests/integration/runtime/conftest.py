"""A bundle to change, and our runtime as a program to run it with."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidock import cgroups
from tests.conformance.conftest import archive

HERE = Path(__file__).parents[3]

Config = dict[str, Any]


# %% The program
class Runtime:
    """``minidock-runtime`` with a state directory of its own, and one bundle."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.bundle = directory / "bundle"
        self.config: Config = {}
        self.ids: list[str] = []

    def name(self) -> str:
        """A new name for a container."""
        self.ids.append(f"md{secrets.token_hex(4)}")
        return self.ids[-1]

    def write(self) -> None:
        """``config.json`` as the test wants it."""
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def call(
        self, *words: str, fault: str = "", stdin: str | None = None, log: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Call it; nothing is expected."""
        more = [] if log is None else ["--log", str(log), "--log-format", "json"]
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "minidock.cli.runtime",
                "--root",
                str(self.state),
                *more,
                *words,
            ],
            cwd=self.bundle,
            env={**os.environ, "PYTHONPATH": str(HERE), "MINIDOCK_FAULT": fault},
            capture_output=True,
            text=True,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            timeout=60,
            check=False,
        )

    def ok(self, *words: str) -> str:
        """Call it; it must succeed."""
        done = self.call(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def fails(self, *words: str, status: int = 1) -> str:
        """Call it; it must fail with one line."""
        done = self.call(*words)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.strip()

    def run(self, *arguments: str) -> str:
        """The output of one program in a container of the configuration as it is."""
        self.config["process"]["args"] = list(arguments)
        self.write()
        return self.ok("run", self.name())

    def status_of(self, *words: str, fault: str = "") -> int:
        """Call it without reading what it says: a container that is left has its output, too."""
        return subprocess.run(
            [sys.executable, "-m", "minidock.cli.runtime", "--root", str(self.state), *words],
            cwd=self.bundle,
            env={**os.environ, "PYTHONPATH": str(HERE), "MINIDOCK_FAULT": fault},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        ).returncode

    def detached(self, *arguments: str) -> str:
        """A container that runs in the background; its name."""
        self.config["process"]["args"] = list(arguments)
        self.write()
        name = self.name()
        assert self.status_of("run", "-d", name) == 0
        return name

    def status(self, name: str) -> str:
        """The word in ``state``."""
        return str(json.loads(self.ok("state", name))["status"])

    def left(self) -> dict[str, Any]:
        """What is on the host of all the containers that this test has named."""
        found = {
            "state": os.listdir(self.state) if self.state.exists() else [],
            "cgroups": [name for name in self.ids if cgroups.open(f"/{name}").exists()],
            "mounts": [
                line
                for line in Path("/proc/self/mountinfo").read_text().splitlines()
                if str(self.bundle) in line
            ],
        }
        return {kind: value for kind, value in found.items() if value}


def unpack_busybox(rootfs: Path) -> None:
    """The layer of the base image, its largest file, as a new directory."""
    rootfs.mkdir(parents=True)
    with tarfile.open(archive("busybox")) as source:
        layer = source.extractfile(max(source, key=lambda member: member.size))
        assert layer is not None
        with tarfile.open(fileobj=layer) as tree:
            tree.extractall(rootfs, numeric_owner=True)


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """A busybox bundle with what ``spec`` writes, without a terminal; nothing may be left of it.

    Not below pytest's directory, which only root may enter: root of a user namespace is not root.
    """
    place = Path("/var/lib") / f"mdruntime{secrets.token_hex(4)}"
    place.mkdir(mode=0o755)
    one = Runtime(place)
    unpack_busybox(one.bundle / "rootfs")
    one.ok("spec")
    one.config = json.loads((one.bundle / "config.json").read_text())
    one.config["process"]["terminal"] = False
    yield one
    for name in one.ids:
        one.call("delete", "--force", name)
    left = one.left()
    shutil.rmtree(place)
    assert left == {}
