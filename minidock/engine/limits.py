"""Processors by number, and restart policies: two small languages.

**Interface:** :func:`check_set`, :func:`members`, :func:`check_restart_policy`.

**See:** moby ``container/hostconfig.go``.
"""

from pathlib import Path
from typing import Any

from minidock.errors import InvalidParameter

Body = dict[str, Any]


# %% Processors and memory nodes by number
def check_set(kind: str, asked: str) -> None:
    """``0-2,5``: which there are, the kernel says in the same way."""
    name, file = ("CPUs", "cpu/online") if kind == "cpus" else ("memory nodes", "node/online")
    try:
        wanted = members(asked)
    except ValueError:
        raise InvalidParameter(
            f"Invalid value {asked} for cpuset {kind}: invalid format: {asked}"
        ) from None
    path = Path("/sys/devices/system", file)
    there = path.read_text().strip() if path.exists() else "0"
    if not wanted <= members(there):
        raise InvalidParameter(
            f"Requested {name} are not available - requested {asked}, available: {there}"
        )


def members(text: str) -> set[int]:
    """The numbers of ``0-2,5``. Raises :class:`ValueError`."""
    found: set[int] = set()
    for word in filter(None, text.split(",")):
        first, dash, last = word.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return found


# %% Restart policies
def check_restart_policy(policy: Body) -> None:
    """Docker's rules and words."""
    name, count = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    if name not in ("no", "always", "on-failure", "unless-stopped"):
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always',"
            " 'on-failure', or 'unless-stopped'"
        )
    if count and name != "on-failure":
        raise InvalidParameter(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
