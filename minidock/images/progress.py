"""How far something is, told to a client while it goes on.

A client of the Engine API gets JSON objects, one a line: ``stream`` is text,
``status`` with an ``id`` is a line that later ones with the same id replace.
``docker load`` and ``docker pull`` draw their bars from ``progressDetail``;
``progress`` is the bar ready drawn, for those who only print.

The trap is to tell too much: a layer is read in thousands of pieces, and a
client that draws each of them is slower than the disk.

**Interface:** :class:`Progress`.

**See:** moby ``pkg/progress``, ``pkg/jsonmessage``.
"""

import time
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]
Say = Callable[[Body], None]

OFTEN = 0.1  # seconds


# %% One thing that takes its time
class Progress:
    """``action`` on the layer ``id``, ``total`` bytes of it; told at most ten times a second."""

    def __init__(self, say: Say, layer_id: str, action: str, total: int) -> None:
        self._say = say
        self._id = layer_id.removeprefix("sha256:")[:12]
        self._action = action
        self._total = total
        self._current = 0
        self._next = 0.0

    def advance(self, data: bytes) -> None:
        """``data`` have been dealt with."""
        self._current += len(data)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + OFTEN
            self._tell()

    def finish(self) -> None:
        """All of it."""
        self._current = self._total
        self._tell()

    def _tell(self) -> None:
        self._say(
            {
                "status": self._action,
                "progressDetail": {"current": self._current, "total": self._total},
                "progress": bar(self._current, self._total),
                "id": self._id,
            }
        )


def bar(current: int, total: int) -> str:
    """``[====>      ]  1.5MB/20MB``, as Docker draws it."""
    if total <= 0 or current > total:
        return f"{_size(current):>8}"
    done = 50 * current // total
    return f"[{'=' * done}>{' ' * (50 - done)}] {_size(current):>8}/{_size(total)}"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}TB"
