"""Bars that grow: the messages of a load or a pull, on a terminal.

A message with an ``id`` is a line of its own, and a later one with the same
id takes its place: the cursor goes up to it, and down again. The traps are a
terminal that scrolls (how far up a line is, is counted from the bottom) and
one that is narrow (a line that is broken would be two).

**Interface:** :func:`show_progress`.

**See:** console_codes(4); moby ``pkg/jsonmessage``.
"""

import json
import shutil
import sys
from typing import Any

from minidock.client import Answer
from minidock.errors import Unavailable

UP, DOWN, CLEAR = "\x1b[{}A", "\x1b[{}B", "\x1b[2K\r"


# %% Drawing
def show_progress(answer: Answer) -> None:
    """Draw a stream of JSON messages. Raises the error that is among them."""
    lines: list[str] = []
    for text in answer.lines():
        message = json.loads(text)
        if "error" in message:
            raise Unavailable(message["error"])
        if message.get("id"):
            _draw(lines, message)
        else:  # what comes after a plain line cannot go back above it
            lines.clear()
            sys.stdout.write(
                (message.get("stream") or message.get("status", "")).rstrip("\n") + "\n"
            )
        sys.stdout.flush()


def _draw(lines: list[str], message: dict[str, Any]) -> None:
    name = message["id"]
    if name not in lines:
        lines.append(name)
        sys.stdout.write("\n")
    up = len(lines) - lines.index(name)
    shown = f"{name}: {message.get('status', '')} {message.get('progress', '')}".rstrip()
    width = shutil.get_terminal_size().columns or 80
    sys.stdout.write(f"{UP.format(up)}{CLEAR}{shown[: width - 1]}\r{DOWN.format(up)}")
