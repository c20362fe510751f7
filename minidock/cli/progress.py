"""Messages of a pull or a push, for people: bars on a terminal, else plain lines.

Every message has an ``id``; on a terminal each id has a line of its own,
which is written over as things move. Where nobody looks, moving things are
left out, and what remains are lines that a log can hold.

The trap is a terminal that is narrower than a line: a line that wraps is two
lines, and the next one would be drawn over the wrong one. So lines are cut.

**Interface:** :func:`show`.

**See:** console_codes(4); moby ``pkg/jsonmessage``.
"""

from __future__ import annotations

import json
import os

from minidock.errors import MiniDockError

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from collections.abc import Iterable
    from typing import Any, TextIO


# %% Showing
def show(lines: Iterable[bytes], out: TextIO, quiet: bool = False) -> None:
    """Show messages as they come. Raises the error that is among them."""
    screen = Screen(out) if out.isatty() else None
    for line in lines:
        message = json.loads(line)
        if "error" in message:
            error = MiniDockError(message["error"])
            error.from_daemon = True
            raise error
        if quiet or "aux" in message:
            continue
        if screen is not None:
            screen.draw(message)
        elif not message.get("progressDetail"):
            out.write(plain(message) + "\n")
            out.flush()


def plain(message: dict[str, Any]) -> str:
    """One line."""
    text = str(message.get("stream") or message.get("status", "")).rstrip("\n")
    return f"{message['id']}: {text}" if message.get("id") else text


class Screen:
    """Lines that move, above which nothing changes any more."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: dict[str, int] = {}  # by id, from the top

    def draw(self, message: dict[str, Any]) -> None:
        """One message: over its line, or as a new one."""
        name, text = message.get("id", ""), plain(message)
        if message.get("progress"):
            text = f"{text} {message['progress']}"
        text = text[: (os.get_terminal_size(self._out.fileno()).columns or 80) - 1]
        if not name or "progressDetail" not in message:
            self._lines.clear()
            self._out.write(f"{text}\n")
        elif name in self._lines:
            up = len(self._lines) - self._lines[name]
            self._out.write(f"\x1b[{up}A\r\x1b[2K{text}\r\x1b[{up}B")
        else:
            self._lines[name] = len(self._lines)
            self._out.write(f"{text}\n")
        self._out.flush()
