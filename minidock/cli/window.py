"""Our own terminal: raw mode, and its window.

In raw mode every key is a byte that goes to the program: Ctrl-C is no signal
to us, and the terminal's driver neither edits nor echoes. When the user
pulls at a corner of the window, the kernel sends SIGWINCH.

The traps. The terminal must be put back whatever happens. And a signal comes
in the middle of a select(2): so it writes into a pipe, which is waited for.

**Interface:** :func:`raw_terminal`, :func:`watching_window`.

**See:** termios(3), tty_ioctl(4), signal(7).
"""

import os
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


# %% Raw mode
@contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Raw mode during this block, if ``fd`` is a terminal."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


# %% Its size
@contextmanager
def watching_window(resized: Callable[[], None]) -> Iterator[list[int]]:
    """A descriptor that becomes readable when our window has another size."""
    reads, writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.signal(signal.SIGWINCH, lambda *_: None)
    old = signal.set_wakeup_fd(writes)
    try:
        resized()
        yield [reads]
    finally:
        signal.set_wakeup_fd(old)
        signal.signal(signal.SIGWINCH, before)
        os.close(reads)
        os.close(writes)
