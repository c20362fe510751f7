"""Streams: one program, any number of onlookers.

What a container writes goes to its journal and to every client that is
attached; what a client sends goes to the container's standard input. All of
it is done without blocking, by one loop, so the traps are the ends that are
slow. A client that does not read must not make us hold all that the
container writes in memory: when its backlog is full, we stop reading from
the container until it has caught up, which is what a pipe would do. And a
container that does not read its input must not block the loop: its client
waits.

Without a terminal, stdout and stderr share a client's one connection, each
piece behind a header of eight bytes that says which it is and how long.

**Interface:** :class:`Loop`, :class:`Streams`, :class:`Client`.

**See:** Engine API, "ContainerAttach", "Stream format"; pipe(7), pty(7).
"""

import os
import selectors
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from minidock.monitor.journal import Writer

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
PIECE = 64 * 1024
BACKLOG = 1024 * 1024


class HasFileno(Protocol):
    """What a selector takes."""

    def fileno(self) -> int:
        """The file descriptor."""


# %% The loop
class Loop:
    """Calls back when a descriptor is ready; ``watch(fd, 0, …)`` stops it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(
        self, what: "int | HasFileno", events: int, callback: Callable[[int], object]
    ) -> None:
        """From now on call ``callback(ready)`` on ``events`` of ``what``, and on no others."""
        known = what in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(what)
        elif known:
            self._selector.modify(what, events, callback)
        else:
            self._selector.register(what, events, callback)

    def turn(self, timeout: float | None = None) -> None:
        """Wait for events, at most ``timeout`` seconds, and answer them."""
        for key, ready in self._selector.select(timeout):
            if key.fd in self._selector.get_map():  # an earlier callback may have closed it
                key.data(ready)


# %% A client that is attached
class Client:
    """A connection that shows a program's output and, if it was asked to, gives it input."""

    def __init__(
        self,
        connection: socket.socket,
        streams: "Streams",
        wants: frozenset[int],
        stdin: bool,
    ) -> None:
        self.connection = connection
        self.wants = wants
        self.gives = stdin
        self.closing = False
        self._heard_all = False
        self._streams = streams
        self._backlog = bytearray()
        connection.setblocking(False)

    def feed(self, stream: int, data: bytes) -> None:
        """Send ``data``, now or as soon as the client takes it."""
        if stream not in self.wants:
            return
        if not self._streams.terminal:
            self._backlog += struct.pack(">BxxxI", stream, len(data))
        self._backlog += data
        self.flush()

    @property
    def full(self) -> bool:
        """Whether the client is so far behind that the container must wait for it."""
        return len(self._backlog) > BACKLOG

    def flush(self) -> None:
        """Send what can be sent."""
        was_full = self.full
        try:
            while self._backlog:
                del self._backlog[: self.connection.send(self._backlog[: 4 * PIECE])]
        except BlockingIOError:
            pass
        except OSError:  # it has gone away
            self._streams.drop(self)
            return
        if self.closing and not self._backlog:
            self._streams.drop(self)
        else:
            self.rearm()
        if was_full and not self.full:
            self._streams.caught_up()

    def rearm(self) -> None:
        """Tell the loop what we wait for."""
        listens = READ if self._listens() else 0
        self._streams.loop.watch(
            self.connection, listens | (WRITE if self._backlog else 0), self._ready
        )

    def _listens(self) -> bool:
        """We read while the container takes input; a client that only looks on may hang up, too."""
        waits = self.closing or self._heard_all or (self.gives and self._streams.input_full)
        return not waits

    def _ready(self, ready: int) -> None:
        if ready & READ:
            self._receive()
        if ready & WRITE:
            self.flush()

    def _receive(self) -> None:
        try:
            data = self.connection.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            self._streams.drop(self)
            return
        if data and self.gives:
            self._streams.give(data)
        elif not data:
            self._end_of_input()

    def _end_of_input(self) -> None:
        """The client has closed its half of the connection; the other half may still be wanted."""
        self._heard_all = True
        if self.gives:
            self.gives = False
            self._streams.input_ended()
        if self.wants:
            self.rearm()
        else:
            self._streams.drop(self)

    def finish(self) -> None:
        """Close the connection once everything is sent."""
        self.closing = True
        self.flush()


