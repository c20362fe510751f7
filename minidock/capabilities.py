"""Capabilities: root's power, cut into pieces.

The kernel asks not "is this root?" but "has this thread CAP_NET_ADMIN?".
A thread has five sets of capabilities: *effective* is what is checked,
*permitted* what it may make effective, *inheritable* and *ambient* what
survives execve(2), and *bounding* the ceiling over all that come after.
A container's root is root with a low ceiling.

The traps. The bounding set can only shrink, and shrinking it needs
CAP_SETPCAP, so it goes first. Changing the user id away from 0 drops the
permitted set unless ``PR_SET_KEEPCAPS`` was asked for. And the host itself
may lack a capability: what it has not got it cannot grant.

**Interface:** :data:`DEFAULT`, :func:`select`, :func:`lower_the_ceiling`,
:func:`become`.

**See:** capabilities(7); OCI runtime specification, config.md, "Linux
Process"; moby ``oci/caps/defaults.go`` for the default set.
"""

import os
from collections.abc import Iterable
from functools import cache

from minidock import steps
from minidock.errors import InvalidParameter
from minidock.linux.syscalls import capget, capset, prctl
from minidock.spec.runtime import Capabilities, User

# %% Names, in the order of their numbers
NAMES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID"
    " CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST"
    " CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO"
    " CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE"
    " CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE"
    " CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM"
    " CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE"
).split()

NUMBERS = {name: number for number, name in enumerate(NAMES)}

DEFAULT = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID"
    " CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL"
    " CAP_AUDIT_WRITE"
).split()


def mask(names: Iterable[str]) -> int:
    """The set as the kernel writes it: bit ``n`` for the capability of number ``n``.

    A name the table does not know is left out, as the OCI specification asks
    (it may be of a newer kernel).
    """
    return sum(1 << NUMBERS[name] for name in set(names) if name in NUMBERS)


# %% What a container gets: the default set, more, or less
def select(add: Iterable[str], drop: Iterable[str], privileged: bool = False) -> list[str]:
    """The names after ``--cap-add`` and ``--cap-drop``; ``ALL`` and a missing ``CAP_`` are understood.

    ``drop ALL`` leaves just what was added; ``add ALL`` all but what was
    dropped. Raises :class:`InvalidParameter` for a name nobody knows.
    """
    added, dropped = [_full(name) for name in add], [_full(name) for name in drop]
    if privileged:  # then nothing is held back, as Docker has it
        return list(NAMES)
    if "ALL" in added:
        chosen = set(NAMES)
    elif "ALL" in dropped:
        chosen = set()
    else:
        chosen = set(DEFAULT)
    chosen -= set(dropped)
    chosen |= set(added) - {"ALL"}
    return [name for name in NAMES if name in chosen]


def _full(name: str) -> str:
    upper = name.upper()
    if upper == "ALL":
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NUMBERS:
        raise InvalidParameter(f'invalid capability: unknown capability: "{full}"')
    return full


# %% The kernel's own ceiling
@cache
def host_bounding_set() -> int:
    """What this process may grant at all, from ``CapBnd`` in ``/proc/self/status``."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    return 0


# %% Lowering the ceiling
PR_SET_KEEPCAPS, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_CAP_AMBIENT = 8, 23, 24, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4


def bounding_set() -> int:
    """The calling thread's ceiling, as it is now: in a new user namespace it is the whole sky."""
    found = 0
    for number in range(len(NAMES)):
        try:
            found |= prctl(PR_CAPBSET_READ, number, name="PR_CAPBSET_READ") << number
        except OSError:  # EINVAL: a kernel that knows fewer
            break
    return found


def lower_the_ceiling(capabilities: Capabilities) -> None:
    """Drop from the bounding set what the container must never have, whatever it executes."""
    wanted, now = mask(capabilities.bounding), bounding_set()
    with steps.step(
        "lower the capability ceiling",
        call="prctl(2) PR_CAPBSET_DROP",
        chapter="namespaces",
    ):
        for number in range(now.bit_length()):
            if now >> number & 1 and not wanted >> number & 1:
                prctl(PR_CAPBSET_DROP, number, name=f"PR_CAPBSET_DROP {number}")


# %% Becoming the user
def become(user: User, capabilities: Capabilities | None, keep: int = 0) -> None:
    """Change to the ids of ``user`` and the other four capability sets, in the only order that works.

    The groups while we may still choose them; the user id while the sets are
    kept; the sets themselves; then the ambient set, which must lie within
    both permitted and inheritable. ``keep``: a mask of what we still need to
    do ourselves; execve(2), which computes the sets anew from the bounding, the
    inheritable and the ambient one, takes it away.
    """
    with steps.step(
        "become the user",
        call="setgid(2) setuid(2) capset(2)",
        chapter="namespaces",
        uid=user.uid,
    ):
        if _may_set_groups():
            os.setgroups(list(user.additional_gids))
        if capabilities is not None:
            prctl(PR_SET_KEEPCAPS, 1, name="PR_SET_KEEPCAPS")
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        if capabilities is not None:
            _set(capabilities, keep)


def _set(capabilities: Capabilities, keep: int) -> None:
    """What we do not hold we cannot keep."""
    held = capget()
    keep &= held
    permitted = mask(capabilities.permitted) & held
    inheritable = mask(capabilities.inheritable) & held
    capset(mask(capabilities.effective) & permitted | keep, permitted | keep, inheritable)
    prctl(PR_SET_KEEPCAPS, 0, name="PR_SET_KEEPCAPS")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, name="PR_CAP_AMBIENT_CLEAR_ALL")
    ambient = mask(capabilities.ambient) & permitted & inheritable
    for number in range(ambient.bit_length()):
        if ambient >> number & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, name=f"ambient {number}")


def _may_set_groups() -> bool:
    try:
        with open("/proc/self/setgroups") as file:
            return file.read().strip() != "deny"
    except FileNotFoundError:
        return True
