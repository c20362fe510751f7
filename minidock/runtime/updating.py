"""New limits for a container that runs.

What is asked for is laid over what the container was created with, written
to its cgroup, and kept, so that the next update begins from there.

The traps. Zero means "as it was", not "nothing" (see :func:`without_zeros`). A quota makes sense only
with its period, so whoever gives one gets the other one as it was. And no
limit of memory goes with no limit of memory and swap together.

**Interface:** :func:`update`.

**See:** runc-update(8).
"""

import json
import os
from typing import Any

from minidock import cgroups
from minidock.errors import Conflict
from minidock.runtime.bundle import without_zeros
from minidock.runtime.store import CONFIG, Entry, Status
from minidock.spec.codec import decode
from minidock.spec.runtime import Resources

Document = dict[str, Any]


# %% Updating
def update(entry: Entry, wanted: Document) -> None:
    """Apply ``wanted``, of the form of ``linux.resources``, to the container."""
    if entry.status() == Status.STOPPED:
        raise Conflict("container not running")
    asked = without_zeros(wanted)
    config = entry.config()
    kept = config.setdefault("linux", {}).setdefault("resources", {})
    _complete(asked, kept)
    asked.pop("devices", None)  # no update opens a door
    resources = decode(Resources, asked, "resources")
    if entry.state.get("unit"):
        from minidock.cgroups import systemd

        systemd.update(entry.state["unit"], resources)
    cgroups.open(entry.cgroup).apply(resources)
    for name, value in asked.items():
        kept[name] = {**kept.get(name, {}), **value} if isinstance(value, dict) else value
    temporary = entry.path(f".{CONFIG}")
    with open(temporary, "w") as file:
        json.dump(config, file)
    os.replace(temporary, entry.path(CONFIG))


def _complete(asked: Document, kept: Document) -> None:
    """The other halves of what was asked for."""
    cpu, before = asked.get("cpu", {}), kept.get("cpu", {})
    for one, other in (("quota", "period"), ("period", "quota")):
        if one in cpu and other not in cpu and before.get(other):
            cpu[other] = before[other]
    memory = asked.get("memory", {})
    if memory.get("limit") == -1 and "swap" not in memory:
        memory["swap"] = -1
