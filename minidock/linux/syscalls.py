"""System calls that Python does not have.

The C library has a wrapper for most of them, which ctypes can call; for the
others (``clone`` used like ``fork``, ``pivot_root``, ``openat2``) there is
``syscall(2)`` with a number that depends on the machine.

The trap is ``errno``: it is a variable of the thread, and anything that runs
between the call and the look at it may change it. ``use_errno=True`` makes
ctypes save it at once. The second trap is the interpreter lock: it is given
up during a call through ``CDLL`` (other threads go on while we mount), but
must be held during ``clone``, whose child has only the calling thread.

**Interface:** one function per call, named like it; each raises
:class:`OSError` naming the call and its arguments.

**See:** syscalls(2), and the man page of each call.
"""

import ctypes
import errno as errno_module
import os
import signal
from collections.abc import Callable, Sequence
from enum import IntFlag
from typing import NoReturn

_libc = ctypes.CDLL(None, use_errno=True)
_libc_holding_the_lock = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc_holding_the_lock.syscall.restype = ctypes.c_long


# %% Errors that name the call
def _check(result: int, call: str) -> int:
    """``result``, or an :class:`OSError` that names ``call`` when it is -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


# %% Numbers that depend on the machine
_NUMBERS = {
    "x86_64": {
        "personality": 135,
        "pivot_root": 155,
        "keyctl": 250,
        "ioprio_set": 251,
        "sched_setattr": 314,
        "seccomp": 317,
        "bpf": 321,
    },
    "aarch64": {
        "personality": 92,
        "pivot_root": 41,
        "keyctl": 219,
        "ioprio_set": 30,
        "sched_setattr": 274,
        "seccomp": 277,
        "bpf": 280,
    },
}
_COMMON = {  # calls newer than 2019 have the same number everywhere
    "open_tree": 428,
    "move_mount": 429,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}


MACHINE = os.uname().machine  # once: a personality that is set later changes the kernel's answer


def _number(name: str) -> int:
    machine = MACHINE
    numbers = _NUMBERS.get(machine)
    if numbers is None:
        raise OSError(
            errno_module.ENOSYS,
            f"{name}: system call numbers of {machine} are not known",
        )
    return numbers.get(name) or _COMMON[name]


def raw(name: str, *arguments: object, call: str = "") -> int:
    """``syscall(2)``: call the kernel by number; ``call`` is what an error names."""
    return _check(_libc.syscall(ctypes.c_long(_number(name)), *arguments), call or f"{name}(2)")


# %% Namespaces: clone, unshare, setns
class Clone(IntFlag):
    """Flags of clone(2), unshare(2) and setns(2): one bit per kind of namespace."""

    NEWTIME = 0x00000080
    NEWNS = 0x00020000
    NEWCGROUP = 0x02000000
    NEWUTS = 0x04000000
    NEWIPC = 0x08000000
    NEWUSER = 0x10000000
    NEWPID = 0x20000000
    NEWNET = 0x40000000
    PARENT = 0x00008000
    FS = 0x00000200


class _CloneArguments(ctypes.Structure):
    _fields_ = [  # noqa: RUF012
        (name, ctypes.c_uint64)
        for name in "flags pidfd child_tid parent_tid exit_signal stack stack_size tls".split()
        + ["set_tid", "set_tid_size", "cgroup"]
    ]


CLONE_INTO_CGROUP = 0x200000000


def clone(flags: int = 0, cgroup: int | None = None) -> int:
    """fork(2) with namespaces: returns the child's pid to the parent, and 0 to the child.

    ``cgroup`` is an open directory of the version 2 tree for it to be born in.
    Only for a process with a single thread. Python must be told before and
    after, or the child would believe that it still has its parent's threads.
    """
    # The signal at its end goes to the caller; to the caller's parent goes the caller's own.
    number = 0 if flags & Clone.PARENT else signal.SIGCHLD
    wanted = _CloneArguments(flags=int(flags), exit_signal=number)
    if cgroup is not None:
        wanted.flags |= CLONE_INTO_CGROUP
        wanted.cgroup = cgroup
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _libc_holding_the_lock.syscall(
        ctypes.c_long(_number("clone3")),
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )
    number = ctypes.get_errno()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid == -1:
        raise OSError(number, f"clone3(2) {Clone(flags)!r}: {os.strerror(number)}")
    return int(pid)


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces of the kinds in ``flags``."""
    _check(_libc.unshare(ctypes.c_int(int(flags))), f"unshare(2) {Clone(flags)!r}")


