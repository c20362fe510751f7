"""A profile: which system calls a container may make, and who may make more.

OCI's form of a filter is what the kernel shall do, nothing else. A *profile*
is one step before: it also says "mount only if the container has
CAP_SYS_ADMIN", "only on this architecture", "only on a kernel from 4.8 on".
This is Docker's form, the one that people have in their files; it is
resolved here, once it is known what the container may do.

The trap is a list of what is *forbidden*: the next kernel has a call that it
does not know. So a profile lists what is allowed.

**Interface:** :class:`Profile`, :func:`parse`, :func:`resolve`.

**See:** Docker's documentation, "Seccomp security profiles for Docker";
moby ``profiles/seccomp/seccomp.go`` for the form.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from minidock.errors import InvalidParameter
from minidock.seccomp import names
from minidock.spec.codec import decode
from minidock.spec.seccomp import Argument, Seccomp, Syscall


# %% Docker's form
@dataclass(frozen=True, slots=True)
class Condition:
    """Capabilities (of the bounding set), machines (as Go calls them), and a lowest kernel."""

    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that counts if all of ``includes`` holds and nothing of ``excludes``."""

    action: str
    names: tuple[str, ...] = ()
    name: str = ""
    errno_ret: int | None = None
    args: tuple[Argument, ...] = ()
    includes: Condition = field(default_factory=Condition)
    excludes: Condition = field(default_factory=Condition)


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture and those whose programs it can run, too."""

    architecture: str
    sub_architectures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """The whole file."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    arch_map: tuple[Family, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Rule, ...] = ()


# %% Reading one
def parse(document: Any) -> Profile:
    """The profile in ``document``, a JSON object. Raises :class:`InvalidParameter` in Docker's words."""
    if isinstance(document, dict) and not document.get("defaultAction"):
        raise InvalidParameter("Decoding seccomp profile failed: no 'defaultAction' specified")
    try:
        profile = decode(Profile, document)
    except InvalidParameter as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from None
    if profile.architectures and profile.arch_map:
        raise InvalidParameter(
            "both 'architectures' and 'archMap' are specified in the seccomp profile,"
            " use either 'architectures' or 'archMap'"
        )
    for rule in profile.syscalls:
        if rule.name and rule.names:
            raise InvalidParameter(
                "both 'name' and 'names' are specified in the seccomp profile,"
                " use either 'name' or 'names'"
            )
    return profile


# %% Resolving it
GO_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def resolve(
    profile: Profile, capabilities: Collection[str], machine: str = "", release: str = ""
) -> Seccomp:
    """OCI's filter for a container with the bounding set ``capabilities`` on this machine and kernel."""
    host = os.uname()
    machine, release = machine or host.machine, release or host.release
    rules = [
        Syscall(rule.names or (rule.name,), rule.action, rule.errno_ret, rule.args)
        for rule in profile.syscalls
        if _included(rule.includes, capabilities, machine, release)
        and not _excluded(rule.excludes, capabilities, machine, release)
    ]
    return Seccomp(
        profile.default_action,
        profile.default_errno_ret,
        _architectures(profile, machine),
        profile.flags,
        profile.listener_path,
        profile.listener_metadata,
        tuple(rules),
    )


def _architectures(profile: Profile, machine: str) -> tuple[str, ...]:
    own = names.native(machine)[0]
    for family in profile.arch_map:
        if family.architecture == own:
            return (own, *family.sub_architectures)
    return profile.architectures


def _included(wanted: Condition, has: Collection[str], machine: str, release: str) -> bool:
    return (
        all(name in has for name in wanted.caps)
        and (not wanted.arches or GO_MACHINES.get(machine, machine) in wanted.arches)
        and (not wanted.min_kernel or version(release) >= version(wanted.min_kernel))
    )


def _excluded(unwanted: Condition, has: Collection[str], machine: str, release: str) -> bool:
    return (
        any(name in has for name in unwanted.caps)
        or GO_MACHINES.get(machine, machine) in unwanted.arches
        or bool(unwanted.min_kernel and version(release) >= version(unwanted.min_kernel))
    )


def version(release: str) -> tuple[int, int]:
    """``6.1.0-18-amd64`` is (6, 1). Raises :class:`InvalidParameter`."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    if not (major.isdigit() and minor.isdigit()):
        raise InvalidParameter(f"invalid kernel version: {release!r} (want MAJOR.MINOR)")
    return int(major), int(minor)
