"""Seccomp: which of the kernel's doors a program may knock at.

A process can give the kernel a small program that looks at each of its
system calls and says what to do: let it pass, refuse it with an error, kill
the caller, ask somebody. It is inherited by all children, survives
execve(2), and can only be made stricter, never be taken off.

The traps. A filter counts at once, for the one who loads it too, so it is
loaded last of all, and nothing may come between it and the program. Loading
one takes either CAP_SYS_ADMIN or the promise of ``no_new_privs``; the
container is to have neither, so the first is kept until that moment and
execve(2) takes it away. And whoever is asked about calls (the *listener*) gets
the descriptor for it only after the filter counts: sending it must not be
one of the calls that are asked about.

**Interface:** :func:`prepare`, :class:`Filter`, :func:`forward`,
:func:`warm`; :mod:`.compiler`, :mod:`.profile`, :mod:`.default`.

**See:** seccomp(2), seccomp_unotify(2); OCI runtime specification,
config-linux.md, "Seccomp" and "The Container Process State".
"""

import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minidock import steps
from minidock.errors import InvalidParameter, Unavailable
from minidock.seccomp.compiler import compile_filter
from minidock.spec.seccomp import Seccomp

# %% A filter that is ready to be loaded
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
TSYNC, NEW_LISTENER, TSYNC_ESRCH = 1, 8, 16


@dataclass(frozen=True, slots=True)
class Filter:
    """The program, the flags for seccomp(2), and what to do with the listener's descriptor."""

    code: bytes
    flags: int
    announce: Callable[[int], object] | None = None


Send = Callable[[dict[str, Any], Sequence[int]], object]  # to the parent, with descriptors


def prepare(profile: Seccomp | None, send: Send, state: dict[str, Any]) -> Filter | None:
    """The filter for ``profile``; ``None`` if there is nothing to filter.

    ``state`` is the container's, which a listener is told. Raises :class:`InvalidParameter` for what makes no sense.
    """
    if profile is None:
        return None
    with steps.step(
        "prepare the system call filter",
        call="seccomp(2)",
        chapter="seccomp",
        default=profile.default_action,
    ):
        flags = _flags(profile.flags or ())
        if not _asks_somebody(profile):
            return Filter(compiled(profile), flags)
        about = {
            "path": profile.listener_path,
            "metadata": profile.listener_metadata,
            "state": state,
        }
        flags |= NEW_LISTENER | (TSYNC_ESRCH if flags & TSYNC else 0)
        return Filter(
            compiled(profile), flags, lambda listener: send({"seccomp": about}, [listener])
        )


def _flags(names: Sequence[str]) -> int:
    for name in names:
        if name not in FLAGS:
            raise InvalidParameter(
                f"linux.seccomp.flags: unknown flag {name!r} (one of {', '.join(FLAGS)})"
            )
    return sum(FLAGS[name] for name in set(names))


# %% Compiled once
@lru_cache(maxsize=16)
def compiled(profile: Seccomp) -> bytes:
    """The program for ``profile``; a process that forks hands its children what it has compiled."""
    return compile_filter(profile)


def warm(capabilities: Sequence[str]) -> None:
    """Compile the default profile now, so that no container has to wait for it."""
    from minidock.seccomp.default import default_filter

    try:
        compiled(default_filter(frozenset(capabilities)))
    except Unavailable:
        return  # whoever wants it will be told


# %% The listener
def _asks_somebody(profile: Seccomp) -> bool:
    asking = [rule for rule in profile.syscalls if rule.action == "SCMP_ACT_NOTIFY"]
    if profile.default_action == "SCMP_ACT_NOTIFY":
        raise InvalidParameter("linux.seccomp: SCMP_ACT_NOTIFY cannot be the default action")
    if not asking:
        return False
    if any("sendmsg" in rule.names for rule in asking):
        raise InvalidParameter(
            "linux.seccomp: SCMP_ACT_NOTIFY cannot be used for sendmsg, by which we tell the listener"
        )
    if not profile.listener_path.startswith("/"):
        raise InvalidParameter(
            "linux.seccomp.listenerPath: an absolute path is required for SCMP_ACT_NOTIFY,"
            f" not {profile.listener_path!r}"
        )
    return True


def forward(about: dict[str, Any], listener: int, pid: int) -> None:
    """Send the descriptor to the agent at ``listenerPath``, with OCI's container process state.

    ``about`` is what :func:`prepare` had sent, ``pid`` the process that the
    filter is for, as the host numbers it. ``listener`` is closed.
    """
    message = {
        "ociVersion": "1.2.0",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": about["metadata"],
        "state": {**about["state"], "pid": about["state"].get("pid") or pid},
    }
    try:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.connect(about["path"])
            socket.send_fds(agent, [json.dumps(message).encode()], [listener])
    except OSError as error:
        raise Unavailable(
            f"failed to connect with seccomp agent specified in the seccomp profile: {about['path']}:"
            f" {error.strerror}"
        ) from None
    finally:
        os.close(listener)
