"""The engine: containers, images and networks, as Docker's API knows them.

This is the face that the API server sees: one method per thing that a
client can ask for, with the JSON shapes of the Engine API going in and
coming out. What is behind it is divided by subject: what was asked for
(:mod:`.request`), who is called what (:mod:`.roster`), the translation into
a bundle (:mod:`.bundle`), starting and ending (:mod:`.lifecycle`), exec
(:mod:`.execs`), logs, events, copying, and what to do after a crash
(:mod:`.recovery`).

The trap is a face that begins to think. What is more than a line or two
belongs behind it, where it can be read, and tested, without the rest.

**Interface:** :class:`Engine`.

**See:** Engine API 1.47; moby ``api/server/router/container/backend.go``.
"""

import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from threading import Thread
from typing import TYPE_CHECKING, Any

from minidock import __version__, steps
from minidock.engine import logs as log_reader
from minidock.engine import looking, recovery, remap, request, resources, stats, views
from minidock.engine.attaching import Accept, Wishes, attach
from minidock.engine.container import Container
from minidock.engine.copying import Copying
from minidock.engine.events import Event, Events
from minidock.engine.execs import Execs
from minidock.engine.lifecycle import Lifecycle, remove_directory
from minidock.engine.monitors import ask
from minidock.engine.roster import Roster
from minidock.engine.signals import signal_number
from minidock.engine.storekeeper import Storekeeper
from minidock.engine.updating import update
from minidock.engine.versions import Versions
from minidock.errors import Conflict, InvalidParameter, MiniDockError
from minidock.images import Images
from minidock.network import Network
from minidock.paths import Paths
from minidock.registry.settings import Settings
from minidock.spec.timestamp import now
from minidock.unionfs.choice import backing, choose

if TYPE_CHECKING:
    from minidock.engine.transfers import Transfers

Body = dict[str, Any]
Bodies = list[Body]  # `list` means something else inside the class
Filters = dict[str, list[str]]


