"""Updating: other limits for a container, while it runs.

A limit is a number in a file, so it can be written again at any time; the
program is not asked.

The trap is what is *not* said: a request names only what is to change, and
the rest must keep its value, on disk as in the kernel; and the checks are
about the whole.

**Interface:** :func:`update`.

**See:** Engine API, "Update a container"; moby ``daemon/update.go``.
"""

from typing import Any

from minidock import cgroups
from minidock.engine import limits, resources
from minidock.engine.container import Container
from minidock.engine.monitors import ask
from minidock.errors import Conflict, InvalidParameter
from minidock.paths import read_json, write_json
from minidock.spec.codec import encode

Body = dict[str, Any]

LIMITS = (
    "BlkioWeight CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpuShares CpusetCpus"
    " CpusetMems Memory MemoryReservation MemorySwap NanoCpus PidsLimit"
).split()


# %% Update
def update(container: Container, body: Body) -> None:
    """Change what ``body`` names. Raises :class:`InvalidParameter` in Docker's words."""
    with container.lock:
        if container.removing:
            raise Conflict(f"Container is marked for removal and cannot be updated: {container.id}")
        host = {**container.host_config, **_asked(body)}
        _check(container, host, body)
        if container.running and container.status != "restarting":
            _apply(container, host)
        container.record["HostConfig"] = host
        container.save()
        if body.get("RestartPolicy") and container.running:
            policy = host["RestartPolicy"]
            ask(
                container,
                {"request": "policy", "policy": [policy["Name"], policy["MaximumRetryCount"]]},
            )


def _asked(body: Body) -> Body:
    asked = {name: body[name] for name in LIMITS if body.get(name)}
    if asked.get("PidsLimit", 0) < 0:
        asked["PidsLimit"] = None
    policy = body.get("RestartPolicy") or {}
    if policy.get("Name"):
        asked["RestartPolicy"] = {
            "Name": policy["Name"],
            "MaximumRetryCount": policy.get("MaximumRetryCount") or 0,
        }
    return asked


def _check(container: Container, host: Body, body: Body) -> None:
    swap = host["MemorySwap"]
    if body.get("Memory") and not body.get("MemorySwap") and 0 < swap < host["Memory"]:
        raise InvalidParameter(
            "Memory limit should be smaller than already set memoryswap limit, update the"
            " memoryswap at the same time"
        )
    resources.check(host)
    limits.check_restart_policy(host["RestartPolicy"])
    if host["AutoRemove"] and host["RestartPolicy"]["Name"] != "no":
        raise InvalidParameter(
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        )


# %% In the kernel, and in the bundle
def _apply(container: Container, host: Body) -> None:
    """The bundle, too: a restart makes the cgroup anew, from what stands there."""
    wanted = resources.resources(host, ())
    cgroups.open(container.cgroup).apply(wanted)
    path = container.directory / "config.json"
    spec = read_json(path)
    devices = spec["linux"]["resources"].get("devices", [])
    spec["linux"]["resources"] = {**encode(wanted), "devices": devices}
    write_json(path, spec, durable=False)
