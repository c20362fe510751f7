"""Sockets, signals and JSON, without what Python has wrapped around them.

``import json, socket, signal`` costs 8 ms, more than the interpreter's own
start, and a third of a short command: all three bring ``enum`` and ``re``
along, to name a few numbers and to find the end of others. What does the
work is in modules of C that are there already. A command line that is
called, does one thing and ends takes those; what stays (the daemon) or has
to load all of it anyway (the engine) takes the standard library's.

The trap: these modules are Python's own affair, and may change with a
version of it. What is used here has been the same from 3.2 to 3.13; the
tests compare it with the standard library, case by case.

**Interface:** :class:`socket`, :func:`signal` and their constants;
:func:`loads`, :func:`dumps`.

**See:** CPython ``Lib/socket.py``, ``Lib/signal.py``, ``Lib/json/encoder.py``;
``docs/design/0013-runtime.md`` for what was measured.
"""

from _json import encode_basestring_ascii, make_encoder, make_scanner
from _signal import (  # type: ignore[import-not-found]
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    SIGUSR1,
    signal,
)
from _socket import AF_UNIX, SHUT_RDWR, SHUT_WR, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = [
    "AF_UNIX",
    "SHUT_RDWR",
    "SHUT_WR",
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGTERM",
    "SIGUSR1",
    "dumps",
    "loads",
    "signal",
    "socket",
]


# %% JSON: the two functions in C
class _Reading:
    """What the scanner wants to know about the values that it meets."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float  # NaN and its like, which nobody sends us


_scan = make_scanner(_Reading)  # type: ignore[arg-type]


def _refuse(value: object) -> "NoReturn":
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)


def loads(data: str | bytes) -> "Any":
    """The value of a JSON text. Raises :class:`ValueError`."""
    text = (data.decode() if isinstance(data, bytes) else data).strip(" \t\r\n")
    try:
        value, end = _scan(text, 0)
    except StopIteration as nothing:
        raise ValueError(f"no JSON at character {nothing.value}: {text[:40]!r}") from None
    if end != len(text):
        raise ValueError(f"more than one JSON value: {text[end : end + 40]!r}")
    return value


def dumps(value: "Any") -> str:
    """``value`` as JSON. Raises :class:`TypeError` for what is none."""
    return "".join(_encode(value, 0))