def setns(fd: int, flags: int = 0) -> None:
    """Move the calling thread into the namespace(s) that ``fd`` (a namespace or a pidfd) names."""
    _check(
        _libc.setns(ctypes.c_int(fd), ctypes.c_int(int(flags))),
        f"setns(2) {Clone(flags)!r}",
    )


# %% Mounts
class Mount(IntFlag):
    """Flags of mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    MANDLOCK = 64
    DIRSYNC = 128
    NOSYMFOLLOW = 256
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    MOVE = 8192
    REC = 16384
    SILENT = 32768
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    I_VERSION = 1 << 23
    STRICTATIME = 1 << 24
    LAZYTIME = 1 << 25


class Umount(IntFlag):
    """Flags of umount2(2)."""

    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


StrPath = str | os.PathLike[str]


def mount(
    source: StrPath, target: StrPath, fstype: str = "", flags: int = 0, data: str = ""
) -> None:
    """Attach the file system of ``fstype`` (or, with ``Mount.BIND``, a directory) at ``target``."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() if fstype else None,
        ctypes.c_ulong(int(flags)),
        data.encode() if data else None,
    )
    if result == -1:
        number = ctypes.get_errno()
        what = " ".join(
            filter(None, [fstype, str(os.fspath(source)), "on", str(os.fspath(target))])
        )
        options = f" ({Mount(flags)!r} {data})" if flags or data else ""
        raise OSError(number, f"mount(2) {what}{options}: {os.strerror(number)}")


def umount(target: StrPath, flags: int = 0) -> None:
    """Detach what is mounted at ``target``; ``Umount.DETACH`` does it even while it is in use."""
    _check(
        _libc.umount2(os.fsencode(target), ctypes.c_int(int(flags))),
        f"umount2(2) {os.fspath(target)}",
    )


def filesystem_type(fd: int) -> int:
    """The magic number of the file system on which the open file ``fd`` lies; see statfs(2)."""
    buffer = (ctypes.c_long * 32)()
    _check(_libc.fstatfs(ctypes.c_int(fd), buffer), "fstatfs(2)")
    return int(buffer[0])


def pivot_root(new_root: StrPath, put_old: StrPath) -> None:
    """Make ``new_root`` the root of the mount namespace; the old root appears at ``put_old``."""
    raw(
        "pivot_root",
        os.fsencode(new_root),
        os.fsencode(put_old),
        call=f"pivot_root(2) {os.fspath(new_root)} {os.fspath(put_old)}",
    )


# %% Identity: host name, capabilities, process attributes
def sethostname(name: str) -> None:
    """Set the host name of the UTS namespace (at most 64 bytes)."""
    data = name.encode()
    _check(_libc.sethostname(data, ctypes.c_size_t(len(data))), f"sethostname(2) {name}")


def setdomainname(name: str) -> None:
    """Set the NIS domain name of the UTS namespace (at most 64 bytes)."""
    data = name.encode()
    _check(
        _libc.setdomainname(data, ctypes.c_size_t(len(data))),
        f"setdomainname(2) {name}",
    )


def prctl(option: int, *arguments: int, name: str = "") -> int:
    """prctl(2): an attribute of the calling process; ``name`` is what an error calls it."""
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)][:4]
    return _check(_libc.prctl(ctypes.c_int(option), *padded), f"prctl(2) {name or option}")


