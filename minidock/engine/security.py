"""``--security-opt``: what else the container's processes may not do.

**Interface:** :func:`check`, :func:`system_call_filter`,
:func:`no_new_privileges`.

The trap is an option that is taken and then ignored: an AppArmor profile on
a host without AppArmor would be a lock without a door, so it is refused.
(Docker takes it silently.) SELinux labels are taken, as Docker does: they
name a policy of the host, and a host without SELinux has none.

**See:** docker run reference, "Security configuration"; moby
``daemon/daemon_unix.go``, ``parseSecurityOpt``.
"""

import json
from typing import Any

from minidock import capabilities
from minidock.errors import InvalidParameter, Unavailable
from minidock.spec.seccomp import Seccomp

Host = dict[str, Any]  # the API's HostConfig


# %% The options, taken apart
def _options(host: Host) -> list[tuple[str, str]]:
    """Name and value of each; a colon may stand for the equals sign, as of old."""
    pairs = []
    for option in host["SecurityOpt"] or []:
        name, equals, value = option.partition("=")
        if not equals:
            name, equals, value = option.partition(":")
        if not equals and option != "no-new-privileges":
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        pairs.append((name, value))
    return pairs


def check(host: Host) -> None:
    """Raise :class:`InvalidParameter` or :class:`Unavailable` for what cannot be honoured."""
    for name, value in _options(host):
        if name == "apparmor" and value != "unconfined":
            raise Unavailable(
                f"--security-opt apparmor={value}: this host has no AppArmor that MiniDock could use"
                " (only apparmor=unconfined)"
            )
        if name == "no-new-privileges" and value not in ("", "true", "false"):
            raise InvalidParameter(f'invalid --security-opt 2: "no-new-privileges={value}"')
        if name not in ("apparmor", "label", "seccomp", "no-new-privileges"):
            raise InvalidParameter(f'invalid --security-opt 2: "{name}={value}"')
    system_call_filter(host)


def no_new_privileges(host: Host) -> bool:
    """Whether no program may give its caller more than it has (set-user-id, file capabilities)."""
    values = [value for name, value in _options(host) if name == "no-new-privileges"]
    return bool(values) and values[-1] != "false"


# %% The filter for system calls
def system_call_filter(host: Host) -> Seccomp | None:
    """The default profile, the caller's own, or none: ``--privileged``, ``seccomp=unconfined``."""
    from minidock.seccomp.default import default_filter
    from minidock.seccomp.profile import parse, resolve

    values = [value for name, value in _options(host) if name == "seccomp"]
    wanted = values[-1] if values else "builtin"
    if wanted == "unconfined" or (host["Privileged"] and not values):
        return None
    names = capabilities.select(host["CapAdd"], host["CapDrop"], host["Privileged"])
    if wanted == "builtin":
        return default_filter(frozenset(names))
    try:
        document = json.loads(wanted)
    except ValueError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from None
    return resolve(parse(document), names)
