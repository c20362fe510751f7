"""The last steps before the program: stdio, limits, identity, execve.

What is done here is the same for a container's first process and for one
that ``exec`` adds to it. It happens inside the container's namespaces, and
its order matters: what needs privilege comes before privilege is given up,
and the program is looked for *as the user who will run it*.

The traps. A descriptor that the engine left open would be a door to the
host (CVE-2024-21626), so all but the first three are closed by the execve.
A working directory outside the root is refused for the same reason. And
``PATH`` is the container's, not the host's: the C library's ``execvp``
would say only "not found" where Docker tells "not found" (127) from "not
executable" (126).

**Interface:** :func:`take_stdio`, :func:`become_process`, :func:`run`.

**See:** execve(2), close_range(2), getrlimit(2), environ(7); OCI runtime
specification, config.md, "Process"; runc ``libcontainer/init_linux.go``.
"""

import errno
import os
import resource
import signal
import stat
from contextlib import suppress
from typing import NoReturn

from minidock import capabilities, steps, terminal
from minidock.errors import CommandNotExecutable, CommandNotFound, InvalidParameter
from minidock.linux.syscalls import prctl, raw
from minidock.spec.runtime import Process, Rlimit

Stdio = tuple[int, int, int]


# %% Standard input, output and error
def take_stdio(fds: Stdio) -> None:
    """Make ``fds`` this process's 0, 1 and 2."""
    high = [
        os.dup(fd) if fd < 3 else fd for fd in fds
    ]  # do not overwrite one that is still to come
    for target, fd in enumerate(high):
        os.dup2(fd, target)


def take_terminal(slave: int, process: Process) -> None:
    """Make ``slave`` the controlling terminal and the standard streams."""
    if process.console_size is not None:
        terminal.set_size(slave, process.console_size.height, process.console_size.width)
    terminal.make_controlling(slave)
    take_stdio((slave, slave, slave))


def give_stdio_to(uid: int) -> None:
    """Let the user open ``/dev/stdout`` anew: a pipe belongs to whoever made it, root.

    ``/dev/null`` is left alone: it is everybody's. So is what cannot be
    given away (a file on a read-only file system).
    """
    for fd in (0, 1, 2):
        status = os.fstat(fd)
        if status.st_uid == uid or status.st_rdev == os.makedev(1, 3):
            continue
        with suppress(OSError):
            os.fchown(fd, uid, -1)


# %% Limits
def limit(rlimits: tuple[Rlimit, ...]) -> None:
    """setrlimit(2) for each; a hard limit above what we may grant is cut to what we have."""
    for rlimit in rlimits:
        number = getattr(resource, rlimit.type, None)
        if number is None:
            raise InvalidParameter(f"process.rlimits: unknown type {rlimit.type!r}")
        soft, hard = _unsigned(rlimit.soft), _unsigned(rlimit.hard)
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, PermissionError):  # raising it needs CAP_SYS_RESOURCE
            _, ceiling = resource.getrlimit(number)
            resource.setrlimit(number, (_smaller(soft, ceiling), _smaller(hard, ceiling)))


def _unsigned(value: int) -> int:
    return resource.RLIM_INFINITY if value in (-1, 2**64 - 1) else value


def _smaller(value: int, ceiling: int) -> int:
    if ceiling == resource.RLIM_INFINITY:
        return value
    return ceiling if value == resource.RLIM_INFINITY else min(value, ceiling)


def adjust_oom_score(score: int | None) -> None:
    """How readily the kernel kills this process when memory is short; lowering it needs a capability."""
    if score is not None:
        with suppress(PermissionError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))


# %% Who the process is
PR_SET_NO_NEW_PRIVS = 38


