"""What can go wrong, by kind.

A container engine fails for a handful of *reasons*, and every caller cares
about the reason, not about the place: the HTTP server turns it into a status,
the command line into an exit code, a test into an assertion. So MiniDock
raises errors by kind, and this module knows nothing about HTTP::

    MiniDockError
     ├── InvalidParameter      you asked for something that makes no sense
     ├── NotFound              no such container, image, network, file
     │    └── CommandNotFound  the program to run is not in the container
     ├── CommandNotExecutable  it is there, but the kernel will not run it
     ├── Conflict              the name is taken, the container is running, ...
     ├── NotModified           it is already so (start a started container)
     ├── Forbidden             you may not (no root, a refused archive)
     │    └── HostileArchive   an archive that tries to leave its directory
     ├── Unavailable           the host lacks something (a controller, a tool)
     └── NotSupported          MiniDock does not do this

A failed system call is not in this tree: it stays an :class:`OSError` whose
message names the call and its arguments (see :mod:`minidock.linux`).

**Interface:** raise the kind, with one line that names the input and says
what would be right.

**See:** moby ``errdefs``, which sorts Docker's errors in the same way.
"""


# %% The tree of error kinds
class MiniDockError(Exception):
    """Any failure that MiniDock explains in one line."""

    from_daemon = False  # whether a client had it from the daemon, or found it out by itself


class InvalidParameter(MiniDockError):
    """The request makes no sense: a bad flag value, a limit below the minimum."""


class NotFound(MiniDockError):
    """The container, image, network or file named does not exist."""


class CommandNotFound(NotFound):
    """The program to run does not exist in the container (exit status 127)."""


class CommandNotExecutable(MiniDockError):
    """The program exists, but the kernel refuses to execute it (exit status 126)."""


class Conflict(MiniDockError):
    """The state does not allow it: a name is taken, a container is running."""


class NotModified(MiniDockError):
    """Nothing to do: the state is already as requested."""


class Forbidden(MiniDockError):
    """The caller may not do this."""


class HostileArchive(Forbidden):
    """An archive tries to write outside its directory, or is damaged."""


class Unavailable(MiniDockError):
    """The host lacks what is needed: a controller, a tool, a permission."""


class NotSupported(MiniDockError):
    """MiniDock does not do this; the message says what it does instead."""
