"""One thread that listens to all monitors.

**Interface:** :class:`Watcher`.

The trap: a selector must be changed by the thread that sleeps in it, or it
may sleep on. epoll(7) is an exception that may be relied on: a descriptor
added by another thread wakes the sleeper. The other trap: a monitor may hang
up after the next run of its container has begun, with another monitor; so
its process id is remembered with its channel.
"""

import selectors
from collections.abc import Callable
from threading import Thread
from typing import Any

from minidock.engine.container import Container
from minidock.runtime.sync import Channel


# %% The watcher
class Watcher:
    """Calls ``heard(container, event)`` for each message, ``silent(container, monitor)`` at the end.

    ``monitor`` is the pid of the one that has fallen silent: a container that was restarted has
    another by then.
    """

    def __init__(
        self,
        heard: Callable[[Container, dict[str, Any]], object],
        silent: Callable[[Container, int], object],
    ) -> None:
        self._heard = heard
        self._silent = silent
        self._selector = selectors.EpollSelector()

    def open(self) -> None:
        """Start the thread."""
        Thread(target=self._run, name="watcher", daemon=True).start()

    def add(self, channel: Channel, container: Container) -> None:
        """Listen to the monitor at the other end of ``channel``."""
        monitor = int(container.state.get("monitor", 0))
        self._selector.register(channel, selectors.EVENT_READ, (channel, container, monitor))

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                self._receive(*key.data)

    def _receive(self, channel: Channel, container: Container, monitor: int) -> None:
        try:
            event, _ = channel.receive()
        except OSError:
            event = None
        if event is None:
            self._selector.unregister(channel)
            channel.close()
            self._silent(container, monitor)
        else:
            self._heard(container, event)