# %% The engine
class Engine:
    """Everything a client can ask for; safe to call from many threads at once."""

    def __init__(
        self,
        paths: Paths,
        storage_driver: str | None = None,
        registries: Settings | None = None,
        userns_remap: str = "",
        store_quota: int | None = None,
        storage_options: Sequence[str] = (),
    ) -> None:
        self.paths = paths
        self.remap = remap.read(userns_remap) if userns_remap else None
        for directory in (
            paths.root,
            paths.run,
            paths.containers,
            paths.netns,
            paths.networks,
        ):
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.driver = choose(storage_driver, paths.layers, storage_options)
        self.images = Images(paths, self.driver, store_quota)
        self.bridge = Network(paths)
        self.bus = Events()
        self.lifecycle = Lifecycle(paths, self.driver, self.images, self.bridge, self.bus)
        self.execs = Execs(self.lifecycle)
        self.registries = registries or Settings()
        self.copying = Copying(self.images, self.driver)
        self.roster = Roster()
        self.versions = Versions(self.lifecycle)
        self.store = Storekeeper(self.lifecycle, self.roster)

    def open(self) -> None:
        """Start the spawner (before the process has threads), then take up what is there."""
        self.lifecycle.spawner.open()
        self.lifecycle.dropped = self.roster.drop  # type: ignore[method-assign]
        found = recovery.recover(self.lifecycle)
        for container in found:
            self.roster.add(container)
        self.lifecycle.watcher.open()
        for container in recovery.to_start_again(found):
            Thread(target=self._start_again, args=(container,), daemon=True).start()

    def _start_again(self, container: Container) -> None:
        """By its restart policy; what goes wrong stands in its state."""
        with suppress(MiniDockError, OSError):
            self.lifecycle.start(container, self.find)

    def close(self) -> None:
        """End the spawner; containers and their monitors go on. An unused bridge is removed."""
        self.lifecycle.spawner.close()
        self.lifecycle.cables.wait()
        if not any(container.running for container in self.roster.all()):
            self.bridge.shutdown()
            self.driver.close()

    def find(self, reference: str) -> Container:
        """By id, by name, or by an unambiguous beginning of the id."""
        return self.roster.find(reference)

    @cached_property
    def transfers(self) -> "Transfers":
        """Pulls and pushes. An engine that never does them saves the memory of an HTTP client."""
        from minidock.engine.transfers import Transfers

        return Transfers(self.images, self.registries, self.bus)

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
        chosen = self.roster.take_name(container_id, name)
        record = {
            "Id": container_id,
            "Name": chosen,
            "Created": now(),
            "Image": image.id,
            "Driver": self.driver.name,
            "Config": config,
            "HostConfig": host,
            **remap.check(host, self.remap),
        }
        container = Container(self.paths.containers / container_id, record)
        try:
            with steps.transaction():
                self._write_down(container)
        except BaseException:
            self.roster.drop(container)
            raise
        self.roster.add(container)
        self.lifecycle.tell(container, "create")
        return {"Id": container_id, "Warnings": resources.warnings(host)}

    def _write_down(self, container: Container) -> None:
        with steps.step("write down the container", call="mkdir(2)", chapter="run") as step:
            container.directory.mkdir(mode=0o700)
            step.undo(remove_directory, container.directory)
            container.save()

    def rename(self, ref: str, name: str) -> None:
        """Give a container another name."""
        container = self.find(ref)
        old = self.roster.rename(container, name)
        self.lifecycle.tell(container, "rename", oldName=f"/{old}")

    def update(self, ref: str, body: Body) -> Body:
        """Other limits, or another restart policy, from now on."""
        container = self.find(ref)
        update(container, body)
        self.lifecycle.tell(container, "update")
        return {"Warnings": []}

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
        self.lifecycle.kill(container, number)

    def pause(self, ref: str, frozen: bool) -> None:
        """Stop its processes where they are, or let them go on."""
        self.lifecycle.pause(self.find(ref), frozen)

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
        everything = self.roster.all()
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
            result.append(
                {**entry, **looking.sizes(one, self.images, self.driver)} if size else entry
            )
        return result

    def inspect(self, ref: str, size: bool = False) -> Body:
        """The API's ``ContainerInspectResponse``."""
        container = self.find(ref)
        execs = self.execs.of(container)
        entry = views.inspect(container, self.bridge, execs, self.driver_name)
        return {**entry, **looking.sizes(container, self.images, self.driver)} if size else entry

    @property
    def driver_name(self) -> str:
        """The storage driver's name as Docker's clients know it."""
        return "overlay2" if self.driver.name == "overlay" else self.driver.name

    def top(self, ref: str, ps_args: str) -> Body:
        """Its processes, by ps(1) of the host."""
        return looking.top(self.find(ref), ps_args)

    def stats(self, ref: str) -> Body:
        """The API's ``ContainerStatsResponse``, as things are now."""
        return stats.sample(self.find(ref))

    # %% Streams
    def logs(self, ref: str, selection: log_reader.Selection) -> tuple[bool, Iterator[bytes]]:
        """Whether it has a terminal, and its log in pieces (``b""`` now and then while following)."""
        container = self.find(ref)
        if not (selection.stdout or selection.stderr):
            raise InvalidParameter("Bad parameters: you must choose at least one stream")
        return container.terminal, log_reader.read(container, selection)

    def tty(self, ref: str) -> bool:
        """Whether it has a terminal."""
        return self.find(ref).terminal

    def attach(self, ref: str, accept: Accept, wishes: Wishes) -> None:
        """Hand a client over to the container's monitor, or keep it until the container starts."""
        container = self.find(ref)
        attach(container, accept, wishes)
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

    # %% Events, networks
    def events(
        self, *, since: float | None, until: float | None, filters: Filters
    ) -> Iterator[Event]:
        """The API's ``EventMessage`` objects; an empty one now and then while nothing happens."""
        return self.bus.listen(since, until, filters)

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
            for one in self.roster.all()
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

        statuses = [one.status for one in self.roster.all()]
        status = [("Backing Filesystem", backing(self.driver.root)), *self.driver.status()]
        number = len(self.images.list())
        found = system.info(self.paths, (self.driver_name, status), statuses, number)
        if self.remap is not None:
            found["SecurityOptions"].append("name=userns")
        return found


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


__all__ = ["Engine", "__version__"]
