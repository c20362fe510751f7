"""Looking into a container from the host: its processes, and what it has changed.

**Interface:** :func:`top`, :func:`changes`, :func:`sizes`.

The traps. ps(1) shows the host's processes: which of them are the
container's, its cgroup knows. And the engine itself puts files into a
container, which are no changes of the container's.

**See:** ps(1); Engine API, "List processes", "Get changes".
"""

import os
import subprocess
from typing import Any

from minidock import cgroups
from minidock.engine.container import Container
from minidock.errors import InvalidParameter
from minidock.images import Images
from minidock.unionfs import Driver

Body = dict[str, Any]


# %% Its processes
def top(container: Container, ps_args: str) -> Body:
    """Its processes, by ps(1) of the host."""
    container.must_run()
    pids = cgroups.open(f"/minidock/{container.id}").everybody()
    command = ["ps", *(ps_args or "-ef").split()]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise InvalidParameter(f"ps: {found.stderr.strip() or 'failed'}")
    head, *rows = found.stdout.splitlines()
    titles = head.split()
    if "PID" not in titles:
        raise InvalidParameter("Couldn't find PID field in ps output")
    column = titles.index("PID")
    split = [row.split(None, len(titles) - 1) for row in rows]
    ours = [row for row in split if int(row[column]) in pids]
    return {"Titles": titles, "Processes": ours}


# %% What it has changed
def changes(container: Container, images: Images, driver: Driver) -> list[Body]:
    """What it has changed in its file system; not what the engine put there for it."""
    image = images.get(container.record["Image"])
    found = driver.changes(images.ensure_layers(image), container.directory)
    kinds = {"C": 0, "A": 1, "D": 2}
    ours = {"/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/sbin/docker-init"}
    ours |= {mount["Target"] for mount in container.host_config["Mounts"]}
    changed = [one for one in found if one.path not in ours]
    needed = {one.path for one in changed if one.kind != "C"}
    return [
        {"Path": one.path, "Kind": kinds[one.kind]}
        for one in changed
        if one.kind != "C" or _is_file_or_parent(one.path, container, needed)
    ]


def _is_file_or_parent(path: str, container: Container, needed: set[str]) -> bool:
    """A changed directory counts when something in it is new or gone, not for a mount point in it."""
    if any(other.startswith(f"{path}/") for other in needed):
        return True
    return not os.path.isdir(f"{container.directory}/rootfs{path}") and path not in needed


def sizes(container: Container, images: Images, driver: Driver) -> Body:
    """``SizeRw`` and ``SizeRootFs``: what it wrote, and that with its image."""
    image = images.get(container.record["Image"])
    changed = [
        container.directory / "rootfs" / change.path.lstrip("/")
        for change in driver.changes(image.chains, container.directory)
        if change.kind != "D" and container.running
    ]
    written = sum(path.lstat().st_size for path in changed if path.is_symlink() or path.is_file())
    return {"SizeRw": written, "SizeRootFs": written + image.size}
