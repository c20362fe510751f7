"""The state of containers: one directory each, and a door.

A runtime has no daemon: ``create`` ends, and a later ``start`` is another
process. What they must tell each other stands in a directory of the
container's, ``<root>/<id>``: ``state.json`` says which process it is and
where its cgroup, ``config.json`` is the configuration as it was when the
container was created (what happens to the bundle's copy later must not
matter), and ``start.sock`` is the door on which the first process waits.

The trap is the truth. A file that says "running" is wrong as soon as the
process dies, and a pid in it may be somebody else's tomorrow. So the status
is not written down but looked up: the process is there if its pid *and* the
time of its birth are right; it waits to be started if it still answers at
the door, whose descriptor closes by itself at the execve; it is paused if
its cgroup is.

**Interface:** :class:`Store`, :class:`Entry`, :class:`Status`.

**See:** OCI runtime specification, runtime.md, "State"; proc_pid_stat(5);
runc ``libcontainer/state_linux.go``.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from minidock.errors import Conflict, InvalidParameter, NotFound
from minidock.runtime.sync import Channel

DEFAULT_ROOT = "/run/minidock-runtime"
STATE, CONFIG, DOOR = "state.json", "config.json", "start.sock"

ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class Status:
    """The words of the specification, and ``paused``, which the runtimes have added."""

    CREATING, CREATED, RUNNING = "creating", "created", "running"
    PAUSED, STOPPED = "paused", "stopped"


# %% One container
@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A container's directory and what ``state.json`` says."""

    directory: str
    state: dict[str, Any]

    @property
    def id(self) -> str:
        """Its name."""
        return str(self.state["id"])

    @property
    def pid(self) -> int:
        """Its first process; 0 while there is none yet."""
        return int(self.state["init_process_pid"])

    @property
    def cgroup(self) -> str:
        """The path of its cgroup."""
        return str(self.state["cgroup"])

    def path(self, name: str) -> str:
        """The file ``name`` in its directory."""
        return f"{self.directory}/{name}"

    def config(self) -> dict[str, Any]:
        """The configuration with which it was created."""
        with open(self.path(CONFIG), "rb") as file:
            return dict(json.load(file))

    # %% Is it alive, and what does it do?
    def alive(self) -> bool:
        """Whether the first process is there and is the one that we made; a zombie is not."""
        found = process_status(self.pid) if self.pid else None
        return found is not None and found[0] not in "ZX" and self._is_ours(found[1])

    def _is_ours(self, birth: int) -> bool:
        return bool(birth == self.state["init_process_start"])

    def status(self) -> str:
        """What it does now."""
        if not self.alive():
            return Status.STOPPED
        if self._is_frozen():
            return Status.PAUSED
        if self.state["status"] == Status.CREATING:
            return Status.CREATING
        return Status.CREATED if self.waits() else Status.RUNNING

    def _is_frozen(self) -> bool:
        from minidock import cgroups

        return cgroups.open(self.cgroup).frozen()

    def waits(self) -> bool:
        """Whether somebody listens at the door: the descriptor is gone once the program runs."""
        try:
            self.knock().close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def knock(self) -> Channel:
        """A connection to the first process, which waits to be started."""
        return Channel(_at_the_door(self.directory, "connect"))

    def listen(self) -> socket.socket:
        """Make the door; the first process inherits it."""
        door = _at_the_door(self.directory, "bind")
        door.listen(64)
        return door

    # %% As the specification shows it
    def public(self) -> dict[str, Any]:
        """What ``state`` prints; hooks get the same (:func:`for_hooks`)."""
        status = self.status()
        pid = 0 if status == Status.STOPPED else self.pid
        state = {
            "ociVersion": self.state["ociVersion"],
            "id": self.id,
            "pid": pid,
            "status": status,
            "bundle": self.state["bundle"],
            "rootfs": self.state["rootfs"],
            "created": self.state["created"],
        }
        if self.state["annotations"]:
            state["annotations"] = self.state["annotations"]
        return {**state, "owner": ""}

    def for_hooks(self, status: str, pid: int) -> dict[str, Any]:
        """The state without what only runc's command line adds."""
        state = {
            "ociVersion": self.state["ociVersion"],
            "id": self.id,
            "status": status,
            "pid": pid,
            "bundle": self.state["bundle"],
        }
        if self.state["annotations"]:
            state["annotations"] = self.state["annotations"]
        return state

    def write(self, **changes: Any) -> "Entry":
        """The entry with some values changed, on disk first."""
        changed = Entry(self.directory, {**self.state, **changes})
        temporary = self.path(f".{STATE}.{os.getpid()}")
        with open(temporary, "w") as file:
            json.dump(changed.state, file)
        os.rename(temporary, self.path(STATE))
        return changed


def _at_the_door(directory: str, act: str) -> socket.socket:
    """A socket's path must fit into 108 bytes, and ours may not: so go through /proc/self/fd."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        getattr(door, act)(f"/proc/self/fd/{fd}/{DOOR}")
    except BaseException:
        door.close()
        raise
    finally:
        os.close(fd)
    return door


def process_status(pid: int) -> tuple[str, int] | None:
    """One letter for what the process does (``Z`` zombie), and when it was born, in clock ticks."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])


# %% All containers
class Store:
    """The directory of directories."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def check_free(self, container_id: str) -> None:
        """Raise if the name makes no sense, or is taken."""
        check_id(container_id)
        if os.path.isdir(f"{self.root}/{container_id}"):
            raise Conflict(f"container with given ID already exists: {container_id}")

    def create(self, container_id: str, config: bytes, state: dict[str, Any]) -> Entry:
        """Make an entry; the directory is the lock: mkdir(2) succeeds for one caller only."""
        check_id(container_id)
        os.makedirs(self.root, 0o700, exist_ok=True)
        directory = f"{self.root}/{container_id}"
        try:
            os.mkdir(directory, 0o711)
        except FileExistsError:
            raise Conflict(f"container with given ID already exists: {container_id}") from None
        entry = Entry(directory, {"id": container_id, **state})
        with open(entry.path(CONFIG), "wb") as file:
            file.write(config)
        return entry.write()

    def find(self, container_id: str) -> Entry:
        """The entry of that name. Raises :class:`NotFound` in runc's words."""
        check_id(container_id)
        directory = f"{self.root}/{container_id}"
        try:
            with open(f"{directory}/{STATE}", "rb") as file:
                return Entry(directory, json.load(file))
        except FileNotFoundError:
            raise NotFound("container does not exist") from None
        except ValueError as error:
            raise InvalidParameter(f"{directory}/{STATE} is damaged: {error}") from None

    def __iter__(self) -> Iterator[Entry]:
        """All entries; what is half made or half removed is left out."""
        for name in sorted(os.listdir(self.root)) if os.path.isdir(self.root) else ():
            try:
                yield self.find(name)
            except (NotFound, InvalidParameter):
                continue

    def remove(self, container_id: str) -> None:
        """Forget it; what is left of a creation that was killed goes, too."""
        with suppress(FileNotFoundError):
            _clear(f"{self.root}/{container_id}")


def _clear(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            _clear(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(directory)


def check_id(container_id: str) -> None:
    """A name becomes a directory and a cgroup, so not every letter will do."""
    if not container_id:
        raise InvalidParameter("container id cannot be empty")
    if not set(container_id) <= ALLOWED or container_id in (".", "..") or len(container_id) > 1024:
        raise InvalidParameter(f"invalid container ID format: {container_id}")
