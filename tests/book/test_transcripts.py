"""Every transcript of the book, run."""

import os
import shutil
from collections.abc import Callable

import pytest

from tools.transcripts import CHAPTERS, run_chapter, skipped

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("minidock") is None, reason="needs root and minidock in PATH"
)


@pytest.mark.parametrize("name", sorted(path.name for path in CHAPTERS.glob("*.md")))
def test_chapter(name: str, record_property: Callable[[str, object], None]) -> None:
    for words in skipped(CHAPTERS / name):
        record_property("skipped", words)  # for the table of what was run where (tools/vm/table.py)
    problems = run_chapter(CHAPTERS / name)
    assert not problems, "\n".join(problems)
