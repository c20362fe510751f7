"""Steps, told to whoever listens: MiniDock's addition to the API.

A client that wants to see the steps of its requests thinks of a token,
opens ``GET /minidock/trace/<token>`` and sends the token along with its
requests; the records of their steps come out of the first connection, one
JSON object a line, as they happen.

**Interface:** :class:`Hub`.
"""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from threading import Lock

from minidock import steps
from minidock.errors import Forbidden, InvalidParameter

TRACE, FAULT = "x-minidock-trace", "x-minidock-fault"


# %% The hub
class Hub:
    """Queues by token."""

    def __init__(self) -> None:
        self._queues: dict[str, list[SimpleQueue[bytes]]] = {}
        self._lock = Lock()

    def listen(self, token: str) -> Iterator[bytes]:
        """Records for ``token`` as lines, for ever; ``b""`` now and then when there is none."""
        queue: SimpleQueue[bytes] = SimpleQueue()
        with self._lock:
            self._queues.setdefault(token, []).append(queue)
        return self._lines(token, queue)

    def _lines(self, token: str, queue: "SimpleQueue[bytes]") -> Iterator[bytes]:
        try:
            while True:
                try:
                    yield queue.get(timeout=0.5)
                except Empty:
                    yield b""
        finally:
            with self._lock:
                self._queues[token].remove(queue)
                if not self._queues[token]:
                    del self._queues[token]

    def _publish(self, token: str, record: steps.Record) -> None:
        line = json.dumps(record.as_json()).encode() + b"\n"
        with self._lock:
            for queue in self._queues.get(token, ()):
                queue.put(line)

    # %% A request that is traced
    def traced(self, headers: dict[str, str]) -> AbstractContextManager[None] | None:
        """The context in which to handle a request with ``headers``; None if it asks for nothing."""
        token, wanted = headers.get(TRACE), headers.get(FAULT)
        if not token and not wanted:
            return None
        fault = _fault(wanted) if wanted else None
        listener = (lambda record: self._publish(token, record)) if token else None
        return steps.listening(listener, "daemon", fault)


def _fault(text: str) -> steps.Fault:
    """``fail=TITLE`` or ``kill=TITLE``; only for a daemon that was started for it."""
    if not os.environ.get("MINIDOCK_FAULTS"):
        raise Forbidden(
            "faults are injected only by a daemon with MINIDOCK_FAULTS in its environment"
        )
    how, equals, title = text.partition("=")
    if how not in ("fail", "kill") or not equals:
        raise InvalidParameter(f"bad fault {text!r} (want fail=TITLE or kill=TITLE)")
    return steps.Fault(title, how)
