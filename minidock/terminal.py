"""Terminals: a pair of ends with a line discipline between them.

``docker run -t`` gives the program a pseudo-terminal: what it opens is the
*slave*, which looks like a terminal in every way; what the engine holds is
the *master*. The line discipline between them turns Ctrl-C into SIGINT,
echoes what is typed and knows the size of the window.

The trap is where the pair is born: ``/dev/ptmx`` of the host would give a
slave in the host's ``/dev/pts``, which the container cannot see (``tty``
would say "not a tty"). So the container's init opens the multiplexer of the
container's own devpts and sends the master out.

**Interface:** :func:`open_pair`, :func:`set_size`, :func:`make_controlling`.

**See:** pty(7), pts(4), ioctl_tty(2); OCI runtime specification,
config.md, ``process.terminal``.
"""

import os
import struct
import termios
from fcntl import ioctl

# %% Opening a pair in this mount namespace
TIOCGPTN, TIOCSPTLCK, TIOCGPTPEER = (
    0x80045430,
    0x40045431,
    0x5441,
)  # <asm-generic/ioctls.h>


def open_pair(multiplexer: str = "/dev/ptmx") -> tuple[int, int, str]:
    """A new pseudo-terminal: the master, the slave, and the slave's path.

    TIOCGPTPEER opens the slave through the master, so that nobody can put
    another file at its path in between.
    """
    master = os.open(multiplexer, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("i", ioctl(master, TIOCGPTN, struct.pack("i", 0)))
        slave = ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        os.close(master)
        raise
    return master, slave, f"/dev/pts/{number}"


# %% The window's size, and whose terminal it is
def set_size(terminal: int, height: int, width: int) -> None:
    """Tell the line discipline the size in characters; the foreground process gets SIGWINCH."""
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def make_controlling(slave: int) -> None:
    """Make ``slave`` the terminal of this session, whose leader the caller must be: job control."""
    ioctl(slave, termios.TIOCSCTTY, 0)
