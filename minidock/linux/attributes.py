"""Attributes of a process that are set by calls of their own.

How it shares processors (sched_setattr), whose disk requests come first
(ioprio_set), what system it believes to be on (personality), and which keys
it holds (keyctl): each has one call that the C library does not wrap.

The trap: all of them are inherited through ``execve(2)``, which is why a
runtime can set them before the program, and why it must.

**Interface:** :func:`set_scheduler`, :func:`set_io_priority`,
:func:`set_personality`, :func:`join_session_keyring`.

**See:** sched_setattr(2), ioprio_set(2), personality(2), keyctl(2).
"""

import ctypes

from minidock.linux.syscalls import raw

SCHED_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}

SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}


# %% Processor time
class _SchedulerAttributes(ctypes.Structure):
    _fields_ = [  # noqa: RUF012
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    ]


def set_scheduler(
    policy: int, flags: int, nice: int, priority: int, deadline: tuple[int, int, int]
) -> None:
    """sched_setattr(2) for the calling thread; ``deadline`` is runtime, deadline, period in ns."""
    given = _SchedulerAttributes(48, policy, flags, nice, priority, *deadline)
    call = "sched_setattr(2)"
    raw("sched_setattr", ctypes.c_int(0), ctypes.byref(given), ctypes.c_uint(0), call=call)


# %% Disk, domain, keys
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IOPRIO_WHO_PROCESS = 1

PERSONALITIES = {"LINUX": 0x0, "LINUX32": 0x8}

KEYCTL_JOIN_SESSION_KEYRING = 1


def set_io_priority(io_class: int, priority: int) -> None:
    """ioprio_set(2) for the calling process."""
    value = ctypes.c_int(io_class << 13 | priority)
    call = "ioprio_set(2)"
    raw("ioprio_set", ctypes.c_int(IOPRIO_WHO_PROCESS), ctypes.c_int(0), value, call=call)


def set_personality(domain: int) -> None:
    """personality(2): ``uname -m`` says i686 in the domain LINUX32."""
    raw("personality", ctypes.c_ulong(domain), call="personality(2)")


def join_session_keyring(name: str) -> None:
    """A keyring of our own: what is in the caller's stays the caller's."""
    operation = ctypes.c_int(KEYCTL_JOIN_SESSION_KEYRING)
    call = "keyctl(2) KEYCTL_JOIN_SESSION_KEYRING"
    raw("keyctl", operation, name.encode(), call=call)
