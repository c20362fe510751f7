"""The engine: containers, images and networks, as Docker's API knows them.

This is the face that the API server sees: one method per thing that a
client can ask for, with the JSON shapes of the Engine API going in and
coming out. What is behind it is divided by subject: what was asked for
(:mod:`.request`), the translation into a bundle (:mod:`.bundle`), starting
and ending (:mod:`.lifecycle`), exec (:mod:`.execs`), logs, events, and what
to do after a crash (:mod:`.recovery`).

The trap is names. A client may call a container by its id, by the beginning
of its id, or by its name, and two containers must never have the same name,
even when two clients ask at the same moment: so names are given out under
one lock.

**Interface:** :class:`Engine`.

**See:** Engine API 1.47; moby ``api/server/router/container/backend.go``.
"""

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

from minidock import __version__, cgroups, steps, unionfs
from minidock.engine import logs as log_reader
from minidock.engine import recovery, request, views
from minidock.engine.container import Container, Pending
from minidock.engine.events import Event, Events
from minidock.engine.execs import Execs
from minidock.engine.lifecycle import Lifecycle, remove_directory
from minidock.engine.monitors import ask
from minidock.engine.names import check_name, random_name
from minidock.engine.signals import signal_number
from minidock.errors import Conflict, InvalidParameter, NotFound
from minidock.images import Images
from minidock.network import Network
from minidock.paths import Paths
from minidock.spec.timestamp import now

Body = dict[str, Any]
Bodies = list[Body]  # `list` means something else inside the class
Filters = dict[str, list[str]]