def become_process(process: Process, make_directory: bool = True) -> None:
    """Limits, ceiling, directory, user: everything about the process but its program."""
    adjust_oom_score(process.oom_score_adj)
    limit(process.rlimits)
    give_stdio_to(process.user.uid)
    if make_directory:
        _make_directory(process.cwd)
    if process.capabilities is not None:
        capabilities.lower_the_ceiling(process.capabilities)
    if process.no_new_privileges:
        prctl(PR_SET_NO_NEW_PRIVS, 1, name="PR_SET_NO_NEW_PRIVS")
    os.umask(0o022 if process.user.umask is None else process.user.umask)
    capabilities.become(process.user, process.capabilities)
    _change_directory(process.cwd)


def _make_directory(cwd: str) -> None:
    if not cwd.startswith("/"):
        raise InvalidParameter(f"the working directory '{cwd}' is invalid, it needs to be absolute")
    try:
        os.makedirs(cwd, 0o755, exist_ok=True)
    except FileExistsError:
        raise InvalidParameter(f"the working directory {cwd} is not a directory") from None
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):  # then chdir(2) will tell
            raise


def _change_directory(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except OSError as error:
        raise InvalidParameter(
            f'chdir to cwd ("{cwd}"): {(error.strerror or "").lower()}'
        ) from None
    if not os.getcwd().startswith("/"):
        raise InvalidParameter(f"the working directory {cwd} is outside the container's root")


# %% Finding the program
def find_program(name: str, path: str) -> str:
    """The file to execute for ``name``; ``path`` is the container's ``PATH``.

    Raises :class:`CommandNotFound` and :class:`CommandNotExecutable` in the
    words by which Docker's clients choose exit status 127 or 126.
    """
    if "/" in name:
        _check_executable(name, name)
        return name
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        try:
            _check_executable(candidate, name)
        except (CommandNotFound, CommandNotExecutable):
            continue
        return candidate
    raise CommandNotFound(f'exec: "{name}": executable file not found in $PATH')


def _check_executable(candidate: str, name: str) -> None:
    try:
        mode = os.stat(candidate).st_mode
    except PermissionError:
        raise CommandNotExecutable(f'exec: "{name}": permission denied') from None
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise CommandNotFound(f'exec: "{name}": stat {name}: {reason}') from None
    if stat.S_ISDIR(mode):
        # Two reasons: Docker's client of today looks for the first, that of Debian 12 for the second.
        raise CommandNotExecutable(f'exec: "{name}": is a directory: permission denied')
    if not os.access(candidate, os.X_OK, effective_ids=True):
        raise CommandNotExecutable(f'exec: "{name}": permission denied')


# %% Running it
CLOSE_RANGE_CLOEXEC = 4


def run(program: str, process: Process) -> NoReturn:
    """execve(2): from here on this process is the container's program."""
    forget_signals()
    raw("close_range", 3, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC)
    environment = dict(entry.partition("=")[::2] for entry in process.env)
    try:
        os.execve(program, list(process.args), environment)
    except OSError as error:
        raise _explain(error, program) from None


def forget_signals() -> None:
    """An ignored signal stays ignored across execve(2), and Python ignores SIGPIPE: undo that."""
    for number in (
        signal.SIGPIPE,
        signal.SIGXFSZ,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGTERM,
    ):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _explain(error: OSError, program: str) -> Exception:
    reason = (error.strerror or "").lower()
    message = f"exec {program}: {reason}"
    if error.errno == errno.ENOENT:  # the file is there, its interpreter (#!, ld.so) is not
        return CommandNotFound(message)
    if error.errno in (errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.ETXTBSY):
        return CommandNotExecutable(message)
    return OSError(error.errno, message)


def path_of(process: Process) -> str:
    """``PATH`` in the process's environment; the last one counts, as it does for a shell."""
    for entry in reversed(process.env):
        if entry.startswith("PATH="):
            return entry[5:]
    return ""


def prepare(process: Process, make_directory: bool = True) -> str:
    """Become what ``process`` says and find its program; returns its path.

    ``make_directory``: a working directory that is missing is made (not so for an exec).
    """
    if not process.args:
        raise InvalidParameter("no command specified")
    become_process(process, make_directory)
    with steps.step(
        "find the program", call="stat(2)", chapter="container", command=process.args[0]
    ):
        return find_program(process.args[0], path_of(process))
