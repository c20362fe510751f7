"""``start``, ``kill``, ``delete``, ``pause``, ``resume``: a life, in commands.

**Interface:** one function for each.
"""

from __future__ import annotations

import os

from minidock.cli.flags import Flag
from minidock.cli.runtime import Call
from minidock.cli.runtime.plumbing import trace, wait_until_ready
from minidock.errors import InvalidParameter
from minidock.runtime import lifecycle
from minidock.runtime.store import Entry, Store


def entry_of(call: Call, container_id: str) -> Entry:
    """The container that is meant."""
    return Store(call.root).find(container_id)


# %% start, pause, resume
def start(call: Call) -> int:
    """Let the program run."""
    _, (container_id,) = call.parse([], 1, 1)
    with trace(call.log):
        entry = entry_of(call, container_id)
        readiness = lifecycle.start(entry, call.log.warn, os.environ.get("NOTIFY_SOCKET", ""))
        wait_until_ready(readiness, call.log, entry.pid, entry.pid)
    return 0


def pause(call: Call) -> int:
    """Freeze it."""
    _, (container_id,) = call.parse([], 1, 1)
    lifecycle.pause(entry_of(call, container_id))
    return 0


def resume(call: Call) -> int:
    """Thaw it."""
    _, (container_id,) = call.parse([], 1, 1)
    lifecycle.resume(entry_of(call, container_id))
    return 0


# %% kill
def kill(call: Call) -> int:
    """SIGTERM, or the signal that is named or numbered."""
    flags = [Flag("all", "a", "bool", "send the specified signal to all processes")]
    values, (container_id, *rest) = call.parse(flags, 1, 2)
    number = signal_number(rest[0] if rest else "SIGTERM")
    lifecycle.kill(entry_of(call, container_id), number, values["all"])
    return 0


def signal_number(text: str) -> int:
    """``9``, ``KILL``, ``SIGKILL``, ``sigkill``."""
    import signal

    if text.isdigit():
        return int(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    number = getattr(signal, name.replace("+", ""), None)
    if not isinstance(number, signal.Signals):
        raise InvalidParameter(f'unknown signal "{text}"')
    return int(number)


# %% delete
def delete(call: Call) -> int:
    """Remove what is left of it."""
    flags = [Flag("force", "f", "bool", "Forcibly deletes the container if it is still running")]
    values, (container_id,) = call.parse(flags, 1, 1)
    with trace(call.log):
        lifecycle.delete(Store(call.root), container_id, values["force"], call.log.warn)
    return 0