# %% The streams of one program
class Streams:
    """Standard input, output and error of one program; a terminal is all three in one."""

    def __init__(self, loop: Loop, journal: Writer | None, once: bool) -> None:
        self.loop = loop
        self.terminal = False
        self.clients: list[Client] = []
        self._journal = journal
        self._once = once  # close the input when the first client's ends (`run -i` without -d)
        self._sources: dict[int, int] = {}
        self._input: int | None = None
        self._pending = bytearray()
        self._ended = False

    def open(self, sources: dict[int, int], stdin: int | None, terminal: bool) -> None:
        """Begin: ``sources`` maps descriptors to stream numbers."""
        self.terminal = terminal
        self._sources = dict(sources)
        self._input = stdin
        for fd in {*sources, *([] if stdin is None else [stdin])}:
            os.set_blocking(fd, False)
        self._arm()
        self._push()

    def attach(self, connection: socket.socket, wants: frozenset[int], stdin: bool) -> Client:
        """Let a client look on from now; with ``stdin`` it may write, too."""
        client = Client(connection, self, wants, stdin)
        self.clients.append(client)
        client.rearm()
        return client

    def drop(self, client: Client) -> None:
        """Forget a client and close its connection."""
        if client not in self.clients:
            return
        self.clients.remove(client)
        self.loop.watch(client.connection, 0, lambda _: None)
        client.connection.close()
        if client.gives and not client.closing:
            self.input_ended()
        self.caught_up()

    # Output: from the program to the journal and the clients.

    @property
    def open_sources(self) -> bool:
        """Whether more output may come."""
        return bool(self._sources)

    def caught_up(self) -> None:
        """A client has room again, or has gone: the program may write on."""
        self._arm()

    def _arm(self) -> None:
        """Read from the program unless a client is too far behind."""
        events = 0 if any(client.full for client in self.clients) else READ
        for fd in self._sources:
            wanted = events | (WRITE if fd == self._input and self._pending else 0)
            self.loop.watch(fd, wanted, self._source_callback(fd))

    def _source_callback(self, fd: int) -> Callable[[int], None]:
        return lambda ready: self._source_ready(fd, ready)

    def _source_ready(self, fd: int, ready: int) -> None:
        if ready & WRITE:
            self._push()
        if ready & READ:
            self._pull(fd)

    def _pull(self, fd: int) -> None:
        try:
            data = os.read(fd, PIECE)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        if not data:
            self._close_source(fd)
            return
        stream = self._sources[fd]
        if self._journal is not None:
            self._journal.write(stream, data)
        for client in list(self.clients):
            client.feed(stream, data)
        self._arm()

    def _close_source(self, fd: int) -> None:
        self.loop.watch(fd, 0, lambda _: None)
        del self._sources[fd]
        if fd == self._input:
            self._input = None
        os.close(fd)

    # Input: from a client to the program.

    @property
    def input_full(self) -> bool:
        """Whether the program is so far behind with reading that clients must wait."""
        return len(self._pending) > BACKLOG

    def give(self, data: bytes) -> None:
        """Hand ``data`` to the program; what it does not want any more is thrown away."""
        if not self._ended:
            self._pending += data
            self._push()

    def input_ended(self) -> None:
        """A client's input is over; so is the program's, if it was to have just one."""
        if self._once:
            self._ended = True
            self._push()

    def _push(self) -> None:
        if self._input is None:
            return
        try:
            while self._pending:
                del self._pending[: os.write(self._input, self._pending[:PIECE])]
        except BlockingIOError:
            pass
        except OSError:  # EPIPE: nobody reads it any more
            self._pending.clear()
            self._ended = True
        self._watch_input()
        for client in self.clients:
            client.rearm()

    def _watch_input(self) -> None:
        """Wait for room while bytes are pending; close when they are gone and no more will come."""
        fd = self._input
        if fd is None:
            return
        if fd in self._sources:  # a terminal: the same descriptor is read, and never closed here
            self._arm()
        elif self._pending:
            self.loop.watch(fd, WRITE, lambda _: self._push())
        else:
            self.loop.watch(fd, 0, lambda _: None)
            if self._ended:
                os.close(fd)
                self._input = None

    def finish(self) -> None:
        """The program is over: close what is left, and let the clients go once they have all."""
        for fd in list(self._sources):
            self._close_source(fd)
        if self._input is not None:
            self.loop.watch(self._input, 0, lambda _: None)
            os.close(self._input)
            self._input = None
        for client in list(self.clients):
            client.finish()
