"""A task: one program whose parent the monitor is, and its streams.

**Interface:** :class:`Task`.

The trap: the exit status and the end of the output come in any order. A
task is over when both are there, or when we have waited for the second long
enough (some descendant may keep the pipe open for ever).
"""

import time
from collections.abc import Callable, Sequence

from minidock.monitor.journal import STDERR, STDOUT
from minidock.monitor.streams import Streams
from minidock.terminal import set_size


# %% One program that we are the parent of
class Task:
    """The container's first process, or one added by exec."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.pid = 0
        self.console: int | None = None
        self.status: int | None = None
        self.deadline = float("inf")
        self.finish: Callable[[], None] = lambda: None

    def connect(self, pid: int, ours: Sequence[int], terminal: bool, stdin: bool) -> None:
        """It runs as ``pid``; ``ours`` are the terminal's master, or our ends of its pipes."""
        self.pid = pid
        if terminal:
            (self.console,) = ours
            self.streams.open({ours[0]: STDOUT}, ours[0] if stdin else None, terminal=True)
        else:
            sources = {ours[0]: STDOUT, ours[1]: STDERR}
            self.streams.open(sources, ours[2] if stdin else None, terminal=False)

    def resize(self, height: int, width: int) -> None:
        """The client's window has another size."""
        if self.console is not None and self.streams.open_sources:
            set_size(self.console, height, width)

    @property
    def over(self) -> bool:
        """It has died, and all that it wrote has been read (or we have waited long enough)."""
        if self.status is None:
            return False
        return not self.streams.open_sources or time.monotonic() > self.deadline
