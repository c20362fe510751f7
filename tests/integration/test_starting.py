"""The daemon that a command starts is ours, wherever the command was typed."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tools.transcripts import environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_a_directory_cannot_bring_its_own_engine(tmp_path: Path) -> None:
    package = tmp_path / "minidock"
    package.mkdir()
    mark = tmp_path / secrets.token_hex(4)
    (package / "__init__.py").write_text(f"open({str(mark)!r}, 'w')\n")
    program = Path(sys.executable).parent / "minidock"
    with environment() as own:
        own.pop("PYTHONPATH")
        done = subprocess.run(
            [program, "version"], cwd=tmp_path, env=own, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert not mark.exists()


@pytest.mark.parametrize("module", ["minidock", "minidock.cli.runtime"])
def test_called_without_an_output(module: str) -> None:
    """Python has no sys.stdout then; and what cannot be written is an error, if only at the very end."""
    command = f"exec {sys.executable} -m {module} --version"
    done = subprocess.run(["sh", "-c", f"{command} >&-"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    done = subprocess.run(["sh", "-c", f"{command} >/dev/full"], capture_output=True, check=False)
    assert done.returncode == 1 and b"No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
