"""Events: what happened, told to whoever listens.

**Interface:** :class:`Events`.

The trap is a listener that has stopped listening: its queue would grow for
ever. Each listener has room for a number of events; one that lets them
pile up is cut off.

**See:** Engine API, "Monitor events".
"""

import time
from collections import deque
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from minidock.errors import Unavailable

Event = dict[str, Any]

KEPT = 256


# %% The bus
class Events:
    """Remembers the last few hundred events and passes new ones on."""

    def __init__(self) -> None:
        self._past: deque[Event] = deque(maxlen=KEPT)
        self._listeners: list[SimpleQueue[Event]] = []
        self._lock = Lock()

    def publish(self, kind: str, action: str, actor: str, **attributes: str) -> None:
        """Tell everybody that ``action`` happened to ``actor`` (an id) of ``kind``."""
        moment = time.time_ns()
        event = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": actor, "Attributes": attributes},
            "scope": "local",
            "time": moment // 10**9,
            "timeNano": moment,
        }
        if kind == "container":  # the fields of the first API versions, which clients still read
            event |= {
                "status": action,
                "id": actor,
                "from": attributes.get("image", ""),
            }
        with self._lock:
            self._past.append(event)
            for listener in self._listeners:
                listener.put(event)

    # %% Listening
    def listen(
        self, since: float | None, until: float | None, filters: dict[str, list[str]]
    ) -> Iterator[Event]:
        """Past events from ``since`` on, then new ones, until ``until`` (both seconds since 1970).

        Yields an empty dictionary once a second when nothing happens, so that
        the caller can see whether its client is still there.
        """
        queue: SimpleQueue[Event] = SimpleQueue()
        with self._lock:
            past = [] if since is None else [e for e in self._past if _time(e) >= since]
            self._listeners.append(queue)
        try:
            yield from (e for e in past if _matches(e, filters) and not _after(e, until))
            yield from self._new(queue, until, filters)
        finally:
            with self._lock:
                self._listeners.remove(queue)

    def _new(
        self,
        queue: "SimpleQueue[Event]",
        until: float | None,
        filters: dict[str, list[str]],
    ) -> Iterator[Event]:
        while until is None or time.time() < until:
            patience = 1.0 if until is None else max(0.0, min(1.0, until - time.time()))
            try:
                event = queue.get(timeout=patience)
            except Empty:
                yield {}
                continue
            if queue.qsize() > 100 * KEPT:
                raise Unavailable("the listener does not keep up with the events")
            if _after(event, until):
                return
            if _matches(event, filters):
                yield event


# %% Filters
def _time(event: Event) -> float:
    return float(event["timeNano"]) / 1e9


def _after(event: Event, until: float | None) -> bool:
    return until is not None and _time(event) > until


def _matches(event: Event, filters: dict[str, list[str]]) -> bool:
    """All filters must match; of one filter's values any."""
    actor = event["Actor"]
    attributes = actor["Attributes"]
    for name, values in filters.items():
        if name == "label":
            given = [f"{key}={value}" for key, value in attributes.items()] + list(attributes)
        else:
            given = {
                "type": [event["Type"]],
                "event": [event["Action"]],
                "container": [
                    actor["ID"],
                    actor["ID"][:12],
                    attributes.get("name", ""),
                ],
                "image": [
                    actor["ID"],
                    attributes.get("image", ""),
                    attributes.get("name", ""),
                ],
                "scope": ["local"],
            }.get(name, [])
        if not any(value in given for value in values):
            return False
    return True