def set_process_name(name: str) -> None:
    """What ``ps -o comm`` shows for this process (15 bytes at most)."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(15, ctypes.addressof(buffer), name="PR_SET_NAME")


def set_process_title(title: str) -> None:
    """What ``ps -o args`` shows: the bytes that lie where the kernel put our arguments.

    The kernel reads them there whenever somebody looks, so writing over them
    is enough; the room is what the original arguments took (proc(5),
    ``/proc/pid/stat`` fields 48 and 49).
    """
    with open("/proc/self/stat") as file:
        after_name = file.read().rpartition(")")[2].split()
    start, end = int(after_name[45]), int(after_name[46])
    room = end - start
    ctypes.memmove(start, title.encode()[: room - 1].ljust(room, b"\0"), room)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]  # noqa: RUF012


class _CapabilityData(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]  # noqa: RUF012


_CAPABILITY_VERSION_3 = 0x20080522


def capget() -> int:
    """The calling thread's permitted set, a mask of 64 bits."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    halves = (_CapabilityData * 2)()
    _check(_libc.capget(ctypes.byref(header), halves), "capget(2)")
    return int(halves[0].permitted) | int(halves[1].permitted) << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set three of the calling thread's capability sets, each a mask of 64 bits."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    halves = (_CapabilityData * 2)(
        *(
            _CapabilityData(
                *((mask >> shift) & 0xFFFFFFFF for mask in (effective, permitted, inheritable))
            )
            for shift in (0, 32)
        )
    )
    _check(_libc.capset(ctypes.byref(header), halves), "capset(2)")


# %% A filter for system calls, and the last call before it counts
SECCOMP_SET_MODE_FILTER = 1


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]  # noqa: RUF012


def execute_filtered(
    program: str,
    arguments: Sequence[str],
    environment: Sequence[str],
    code: bytes,
    flags: int,
    announce: Callable[[int], object] | None = None,
) -> NoReturn:
    """seccomp(2) and then, with no other call of ours in between, execve(2).

    A filter counts from the next call on, for us, too, and a narrow one would
    end our interpreter before the program begins. So everything is laid out
    beforehand, and the lock is not even given up, as taking it again may call
    futex(2). ``announce`` is told the descriptor of the listener, if the flags
    asked for one. Raises the :class:`OSError` of either call.
    """
    what = f"seccomp(2) a filter of {len(code) // 8} instructions"
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_program = _FilterProgram(len(code) // 8, ctypes.addressof(buffer))
    load = (
        ctypes.c_long(_number("seccomp")),
        ctypes.c_uint(SECCOMP_SET_MODE_FILTER),
        ctypes.c_uint(flags),
        ctypes.byref(filter_program),
    )
    run = (os.fsencode(program), _strings(arguments), _strings(environment))
    syscall, execve = _libc_holding_the_lock.syscall, _libc_holding_the_lock.execve
    listener = syscall(*load)
    if listener == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    if announce is not None:
        announce(listener)
    execve(*run)
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def _strings(values: Sequence[str]) -> "ctypes.Array[ctypes.c_char_p]":
    return (ctypes.c_char_p * (len(values) + 1))(*(os.fsencode(one) for one in values), None)


# %% Watching a file grow
IN_MODIFY, IN_CLOSE_WRITE, IN_NONBLOCK = 0x2, 0x8, os.O_NONBLOCK


def watch_file(path: StrPath) -> int:
    """An inotify(7) descriptor that becomes readable whenever ``path`` is written to."""
    fd = _check(
        _libc.inotify_init1(ctypes.c_int(os.O_CLOEXEC | IN_NONBLOCK)),
        "inotify_init1(2)",
    )
    try:
        mask = ctypes.c_uint32(IN_MODIFY | IN_CLOSE_WRITE)
        _check(
            _libc.inotify_add_watch(ctypes.c_int(fd), os.fsencode(path), mask),
            f"inotify_add_watch(2) {os.fspath(path)}",
        )
    except OSError:
        os.close(fd)
        raise
    return fd


# %% Opening a path without being led astray
class Resolve(IntFlag):
    """How openat2(2) may walk a path."""

    NO_XDEV = 1
    NO_MAGICLINKS = 2
    NO_SYMLINKS = 4
    BENEATH = 8
    IN_ROOT = 16


class _OpenHow(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]  # noqa: RUF012


def openat2(directory: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open ``path`` below the open ``directory``; the kernel enforces ``resolve`` at every step.

    Checking a path first and opening it then is a race (a link can be
    swapped in between); here the kernel checks while it walks.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, int(resolve))
    return raw(
        "openat2",
        ctypes.c_int(directory),
        os.fsencode(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
        call=f"openat2(2) {path} ({Resolve(resolve)!r})",
    )
