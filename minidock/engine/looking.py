"""Looking into a container from the host: its processes, and how much it has written.

**Interface:** :func:`top`, :func:`sizes`.

The traps. ps(1) shows the host's processes: which of them are the
container's, its cgroup knows. And one that does not run has no mounted root:
what it has written lies in its own layer's directory.

**See:** ps(1); Engine API, "List processes", "List containers" (size).
"""

import stat
import subprocess
from contextlib import suppress
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
    pids = cgroups.open(container.cgroup).everybody()
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


# %% How much it has written
def sizes(container: Container, images: Images, driver: Driver) -> Body:
    """``SizeRw`` and ``SizeRootFs``: what it wrote, and that with its image."""
    image = images.get(container.record["Image"])
    files: dict[tuple[int, int], int] = {}  # a file of several names counts once
    changes = driver.changes(image.chains, container.directory)
    with suppress(FileNotFoundError), driver.own_tree(container.directory) as root:
        for change in changes:
            with suppress(FileNotFoundError):  # deleted, at the latest just now
                status = (root / change.path.lstrip("/")).lstat()
                if change.kind != "D" and not stat.S_ISDIR(status.st_mode):
                    files[(status.st_dev, status.st_ino)] = status.st_size
    written = sum(files.values())
    return {"SizeRw": written, "SizeRootFs": written + image.size}
