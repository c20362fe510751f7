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

**Interface:** :func:`seal`, :func:`take_stdio`, :func:`become_process`, :func:`run`.

**See:** execve(2), close_range(2), getrlimit(2), environ(7); OCI runtime
specification, config.md, "Process"; runc ``libcontainer/init_linux.go``.
"""

import errno
import os
import resource
import signal
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from minidock import capabilities, steps, terminal
from minidock.errors import CommandNotExecutable, CommandNotFound, InvalidParameter
from minidock.linux import procfs
from minidock.linux.syscalls import execute_filtered, prctl, raw
from minidock.spec.runtime import Personality, Process, Rlimit

if TYPE_CHECKING:
    from minidock.seccomp import Filter

Stdio = tuple[int, int, int]


# %% No code from in there
def seal() -> None:
    """From here on nothing can be imported.

    A module that is loaded late would be looked for where the engine's code
    lies on the *host*, and once the root has changed, that is a directory of
    the container's: its image could bring a module of that name, and we
    would run it, with rights that the container shall never have.
    """
    sys.meta_path.clear()


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
    """setrlimit(2) for each. To raise a hard limit needs CAP_SYS_RESOURCE, and is an error without."""
    for rlimit in rlimits:
        if rlimit.type == "RLIMIT_NOFILE":
            rlimit = _as_high_as_now(rlimit)
        number = getattr(resource, rlimit.type, None)
        if number is None:
            raise InvalidParameter(f"process.rlimits: unknown type {rlimit.type!r}")
        soft, hard = _unsigned(rlimit.soft), _unsigned(rlimit.hard)
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, PermissionError) as error:
            reason = "soft limit above the hard one" if soft > hard >= 0 else "not permitted"
            raise OSError(
                getattr(error, "errno", None) or errno.EPERM,
                f"error setting rlimit {rlimit.type} to {rlimit.soft}, {rlimit.hard}: {reason}",
            ) from None


def limit_files(rlimits: tuple[Rlimit, ...]) -> None:
    """Open files last, and only down: until the program runs, we need more than it may."""
    for rlimit in rlimits:
        if rlimit.type == "RLIMIT_NOFILE":
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (_unsigned(rlimit.soft), _unsigned(rlimit.hard))
            )


def _as_high_as_now(wanted: Rlimit) -> Rlimit:
    """Raised if need be, while we have the privilege, but not lowered yet."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Rlimit(wanted.type, _larger(soft, wanted.soft), _larger(hard, wanted.hard))


def _larger(one: int, other: int) -> int:
    infinite = resource.RLIM_INFINITY in (_unsigned(one), _unsigned(other))
    return resource.RLIM_INFINITY if infinite else max(one, other)


def _unsigned(value: int) -> int:
    return resource.RLIM_INFINITY if value in (-1, 2**64 - 1) else value


def adjust_oom_score(score: int | None) -> None:
    """How readily the kernel kills this process when memory is short; to lower it needs a right."""
    if score is None:
        return
    path = "/proc/self/oom_score_adj"
    with open(path) as file:
        if int(file.read()) == score:
            return
    try:
        with open(path, "w") as file:
            file.write(str(score))
    except OSError as error:
        raise OSError(error.errno, f"write(2) {score} to {path}: {error.strerror}") from None


# %% How the kernel treats the process
def leave_keyring(name: str) -> None:
    """A session keyring of our own; a kernel without keyrings has nothing to leave."""
    from minidock.linux.attributes import join_session_keyring

    with suppress(OSError):
        join_session_keyring(f"_ses.{name}")


def set_personality(personality: Personality) -> None:
    """What ``uname -m`` says, for programs of a 32-bit world."""
    from minidock.linux.attributes import PERSONALITIES
    from minidock.linux.attributes import set_personality as personality_2

    if personality.flags:
        raise InvalidParameter("linux.personality.flags: additional flags are not supported")
    if personality.domain not in PERSONALITIES:
        known = ", ".join(PERSONALITIES)
        raise InvalidParameter(
            f"linux.personality.domain: unknown {personality.domain!r} (one of {known})"
        )
    personality_2(PERSONALITIES[personality.domain])


def set_priorities(process: Process) -> None:
    """Processor and disk: ``scheduler`` and ``ioPriority``."""
    from minidock.linux import attributes

    if process.scheduler is not None:
        wanted = process.scheduler
        flags = sum(attributes.SCHED_FLAGS[name] for name in wanted.flags)
        policy = attributes.SCHED_POLICIES[wanted.policy]
        deadline = (wanted.runtime, wanted.deadline, wanted.period)
        try:
            attributes.set_scheduler(policy, flags, wanted.nice, wanted.priority, deadline)
        except PermissionError as error:
            if wanted.policy == "SCHED_DEADLINE":  # its guarantee is for all processors, or none
                hint = "process scheduler can't be used together with AllowedCPUs"
                raise InvalidParameter(f"{error.strerror}: {hint}") from None
            raise
    if process.io_priority is not None:
        io_class = attributes.IO_CLASSES[process.io_priority.class_]
        attributes.set_io_priority(io_class, process.io_priority.priority)


