"""Every transcript of the book, run."""

import os
import shutil

import pytest

from tools.transcripts import CHAPTERS, run_chapter

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("minidock") is None, reason="needs root and minidock in PATH"
)


@pytest.mark.parametrize("name", sorted(path.name for path in CHAPTERS.glob("*.md")))
def test_chapter(name: str) -> None:
    problems = run_chapter(CHAPTERS / name)
    assert not problems, "\n".join(problems)
