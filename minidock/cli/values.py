"""Values of ``run``'s flags: from the text after a flag to what the API wants.

Each function takes the text and raises :class:`ValueError` in Docker's words
when it makes no sense; the parser puts "invalid argument … for … flag"
before it.

**Interface:** one function for each kind of value.

**See:** docker/cli ``opts/``; go-units ``ulimit.go``.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import Any


# %% Names and addresses
def stream(text: str) -> str:
    """After ``-a``."""
    name = text.lower()
    if name not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return name


def is_address(text: str) -> bool:
    """Whether it is an IP address, of either version."""
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return True
        except OSError:
            continue
    return False


def address(text: str) -> str:
    """After ``--dns``."""
    if not is_address(text.strip()):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def extra_host(text: str) -> str:
    """``NAME:ADDRESS`` or ``NAME=ADDRESS``."""
    cut = min((at for at in (text.find("="), text.find(":")) if at >= 0), default=0)
    name, where = text[:cut], text[cut + 1 :]
    if not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    where = where.removeprefix("[").removesuffix("]")
    if where != "host-gateway" and not is_address(where):
        raise ValueError(f'invalid IP address in add-host: "{where}"')
    return f"{name}:{where}"


def domain(text: str) -> str:
    """After ``--dns-search``; ``.`` means none."""
    import re

    bare = text.strip()
    label = r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
    if bare != "." and not re.fullmatch(rf"({label}\.)*{label}\.?", bare):
        raise ValueError(f"{text} is not a valid domain")
    return bare


def link(text: str) -> str:
    """``NAME[:ALIAS]``."""
    alias = text.partition(":")[2]
    if not text:
        raise ValueError("empty string specified for links")
    if ":" in alias:
        raise ValueError(f"bad format for links: {text}")
    return text


# %% Variables and labels
def variable(text: str) -> str:
    """``NAME`` takes its value from our own environment, if it has one there."""
    if not text or text.startswith("="):
        raise ValueError(f"invalid environment variable: {text}")
    return text if "=" in text or text not in os.environ else f"{text}={os.environ[text]}"


def label(text: str) -> str:
    """``NAME[=VALUE]``."""
    if not text.partition("=")[0]:
        raise ValueError(f"invalid label '{text}': empty name")
    return text


SYSCTLS = (
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax"
    " kernel.shmmni kernel.shm_rmid_forced"
).split()


def sysctl(text: str) -> str:
    """``NAME=VALUE`` of a setting that belongs to a namespace."""
    name, equals, _ = text.partition("=")
    if not equals or not (name in SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return text


def security_option(text: str) -> str:
    """``seccomp=FILE`` becomes the file's content; the daemon may not be able to read it."""
    name, equals, value = text.partition("=")
    if not equals and name != "no-new-privileges":
        name, colon, value = text.partition(":")
        if not colon:
            raise ValueError(f'Invalid --security-opt: "{text}"')
    if name != "seccomp" or value in ("unconfined", "builtin"):
        return text
    import json

    try:
        with open(value) as file:
            return f"seccomp={json.dumps(json.load(file), separators=(',', ':'))}"
    except OSError as error:
        why = f"open {value}: {(error.strerror or '').lower()}"
        raise ValueError(f"opening seccomp profile ({value}) failed: {why}") from None
    except ValueError as error:
        why = f"compacting json for seccomp profile ({value}) failed: {error}"
        raise ValueError(why) from None


# %% Limits
ULIMITS = (
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime"
    " sigpending stack"
).split()


def ulimit(text: str) -> dict[str, Any]:
    """``NAME=SOFT[:HARD]``; -1 is no limit."""
    from minidock.cli.flags import integer

    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    words = limits.split(":")
    if len(words) > 2:
        raise ValueError(
            f"too many limit values - {limits}, can only have up to two, `soft[:hard]`"
        )
    soft, hard = integer(words[0]), integer(words[-1])
    if hard != -1 and (soft == -1 or soft > hard):
        why = f"soft: -1 (unlimited), hard: {hard}" if soft == -1 else f"{soft} > {hard}"
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {why}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def device_rule(text: str) -> str:
    """``c 1:3 rwm``."""
    import re

    if not re.fullmatch(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}", text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def _of_device(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def weight_of_device(text: str) -> dict[str, Any]:
    """``PATH:WEIGHT``."""
    path, value = _of_device(text)
    if not value.isdigit() or not (value == "0" or 10 <= int(value) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(value)}


def bytes_of_device(text: str) -> dict[str, Any]:
    """``PATH:SIZE`` (per second)."""
    from minidock.cli.flags import size

    path, value = _of_device(text)
    try:
        return {"Path": path, "Rate": size(value)}
    except ValueError:
        shape = "<device-path>:<number>[<unit>]"
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is {shape}."
            " Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def operations_of_device(text: str) -> dict[str, Any]:
    """``PATH:NUMBER`` (per second)."""
    path, value = _of_device(text)
    if not value.isdigit():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>."
            " Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(value)}


def gpus(text: str) -> list[dict[str, Any]]:
    """``all`` or how many; MiniDock has none to give, and its daemon says so."""
    count = -1 if text == "all" else int(text) if text.isdigit() else None
    if count is None:
        raise ValueError(
            f'invalid count ({text}): value must be either "all" or an integer: invalid syntax'
        )
    kinds = [["gpu"]]
    return [{"Driver": "", "Count": count, "DeviceIDs": None, "Capabilities": kinds, "Options": {}}]


# %% Devices
def device(text: str) -> dict[str, str]:
    """``SOURCE[:TARGET][:rwm]``."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not mode and target and set(target) <= set("rwm"):
        target, mode = "", target
    if not source:
        raise ValueError(f"bad format for path: {text}")
    for path in (source, target or source):
        if not path.startswith("/"):
            raise ValueError(f"{path} is not an absolute path")
    if mode and not set(mode) <= set("rwm"):
        raise ValueError(f"bad mode specified: {mode}")
    return {
        "PathOnHost": source,
        "PathInContainer": target or source,
        "CgroupPermissions": mode or "rwm",
    }


# %% Restarts
def restart_policy(text: str) -> dict[str, Any]:
    """``no``, ``always``, ``unless-stopped`` or ``on-failure[:TIMES]``; the daemon knows which there are."""
    name, colon, count = text.partition(":")
    bad = "invalid restart policy format"
    if colon and not name:
        raise ValueError(f"{bad}: no policy provided before colon")
    if ":" in count:
        raise ValueError(f"{bad}: maximum retry count must be an integer")
    try:
        return {"Name": name, "MaximumRetryCount": int(count) if colon else 0}
    except ValueError:
        raise ValueError(f"{bad}: maximum retry count must be an integer") from None