def set_label(profile: str) -> None:
    """The AppArmor profile that the program will be under, from its execve(2) on."""
    for path in ("self/attr/apparmor/exec", "self/attr/exec"):
        try:
            procfs.write(path, f"exec {profile}")
            return
        except FileNotFoundError:
            continue
    raise InvalidParameter(f"cannot apply the AppArmor profile {profile}: this kernel has none")


# %% Who the process is
PR_SET_NO_NEW_PRIVS = 38


def become_process(process: Process, keep: int = 0) -> None:
    """Limits, ceiling, directory, user: everything about the process but its program."""
    limit(process.rlimits)
    if process.scheduler is not None or process.io_priority is not None:
        set_priorities(process)
    if process.apparmor_profile:
        set_label(process.apparmor_profile)
    give_stdio_to(process.user.uid)
    there = _change_directory(process.cwd, last_try=False)
    if process.capabilities is not None:
        capabilities.lower_the_ceiling(process.capabilities)
    if process.no_new_privileges:
        prctl(PR_SET_NO_NEW_PRIVS, 1, name="PR_SET_NO_NEW_PRIVS")
    os.umask(0o022 if process.user.umask is None else process.user.umask)
    capabilities.become(process.user, process.capabilities, keep)
    if not there:
        _change_directory(process.cwd)


def make_directory(cwd: str) -> None:
    """A container's working directory is made if it is missing."""
    if not cwd.startswith("/"):
        raise InvalidParameter(f"the working directory '{cwd}' is invalid, it needs to be absolute")
    try:
        os.makedirs(cwd, 0o755, exist_ok=True)
    except FileExistsError:
        raise InvalidParameter(f"the working directory {cwd} is not a directory") from None
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):  # then chdir(2) will tell
            raise


def _change_directory(cwd: str, last_try: bool = True) -> bool:
    """Once with all the rights we have, and if that was not enough, as the user."""
    try:
        os.chdir(cwd)
    except OSError as error:
        if not last_try and error.errno in (errno.EACCES, errno.EPERM):
            return False
        reason = (error.strerror or "").lower()
        raise InvalidParameter(
            f'chdir to cwd ("{cwd}") set in config.json failed: {reason}'
        ) from None
    try:
        outside = not os.getcwd().startswith("/")
    except (
        FileNotFoundError
    ):  # the kernel says "(unreachable)", which the C library turns into this
        outside = True
    if outside:
        raise InvalidParameter(f"the working directory {cwd} is outside the container's root")
    return True


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


def run(
    program: str,
    process: Process,
    preserve_fds: int = 0,
    filtered: "Filter | None" = None,
) -> NoReturn:
    """execve(2), behind the filter if there is one: from here on this is the container's program.

    Of our open files it gets the first three, and ``preserve_fds`` more.
    """
    environment = dict(entry.partition("=")[::2] for entry in process.env)
    if "HOME" not in environment:
        environment["HOME"] = home_of(process.user.uid)
    forget_signals()
    raw("close_range", 3 + preserve_fds, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC)
    limit_files(process.rlimits)
    try:
        if filtered is None:
            os.execve(program, list(process.args), environment)
        lines = [f"{name}={value}" for name, value in environment.items()]
        execute_filtered(
            program, process.args, lines, filtered.code, filtered.flags, filtered.announce
        )
    except OSError as error:
        if "seccomp" in (error.strerror or ""):
            raise
        raise _explain(error, program) from None


def home_of(uid: int) -> str:
    """The user's directory by the container's own ``/etc/passwd``, as login(1) would set it."""
    with suppress(OSError), open("/etc/passwd", errors="replace") as file:
        for line in file:
            fields = line.rstrip("\n").split(":")
            if len(fields) > 5 and fields[2] == str(uid):
                return fields[5] or "/"
    return "/"


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


def prepare(process: Process, filtered: "Filter | None" = None) -> str:
    """Become what ``process`` says and find its program; returns its path.

    Loading a filter needs CAP_SYS_ADMIN or a promise never to gain privileges:
    without the promise, a program with the set-user-id bit could be lied to.
    """
    if not process.args:
        raise InvalidParameter("no command specified")
    admin = filtered is not None and not process.no_new_privileges
    keep = capabilities.mask(["CAP_SYS_ADMIN"]) if admin else 0
    become_process(process, keep)
    with steps.step(
        "find the program", call="stat(2)", chapter="container", command=process.args[0]
    ):
        return find_program(process.args[0], path_of(process))
