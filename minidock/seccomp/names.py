"""System calls by name: what number each has on each architecture.

The kernel's filter sees numbers, and every architecture numbers its calls
in its own way: ``openat`` is 257 on x86-64, 295 for a 32-bit program on the
same machine, 56 on arm64. The names are a convention of people; the most
complete list of them is libseccomp's, which every Debian has because apt
confines its own helpers with it. We ask it for the names, and only for
these: the compiler is ours.

The traps. The list is as old as the library, but calls since Linux 5.1 have
the same number everywhere, so a small table carries us on. And on 32-bit
x86 two old calls are many: ``socketcall(2)`` and ``ipc(2)`` take the number of
the real call as their first argument, so whoever forbids ``socket`` must
look there, too.

**Interface:** :class:`Architecture`, :data:`ARCHITECTURES`, :func:`numbers`,
:data:`MULTIPLEXED`, :func:`native`.

**See:** syscall(2), "Architecture calling conventions"; syscalls(2);
seccomp_syscall_resolve_name(3); docs/design/0010-seccomp.md.
"""

import ctypes
from dataclasses import dataclass
from functools import cache

from minidock.errors import InvalidParameter, Unavailable
from minidock.linux.syscalls import MACHINE


# %% Architectures
@dataclass(frozen=True, slots=True)
class Architecture:
    """One way to call the kernel.

    ``token`` is what the kernel says in ``seccomp_data.arch`` (AUDIT_ARCH_…,
    <linux/audit.h>), ``library`` how libseccomp names it (they differ for x32
    alone, which the kernel tells from x86-64 only by ``bit`` in the number);
    ``wide``: whether arguments have 64 bits.
    """

    name: str
    token: int
    wide: bool = True
    bit: int = 0
    library: int = 0


X32_BIT = 0x40000000

ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture("SCMP_ARCH_X86_64", 0xC000003E),
        Architecture("SCMP_ARCH_X86", 0x40000003, wide=False),
        Architecture("SCMP_ARCH_X32", 0xC000003E, wide=False, bit=X32_BIT, library=0x4000003E),
        Architecture("SCMP_ARCH_AARCH64", 0xC00000B7),
        Architecture("SCMP_ARCH_ARM", 0x40000028, wide=False),
        Architecture("SCMP_ARCH_RISCV64", 0xC00000F3),
    )
}

FAMILIES = {  # what programs a machine can run: its own first
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
}


def native(machine: str = "") -> tuple[str, ...]:
    """The architectures of this ``machine`` (as uname(2) calls it), its own first."""
    machine = machine or MACHINE
    if machine not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise Unavailable(f"seccomp: system calls of {machine} are not known (only {known})")
    return FAMILIES[machine]


def architecture(name: str) -> Architecture:
    """By OCI's name."""
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InvalidParameter(f"linux.seccomp: unknown architecture {name!r} (one of {known})")
    return ARCHITECTURES[name]


# %% What libseccomp knows
END_OF_NUMBERS = 600  # of calls that every architecture has; the kernel is at 470


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        raise Unavailable("seccomp needs libseccomp.so.2: apt-get install libseccomp2") from None
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    return library


@cache
def numbers(name: str) -> dict[str, int]:
    """All calls of the architecture ``name``: their numbers by their names."""
    one, library = architecture(name), _library()
    libc = ctypes.CDLL(None)
    token = ctypes.c_uint32(one.library or one.token)
    found = {call: number | one.bit for call, number in NEWER.items()}
    for base in (0, ARM_PRIVATE) if name == "SCMP_ARCH_ARM" else (0,):
        for number in range(base | one.bit, base + END_OF_NUMBERS | one.bit):
            text = library.seccomp_syscall_resolve_num_arch(token, number)
            if text:
                found[ctypes.string_at(text).decode()] = number
                libc.free(ctypes.c_void_p(text))
    return found


ARM_PRIVATE = 0x0F0000  # cacheflush, set_tls, …: arm's own, far away from the others

# %% What it does not know yet
NEWER = {
    name: 424 + place
    for place, name in enumerate(
        "pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount"
        " fsopen fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd"
        " faccessat2 process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset"
        " landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv"
        " set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait"
        " futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules"
        " mseal setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr"
        " file_setattr".split()
    )
}

# %% Two calls that are many
MULTIPLEXED = {
    "socketcall": {
        name: 1 + place
        for place, name in enumerate(
            "socket bind connect listen accept getsockname getpeername socketpair send recv sendto"
            " recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg"
            " sendmmsg".split()
        )
    },
    "ipc": {
        "semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4,
        "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
        "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
    },
}  # fmt: skip
"""socketcall(2) and ipc(2) of 32-bit x86: what their first argument means."""
