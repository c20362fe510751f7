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
