"""Reading a container's log: lines, and what ``docker logs`` may ask of them.

The journal keeps what was read in one go; people want lines. A line may be
spread over several reads, and the two streams interleave, so each stream
has its own unfinished line.

The traps. ``--tail`` counts lines, not reads. And a reader that follows
must notice both that the file has grown and that the container has ended,
whichever comes first, and must not stop between the two.

**Interface:** :class:`Selection`, :func:`read`.

**See:** Engine API, "Get container logs"; inotify(7).
"""

import os
import select
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from minidock.engine.container import Container
from minidock.linux.syscalls import watch_file
from minidock.monitor.journal import INDEX, STDERR, STDOUT, Chunk, Reader
from minidock.spec.timestamp import format_time

LONGEST_LINE = 1024 * 1024


# %% What is asked for
@dataclass(frozen=True, slots=True)
class Selection:
    """Which lines: ``since`` and ``until`` in seconds since 1970, ``tail`` None for all."""

    follow: bool = False
    stdout: bool = True
    stderr: bool = True
    since: float = 0.0
    until: float = 0.0
    timestamps: bool = False
    tail: int | None = None
    details: bool = False

    def wants(self, line: Chunk) -> bool:
        """Whether ``line`` is of a stream and a time that were asked for."""
        if not {STDOUT: self.stdout, STDERR: self.stderr}[line.stream]:
            return False
        return line.time >= self.since * 1e9 and (not self.until or line.time <= self.until * 1e9)


# %% Lines
class Lines:
    """Turns chunks into lines; :meth:`rest` gives the unfinished ones."""

    def __init__(self) -> None:
        self._open: dict[int, Chunk] = {}

    def of(self, chunk: Chunk) -> Iterator[Chunk]:
        """The lines that ``chunk`` completes, each with the time at which it began."""
        begun = self._open.pop(chunk.stream, None)
        data = chunk.data if begun is None else begun.data + chunk.data
        moment = chunk.time if begun is None else begun.time
        *whole, last = data.split(b"\n")
        for line in whole:
            yield Chunk(moment, chunk.stream, line + b"\n")
            moment = chunk.time
        if len(last) > LONGEST_LINE:
            yield Chunk(moment, chunk.stream, last)
        elif last:
            self._open[chunk.stream] = Chunk(moment, chunk.stream, last)

    def rest(self) -> list[Chunk]:
        """The lines without an end, in the order of their beginning."""
        left = sorted(self._open.values(), key=lambda chunk: chunk.time)
        self._open.clear()
        return left


# %% Reading
def read(container: Container, selection: Selection) -> Iterator[bytes]:
    """The selected lines, framed for the client unless the container has a terminal.

    Yields ``b""`` about once a second when there is nothing, so that the
    caller can see whether its client is still there.
    """
    reader, lines = Reader(container.directory), Lines()
    past = (line for chunk in reader.chunks() for line in lines.of(chunk))
    chosen: Iterator[Chunk] = (line for line in past if selection.wants(line))
    if selection.tail is not None:
        kept = deque(chosen, maxlen=selection.tail + 1)
        unfinished = [line for line in lines.rest() if selection.wants(line)]
        kept.extend(unfinished)
        chosen = iter(list(kept)[-selection.tail :] if selection.tail else [])
    for line in chosen:
        yield _frame(line, container.terminal, selection)
    if selection.follow and container.running:
        for new in _follow(container, reader, lines):
            wanted = new is not None and selection.wants(new)
            yield _frame(new, container.terminal, selection) if new and wanted else b""
    for line in lines.rest():
        if selection.wants(line):
            yield _frame(line, container.terminal, selection)


def _follow(container: Container, reader: Reader, lines: Lines) -> Iterator[Chunk | None]:
    """New chunks as they come, without waiting for the end of a line; None when nothing comes."""
    yield from lines.rest()
    watch = watch_file(container.directory / INDEX)
    try:
        while True:
            running = container.running  # asked *before* reading: what came until its end is read
            yield from reader.chunks()
            if not running or container.removed:
                return
            ready, _, _ = select.select([watch], [], [], 0.2)
            if ready:
                os.read(watch, 4096)
            else:
                yield None
    finally:
        os.close(watch)


def _frame(line: Chunk, terminal: bool, selection: Selection) -> bytes:
    data = b" " + line.data if selection.details else line.data  # there are none to show
    if selection.timestamps:
        data = f"{format_time(line.time)} ".encode() + data
    return data if terminal else struct.pack(">BxxxI", line.stream, len(data)) + data
