"""A daemon as it is, and *mutants*: daemons from whose code one protection has been taken.

An attack that fails proves nothing unless the same attack works where the
protection is missing. So each of these tests has a twin that runs the attack
against a mutant and must see it succeed (as far as that does no harm).
"""

import contextlib
import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minidock.images import bootstrap
from tests.conformance.conftest import Daemon, archive, daemon, session_daemon, wait_until_quiet

__all__ = ["daemon", "session_daemon"]

HOST_PYTHON = ["-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro"]
PYTHON = "/usr/bin/python3"


# %% Mutants
@pytest.fixture
def mutant(tmp_path: Path) -> Iterator[Callable[[str], Daemon]]:
    """A daemon whose interpreters first run the given code, which may replace parts of MiniDock."""
    made: list[Daemon] = []

    def make(code: str) -> Daemon:
        directory = tmp_path / f"m{len(made)}"
        (directory / "patch").mkdir(parents=True)
        (directory / "patch" / "sitecustomize.py").write_text(code)
        one = Daemon(directory)
        one.environment["PYTHONPATH"] = f"{directory / 'patch'}:{Path.cwd()}"
        one.start()
        made.append(one)
        one.ok("load", "-i", str(archive("busybox")))
        return one

    yield make
    for one in made:
        with contextlib.suppress(AssertionError):
            one.remove_everything()
        one.stop()
        wait_until_quiet(one)


# %% Images with a surprise in them
@pytest.fixture
def image(tmp_path: Path, daemon: Daemon) -> Callable[[str, dict[str, str]], str]:
    """An image like busybox's in which some paths are links; returns its name."""

    def make(name: str, links: dict[str, str], to: Daemon = daemon) -> str:
        rootfs = tmp_path / "rootfs.tar"
        with tarfile.open(rootfs, "w") as tar:
            for path in ("bin", "tmp", "etc", "real"):
                entry = tarfile.TarInfo(path)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
            entry = tarfile.TarInfo("bin/busybox")
            entry.size, entry.mode = len(busybox), 0o755
            tar.addfile(entry, io.BytesIO(busybox))
            for path, target in {"bin/sh": "busybox", **links}.items():
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
        out = tmp_path / "image.tar"
        bootstrap.write_archive(f"{name}:latest", rootfs, ["sh"], out)
        to.ok("load", "-i", str(out))
        return name

    return make
