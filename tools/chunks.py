"""Chunks: the pieces in which a chapter shows a module.

A line ``# %% Title`` begins a chunk, which runs to the next such line; what
comes before the first is the chunk called ``prelude``. It is a partition,
so that no line can stand outside. The mark may be indented, for a class that
is too long to be shown in one piece.

**Interface:** :class:`Chunk`, :func:`split`, :func:`modules`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

PRELUDE = "prelude"

_MARK = re.compile(r"^\s*# %% (?P<title>.+?)\s*$")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines ``first`` to ``last`` of ``path`` (counted from 1, the mark not included in ``text``)."""

    path: str
    title: str
    first: int
    last: int
    text: str


class DuplicateTitle(Exception):
    """A module has two chunks of one title."""


def split(path: str, source: str) -> list[Chunk]:
    """The chunks of a module. Raises :class:`DuplicateTitle`."""
    lines = source.splitlines()
    starts = [(PRELUDE, 0)]
    for number, line in enumerate(lines):
        match = _MARK.match(line)
        if match:
            starts.append((match["title"], number + 1))
    titles = [title for title, _ in starts]
    doubles = {title for title in titles if titles.count(title) > 1}
    if doubles:
        raise DuplicateTitle(f"{path}: two chunks are called {sorted(doubles)[0]!r}")
    ends = [start - 1 for _, start in starts[1:]] + [len(lines)]
    chunks = []
    for (title, start), end in zip(starts, ends, strict=True):
        body = lines[start:end]
        while body and not body[-1].strip():
            body.pop()
        chunks.append(Chunk(path, title, start + 1, start + len(body), "\n".join(body)))
    return [chunk for chunk in chunks if chunk.text.strip()]


def modules(root: Path, package: str = "minidock") -> dict[str, list[Chunk]]:
    """All modules of the engine below ``root``, by path, with their chunks."""
    return {
        str(path.relative_to(root)): split(str(path.relative_to(root)), path.read_text())
        for path in sorted((root / package).rglob("*.py"))
    }
