"""What is told while layers travel: Docker's stream of JSON messages.

Every message is about one thing (``id``: the first twelve digits of a
digest) or about the whole, says its ``status``, and may say how far it is
(``progressDetail``). Clients draw bars from that, so the words are fixed.

The trap: a message for every piece of data would cost more than the data.
One in a tenth of a second is enough for the eye.

**Interface:** :class:`Progress`, :data:`Say`.

**See:** Engine API, "ImageCreate"; moby ``pkg/jsonmessage``,
``pkg/streamformatter``.
"""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from minidock.images.progress import OFTEN, bar

Say = Callable[[dict[str, Any]], object]


# %% Telling
class Progress:
    """Messages about one operation; from many threads."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._lock = Lock()
        self._last: dict[tuple[str, str], float] = {}

    def message(self, status: str, id_: str = "") -> None:
        """About the whole, or a line about ``id_`` that stays."""
        with self._lock:
            self._say({"status": status, "id": id_} if id_ else {"status": status})

    def layer(self, status: str, id_: str) -> None:
        """A layer has come to another stage."""
        with self._lock:
            self._say({"status": status, "progressDetail": {}, "id": id_})

    def moved(self, status: str, id_: str, current: int, total: int) -> None:
        """So many bytes of so many."""
        now = time.monotonic()
        with self._lock:
            if now - self._last.get((status, id_), 0.0) < OFTEN:
                return
            self._last[status, id_] = now
            detail = {"current": current, **({"total": total} if total else {})}
            shown = bar(current, total)
            self._say({"status": status, "progressDetail": detail, "progress": shown, "id": id_})

    def aux(self, value: dict[str, Any]) -> None:
        """For programs."""
        with self._lock:
            self._say({"progressDetail": {}, "aux": value})