# %% The engine
class Engine:
    """Everything a client can ask for; safe to call from many threads at once."""

    def __init__(self, paths: Paths, storage_driver: str | None = None) -> None:
        self.paths = paths
        for directory in (
            paths.root,
            paths.run,
            paths.containers,
            paths.netns,
            paths.networks,
        ):
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.driver = unionfs.choose(storage_driver, paths.layers)
        self.images = Images(paths, self.driver)
        self.bridge = Network(paths)
        self.bus = Events()
        self.lifecycle = Lifecycle(paths, self.driver, self.images, self.bridge, self.bus)
        self.execs = Execs(self.lifecycle)
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._lock = Lock()

    def open(self) -> None:
        """Start the spawner (before the process has threads), then take up what is there."""
        self.lifecycle.spawner.open()
        self.lifecycle.dropped = self._dropped  # type: ignore[method-assign]
        for container in recovery.recover(self.lifecycle):
            self._containers[container.id] = container
            self._names[container.name] = container.id
        self.lifecycle.watcher.open()

    def close(self) -> None:
        """End the spawner; containers and their monitors go on. An unused bridge is removed."""
        self.lifecycle.spawner.close()
        self.lifecycle.wait_for_cables()
        if not any(container.running for container in self._containers.values()):
            self.bridge.shutdown()

    # %% Finding a container
    def find(self, reference: str) -> Container:
        """By id, by name, or by an unambiguous beginning of the id, in this order."""
        bare = reference.removeprefix("/")
        with self._lock:
            known = self._containers.get(bare) or self._containers.get(self._names.get(bare, ""))
            if known is not None:
                return known
            matches = [
                one for key, one in self._containers.items() if bare and key.startswith(bare)
            ]
        if len(matches) > 1:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {reference}")
        if not matches:
            raise NotFound(f"No such container: {reference}")
        return matches[0]

    def _dropped(self, container: Container) -> None:
        with self._lock:
            self._containers.pop(container.id, None)
            if self._names.get(container.name) == container.id:
                del self._names[container.name]

    # %% Create
    def create(self, body: Body, name: str | None) -> Body:
        """Describe a container; nothing of it exists yet but a directory."""
        wanted = body.get("Image") or ""
        if not wanted:
            raise InvalidParameter("no image specified")
        image = self.images.get(wanted)
        config, host = request.complete(body, image)
        if host["NetworkMode"].startswith("container:"):
            self.find(host["NetworkMode"].partition(":")[2])
        container_id = secrets.token_hex(32)
        chosen = self._take_name(container_id, name)
        record = {
            "Id": container_id,
            "Name": chosen,
            "Created": now(),
            "Image": image.id,
            "Config": config,
            "HostConfig": host,
        }
        container = Container(self.paths.containers / container_id, record)
        try:
            with steps.transaction():
                self._write_down(container)
        except BaseException:
            self._dropped(container)
            raise
        with self._lock:
            self._containers[container_id] = container
        self.lifecycle.tell(container, "create")
        return {"Id": container_id, "Warnings": []}

    def _write_down(self, container: Container) -> None:
        with steps.step("write down the container", call="mkdir(2)", chapter="run") as step:
            container.directory.mkdir(mode=0o700)
            step.undo(remove_directory, container.directory)
            container.save()

    def _take_name(self, container_id: str, name: str | None) -> str:
        """Give ``name``, or a random one, to ``container_id``."""
        if name:
            check_name(name.removeprefix("/"))
        with self._lock:
            chosen = name.removeprefix("/") if name else random_name()
            while not name and chosen in self._names:
                chosen = f"{random_name()}{secrets.randbelow(100)}"
            if chosen in self._names:
                raise Conflict(
                    f'Conflict. The container name "/{chosen}" is already in use by container'
                    f' "{self._names[chosen]}". You have to remove (or rename) that container to be'
                    " able to reuse that name."
                )
            self._names[chosen] = container_id
        return chosen

    def rename(self, ref: str, name: str) -> None:
        """Give a container another name."""
        container = self.find(ref)
        if not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        with container.lock:
            old = container.name
            chosen = self._take_name(container.id, name)
            container.record["Name"] = chosen
            container.save()
            with self._lock:
                self._names.pop(old, None)
        self.lifecycle.tell(container, "rename", oldName=f"/{old}")

    # %% Start, stop, kill, remove
    def start(self, ref: str) -> None:
        """Run it. :class:`NotModified` if it runs."""
        self.lifecycle.start(self.find(ref), self.find)

    def stop(self, ref: str, timeout: int | None, signal: str | None) -> None:
        """Ask it to end, then make it. :class:`NotModified` if it does not run."""
        number = signal_number(signal) if signal else None
        self.lifecycle.stop(self.find(ref), timeout, number)

    def restart(self, ref: str, timeout: int | None, signal: str | None) -> None:
        """Stop it if it runs, and start it."""
        container = self.find(ref)
        if container.running:
            self.stop(ref, timeout, signal)
        self.start(ref)
        self.lifecycle.tell(container, "restart")

    def kill(self, ref: str, signal: str) -> None:
        """Send it a signal."""
        container = self.find(ref)
        number = signal_number(signal or "SIGKILL")
        if not container.running:
            raise Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
        self.lifecycle.signal(container, number)
        if number == 9:
            self.lifecycle.wait_for_end(container, 10)

    def remove(self, ref: str, *, force: bool, volumes: bool) -> None:
        """Remove it. ``volumes``: anonymous ones would go, too; there are none."""
        self.lifecycle.remove(self.find(ref), force)

    # %% Wait
    def wait(self, ref: str, condition: str) -> Callable[[], Body]:
        """A call that blocks until ``condition`` holds: ``not-running``, ``next-exit``, ``removed``."""
        container = self.find(ref)
        conditions: dict[str, Callable[[int], bool]] = {
            "not-running": lambda before: not container.running,
            "next-exit": lambda before: container.exits > before,
            "removed": lambda before: container.removed,
        }
        holds = conditions.get(condition or "not-running")
        if holds is None:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        before = container.exits

        def block() -> Body:
            with container.changed:
                container.changed.wait_for(lambda: holds(before) or container.removed)
            return {"StatusCode": container.exit_code}

        return block

    # %% Looking
    def list(self, *, all: bool, limit: int, filters: Filters, size: bool) -> Bodies:
        """The API's ``ContainerSummary`` of each, newest first."""
        with self._lock:
            everything = list(self._containers.values())
        everything.sort(key=lambda one: one.record["Created"], reverse=True)
        hidden = not all and not limit and not {"status", "exited"} & set(filters)
        chosen = [
            one
            for one in everything
            if (one.running or not hidden) and views.matches(one, filters, everything)
        ]
        result = []
        for one in chosen[: limit or None]:
            entry = views.summary(one, self.bridge)
            result.append({**entry, **self._sizes(one)} if size else entry)
        return result

    def inspect(self, ref: str, size: bool = False) -> Body:
        """The API's ``ContainerInspectResponse``."""
        container = self.find(ref)
        execs = self.execs.of(container)
        entry = views.inspect(container, self.bridge, execs, self.driver_name)
        return {**entry, **self._sizes(container)} if size else entry

    def _sizes(self, container: Container) -> Body:
        image = self.images.get(container.record["Image"])
        written = sum(
            (container.directory / "rootfs").joinpath(change.path.lstrip("/")).lstat().st_size
            for change in self.driver.changes(image.chains, container.directory)
            if change.kind != "D" and container.running
        )
        return {"SizeRw": written, "SizeRootFs": written + image.size}

    @property
    def driver_name(self) -> str:
        """The storage driver's name as Docker's clients know it."""
        return "overlay2" if self.driver.name == "overlay" else self.driver.name

    def top(self, ref: str, ps_args: str) -> Body:
        """Its processes, by ps(1) of the host."""
        import subprocess

        container = self.find(ref)
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

    def changes(self, ref: str) -> Bodies:
        """What it has changed in its file system; not what the engine put there for it."""
        container = self.find(ref)
        image = self.images.get(container.record["Image"])
        found = self.driver.changes(self.images.ensure_layers(image), container.directory)
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

    # %% Streams
    def logs(
        self,
        ref: str,
        *,
        follow: bool,
        stdout: bool,
        stderr: bool,
        since: float,
        until: float,
        timestamps: bool,
        tail: int | None,
    ) -> tuple[bool, Iterator[bytes]]:
        """Whether it has a terminal, and its log in pieces (``b""`` now and then while following)."""
        container = self.find(ref)
        if not (stdout or stderr):
            raise InvalidParameter("Bad parameters: you must choose at least one stream")
        selection = log_reader.Selection(follow, stdout, stderr, since, until, timestamps, tail)
        return container.terminal, log_reader.read(container, selection)

    def tty(self, ref: str) -> bool:
        """Whether it has a terminal."""
        return self.find(ref).terminal

    def attach(
        self,
        ref: str,
        accept: Callable[[], tuple[socket.socket, bytes]],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        logs: bool,
        stream: bool,
    ) -> None:
        """Hand a client over to the container's monitor, or keep it until the container starts.

        ``accept`` tells the client that it is attached, and gives its connection
        and what it has sent already. It is called under the container's lock: a
        client that has been told may start the container at once, and must not
        get in before we have noted it down.
        """
        container = self.find(ref)
        with container.lock:
            client, early = accept()
            wants = {
                "request": "attach",
                "stdin": stdin and bool(container.config["OpenStdin"]),
                "stdout": stdout,
                "stderr": stderr,
                "early": early.decode("latin-1"),
            }
            if logs:
                selection = log_reader.Selection(stdout=stdout, stderr=stderr)
                for piece in log_reader.read(container, selection):
                    client.sendall(piece)
            if stream and not container.running:
                container.pending.append(Pending(wants, client))
                return
            try:
                if stream:
                    ask(container, wants, [client.fileno()])
            finally:
                client.close()
        self.lifecycle.tell(container, "attach")

    def resize(self, ref: str, height: int, width: int) -> None:
        """Its window has another size."""
        container = self.find(ref)
        container.must_run()
        ask(container, {"request": "resize", "height": height, "width": width})

    # %% Exec
    def exec_create(self, ref: str, body: Body) -> str:
        """Describe a second program; returns the exec's id."""
        return self.execs.create(self.find(ref), body)

    def exec_check(self, exec_id: str) -> None:
        """Raise what a start would raise, before the client's connection becomes a stream."""
        self.execs.check(exec_id)

    def exec_start(
        self, exec_id: str, client: socket.socket | None, body: Body, early: bytes
    ) -> None:
        """Run it; ``client`` is handed over and closed here."""
        try:
            self.execs.start(exec_id, client, body, early)
        finally:
            if client is not None:
                client.close()

    def exec_inspect(self, exec_id: str) -> Body:
        """The API's ``ExecInspectResponse``."""
        return self.execs.inspect(exec_id)

    def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        """Its window has another size."""
        self.execs.resize(exec_id, height, width)

    def exec_tty(self, exec_id: str) -> bool:
        """Whether it has a terminal."""
        return bool(self.execs.find(exec_id).body.get("Tty"))

    # %% Events, images, networks
    def events(
        self, *, since: float | None, until: float | None, filters: Filters
    ) -> Iterator[Event]:
        """The API's ``EventMessage`` objects; an empty one now and then while nothing happens."""
        return self.bus.listen(since, until, filters)

    def used_by(self, image_id: str) -> Iterator[Container]:
        """The containers that were made from an image."""
        with self._lock:
            everything = [*self._containers.values()]
        return (one for one in everything if one.record["Image"] == image_id)

    def remove_image(self, name: str, force: bool) -> Bodies:
        """Untag it, and remove what then has no name; refused while a container is made from it."""
        image_id = self.images.get(name).id

        removed = self.images.remove(
            name, force=force, used_by=lambda image: [one.id for one in self.used_by(image)]
        )
        for entry in removed:
            action = "untag" if "Untagged" in entry else "delete"
            self.bus.publish("image", action, image_id, name=name)
        return [*removed]

    def networks(self) -> Bodies:
        """The API's ``Network`` objects: the bridge, and the two that are no networks."""
        bridge = self.bridge.inspect()
        bridge["Containers"] = {
            one.id: {
                "Name": one.name,
                "EndpointID": "",
                "MacAddress": one.endpoint.mac,
                "IPv4Address": f"{one.endpoint.address}/{one.endpoint.prefix_length}",
                "IPv6Address": "",
            }
            for one in list(self._containers.values())
            if one.endpoint is not None
        }
        return [bridge, *(_pseudo_network(name) for name in ("host", "none"))]

    # %% The system
    def version(self) -> Body:
        """The API's ``SystemVersion``."""
        from minidock.engine import system

        return system.version()

    def info(self) -> Body:
        """The API's ``SystemInfo``."""
        from minidock.engine import system

        with self._lock:
            statuses = [one.status for one in self._containers.values()]
        return system.info(self.paths, self.driver_name, statuses, len(self.images.list()))


# %% Small things
def _pseudo_network(name: str) -> Body:
    return {
        "Name": name,
        "Id": name,
        "Created": "0001-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": "null" if name == "none" else name,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": None},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }


def _is_file_or_parent(path: str, container: Container, needed: set[str]) -> bool:
    """A changed directory counts when something in it is new or gone, not for a mount point in it."""
    if any(other.startswith(f"{path}/") for other in needed):
        return True
    return not os.path.isdir(f"{container.directory}/rootfs{path}") and path not in needed


__all__ = ["Engine", "__version__"]
