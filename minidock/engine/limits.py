"""Restart policies: how often to try again.

**Interface:** :func:`check_restart_policy`.

**See:** moby ``container/hostconfig.go``.
"""

from typing import Any

from minidock.errors import InvalidParameter

Body = dict[str, Any]


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
