"""A program in the foreground: our terminal and our signals are its.

Without ``--detach`` the command stays until the program has ended. Signals
that are sent to us are meant for it; if it has a terminal, what is typed
into ours goes there, letter by letter (raw mode: the line discipline of the
*other* terminal does the work now), and what it writes comes back.

The trap: raw mode must be taken back whatever happens, or the user's shell
is left without echo.

**Interface:** :class:`Foreground`.

**See:** termios(3), pty(7).
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from minidock.runtime.container import exit_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OUTPUT = 1  # its place in what tcgetattr(3) gives

PASSED_ON = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN),
    *(signal.SIGTTOU, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR),
)


# %% Being in front
class Foreground:
    """Everything that is changed here is as it was when the block ends."""

    def __init__(self, pid: int, console: int | None) -> None:
        self._pid = pid
        self._console = console
        self._terminal: int | None = None
        self._mode: Any = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Foreground:
        for number in PASSED_ON:
            self._handlers[number] = signal.signal(number, self._pass_on)
        if self._console is not None:
            self._take_terminal()
        return self

    def _pass_on(self, number: int, frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._mode is not None and self._terminal is not None:
            import termios

            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._mode)

    # %% The terminal
    def _take_terminal(self) -> None:
        """Ours, if we have one: standard input, or whatever controls us."""
        import termios
        import tty

        assert self._console is not None
        other = termios.tcgetattr(self._console)
        other[OUTPUT] &= ~termios.ONLCR
        termios.tcsetattr(self._console, termios.TCSANOW, other)
        self._terminal = 0 if os.isatty(0) else self._controlling()
        if self._terminal is None:
            return
        self._mode = termios.tcgetattr(self._terminal)
        self._follow_size()
        signal.signal(signal.SIGWINCH, lambda *_: self._follow_size())
        tty.setraw(self._terminal, termios.TCSADRAIN)
        mode = termios.tcgetattr(self._terminal)
        mode[OUTPUT] |= (
            termios.OPOST
        )  # our terminal goes on making CR LF of LF, so the other must not
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, mode)

    def _controlling(self) -> int | None:
        with suppress(OSError):
            return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        return None

    def _follow_size(self) -> None:
        from minidock import terminal

        assert self._terminal is not None and self._console is not None
        with suppress(OSError):
            size = os.get_terminal_size(self._terminal)
            if size.lines and size.columns:
                terminal.set_size(self._console, size.lines, size.columns)

    # %% Until it ends
    def wait(self) -> int:
        """The exit status, when the program has ended and all it wrote has been shown."""
        if self._console is None:
            return self._reap()
        self._relay(self._console)
        return self._reap()

    def _reap(self) -> int:
        """Wait for it; orphans that fell to us meanwhile are buried."""
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._pid:
                return exit_status(status)

    def _relay(self, console: int) -> None:
        """Copy both ways until the terminal is closed (EIO), or the program has ended."""
        import select

        ended = os.pidfd_open(self._pid)
        sources = [0, console, ended]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if 0 in ready:
                data = _read(0)
                if data:
                    _write_all(console, data)
                else:
                    sources.remove(0)
            if console in ready:
                data = _read(console)
                if not data:
                    break
                _write_all(1, data)
            elif ended in ready:  # and nothing is left to be shown
                break
        os.close(ended)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: the other end of a terminal is closed
        return b""


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
