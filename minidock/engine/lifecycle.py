"""Starting, stopping and removing a container.

To start one is to acquire, in this order, what it needs: its layers as a
root file system, a network namespace with an address, the host's ports; and
then a monitor, which does the rest. Each step says how to take it back, so
a start that fails leaves nothing. The end is the same in reverse, and every
act of it can be repeated: the daemon that finishes the work may be another
one than the daemon that began it.

The traps. A container may die while it is being started, so the news of its
end waits for the lock. ``--rm`` must have cleaned up before ``wait`` says
that it is over, or the name would still be taken when the caller goes on.
And a monitor that was killed cannot tell: its silence is the message.

**Interface:** :class:`Lifecycle`.

**See:** moby ``daemon/start.go``, ``daemon/delete.go``, ``daemon/monitor.go``.
"""

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from minidock import network, steps
from minidock.engine import bundle, modes, shm
from minidock.engine.container import Container
from minidock.engine.events import Events
from minidock.engine.monitors import ask, hear_out, kill_cgroup
from minidock.engine.signals import stop_signal
from minidock.engine.watcher import Watcher
from minidock.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    NotModified,
    Unavailable,
)
from minidock.images import Images
from minidock.monitor import STATE
from minidock.network import Endpoint, Network, PortMapping, names
from minidock.paths import Paths, read_json, write_json
from minidock.runtime.sync import pair
from minidock.spawner import Spawner
from minidock.spec.codec import encode
from minidock.unionfs import Driver

Others = Callable[[str], Container]  # finds another container by name or id


# %% What a lifecycle needs
class Lifecycle:
    """The verbs; one for all containers of an engine."""

    def __init__(
        self,
        paths: Paths,
        driver: Driver,
        images: Images,
        bridge: Network,
        events: Events,
    ) -> None:
        self.paths = paths
        self.driver = driver
        self.images = images
        self.bridge = bridge
        self.events = events
        self.spawner = Spawner()
        self.watcher = Watcher(self._heard, self._silent)
        self._leaving: dict[str, Thread] = {}

    def tell(self, container: Container, action: str, **attributes: str) -> None:
        """Publish an event about ``container``."""
        labels = container.config["Labels"]
        about = {"image": container.config["Image"], "name": container.name}
        self.events.publish("container", action, container.id, **labels, **about, **attributes)

    # %% Start
    def start(self, container: Container, others: Others) -> None:
        """Start it; raises :class:`NotModified` if it runs, and what goes wrong otherwise.

        After a failure nothing of the attempt is left but the reason, in
        ``state.json``; a container with ``--rm`` is gone.
        """
        with container.lock:
            if container.running:
                raise NotModified(f"container {container.name} is already running")
            if container.removing or container.removed:
                raise Conflict("container is marked for removal and cannot be started")
            container.stop_asked = False
            try:
                with steps.transaction():
                    self._acquire(container, others)
            except BaseException as error:
                self._start_failed(container, error)
                raise
        self.tell(container, "start")

    def _start_failed(self, container: Container, error: BaseException) -> None:
        container.endpoint = None
        container.close_pending()
        container.failed(_status_of(error), str(error))
        container.ended()
        if container.host_config["AutoRemove"]:
            self.forget(container)

    def _acquire(self, container: Container, others: Others) -> None:
        image = self.images.get(container.record["Image"])
        with steps.step("make sure the layers are there", call="stat(2)", chapter="images"):
            chains = self.images.ensure_layers(image)
        root = self.driver.mount(chains, container.directory)
        ports = self._connect(container)
        shm.lend(container)
        namespaces = self._namespaces(container, others)
        hostname = self._write_network_files(container)
        with steps.step("write the bundle", call="rename(2) config.json", chapter="run") as step:
            spec = bundle.specification(container, root, hostname, namespaces)
            write_json(container.directory / "config.json", encode(spec), durable=False)
            step.undo((container.directory / "config.json").unlink, True)
        self._spawn(container, ports)

    # %% Namespaces: ours, the host's, or another container's
    def _namespaces(self, container: Container, others: Others) -> dict[str, str | None]:
        host = container.host_config
        kinds: dict[str, str | None] = {"mount": ""}
        for kind, key in (
            ("pid", "PidMode"),
            ("ipc", "IpcMode"),
            ("uts", "UTSMode"),
            ("cgroup", "CgroupnsMode"),
            ("network", "NetworkMode"),
        ):
            mode = host[key]
            if mode == "host":
                kinds[kind] = None
            elif mode.startswith("container:"):
                other = others(mode.partition(":")[2])
                other.must_run()
                modes.check_donor(key, other.host_config, other.name)
                if kind == "ipc":
                    container.borrowed_shm = other.shm
                file = "net" if kind == "network" else kind
                kinds[kind] = f"/proc/{other.pid}/ns/{file}"
            else:
                kinds[kind] = ""
        if _bridged(container):
            kinds["network"] = str(self.paths.netns / container.id)
        if host["NetworkMode"] == "host" and host["UTSMode"] == "":
            kinds["uts"] = ""
        return kinds

    # %% Network
    def _connect(self, container: Container) -> list[socket.socket]:
        """Join the bridge, if it is to; returns the sockets that hold the published ports."""
        if not _bridged(container):
            return []
        self.wait_for_cables(container.id)
        ports, sockets = network.reserve(_port_mappings(container), container.name)
        try:
            self.bridge.ensure()
            container.endpoint = self.bridge.connect(
                container.id, container.config.get("MacAddress") or None, ports
            )
        except BaseException:
            for held in sockets:
                held.close()
            raise
        return sockets

    def _write_network_files(self, container: Container) -> str:
        """``/etc/resolv.conf``, ``/etc/hosts`` and ``/etc/hostname``; returns the host name."""
        host, config = container.host_config, container.config
        shared = host["NetworkMode"] == "host"
        hostname = config["Hostname"] or (os.uname().nodename if shared else container.id[:12])
        endpoint = container.endpoint
        with steps.step(
            "write resolv.conf, hosts and hostname", call="write(2)", chapter="network"
        ):
            texts = {
                "hostname": hostname + "\n",
                "hosts": Path("/etc/hosts").read_text()
                if shared
                else names.hosts(
                    hostname,
                    config["Domainname"],
                    endpoint.address if endpoint else None,
                    _extra_hosts(host, endpoint),
                ),
                "resolv.conf": Path("/etc/resolv.conf").read_text()
                if shared
                else names.resolv_conf(host["Dns"], host["DnsSearch"], host["DnsOptions"]),
            }
            for name, text in texts.items():
                (container.directory / name).write_text(text)
        return str(hostname)

    # %% The monitor
    def _spawn(self, container: Container, ports: list[socket.socket]) -> None:
        """Ask for a monitor, hear it out until the container runs, and go on listening elsewhere."""
        ours, theirs = pair()
        request = {
            "directory": str(container.directory),
            "trace": steps.export(),
            "attach": [waiting.request for waiting in container.pending],
        }
        clients = [waiting.connection.fileno() for waiting in container.pending]
        fds = [theirs.fileno(), *clients, *(held.fileno() for held in ports)]
        try:
            with steps.step("fork a monitor", call="fork(2)", chapter="run"):
                self.spawner.spawn(request, fds)
        finally:
            theirs.close()
            for held in ports:
                held.close()
        try:
            state = hear_out(ours)
        except BaseException:
            ours.close()
            kill_cgroup(container.cgroup)
            raise
        container.close_pending()
        container.became(state)
        self.watcher.add(ours, container)

    # %% The end of a run
    def _heard(self, container: Container, event: dict[str, Any]) -> None:
        """The monitor says something. The container's end is a longer matter: not in this thread."""
        if "exited" in event:
            Thread(target=self.ended, args=(container, event["exited"]), daemon=True).start()
        elif "exec_exited" in event:
            self.exec_ended(container, event["exec_exited"], event["exit_code"])

    def exec_ended(self, container: Container, exec_id: str, code: int) -> None:
        """An exec is over; whoever keeps the execs replaces this."""

    def _silent(self, container: Container) -> None:
        """The monitor is gone. If it has not said good-bye, it was killed."""
        Thread(target=self.orphaned, args=(container,), daemon=True).start()

    def ended(self, container: Container, state: dict[str, Any]) -> None:
        """The container has ended as ``state`` says: give back what it held, then tell."""
        with container.lock:
            if container.removed:
                return
            self.release(container)
            if state.get("oom_killed"):
                self.tell(container, "oom")
            self.tell(container, "die", exitCode=str(state.get("exit_code", 0)))
            container.became(state)
            if container.host_config["AutoRemove"]:
                self.forget(container)
            container.ended()

    def orphaned(self, container: Container) -> None:
        """A container whose monitor died has nobody to read its output: it is killed."""
        with container.lock:
            if container.removed or not container.running:
                return
            with suppress(FileNotFoundError, ValueError):
                state = read_json(container.directory / STATE)
                if state.get("status") == "exited":  # it did write its will
                    self.ended(container, state)
                    return
            kill_cgroup(container.cgroup)
            container.failed(137, "the container's monitor died")
            self.ended(container, container.state)

    def release(self, container: Container) -> None:
        """Unmount, disconnect: all of it may have been done already."""
        shm.take_back(container)
        self.driver.unmount(container.directory)
        if _bridged(container):
            self._disconnect(container)
        container.endpoint = None

    def _disconnect(self, container: Container) -> None:
        """Pull the cable; nobody has to wait for it.

        The kernel takes some ten milliseconds to be sure that no packet is on
        its way to a device that goes (synchronize_rcu). The address stays
        taken until then. Published ports are withdrawn at once: somebody may
        want them.
        """
        if container.endpoint is None or container.endpoint.ports:
            self.bridge.disconnect(container.id)
            return

        def leave() -> None:
            self.bridge.disconnect(container.id)
            self._leaving.pop(container.id, None)

        thread = Thread(target=leave, daemon=True)
        self._leaving[container.id] = thread
        thread.start()

    def wait_for_cables(self, container_id: str | None = None) -> None:
        """Wait until that container, or everybody who is leaving, is off the network."""
        for one in [container_id] if container_id else list(self._leaving):
            thread = self._leaving.get(one)
            if thread is not None:
                thread.join()

    # %% Stop and kill
    def stop(self, container: Container, timeout: int | None, number: int | None) -> None:
        """Ask it to end, and after ``timeout`` seconds (None: its own, or 10) make it."""
        if not container.running:
            raise NotModified(f"container {container.name} is not running")
        if timeout is None:
            timeout = container.config.get("StopTimeout")
        patience = 10 if timeout is None else timeout
        container.stop_asked = True
        self.signal(container, number or stop_signal(container))
        if not self.wait_for_end(container, None if patience < 0 else patience):
            self.signal(container, signal.SIGKILL)
            self.wait_for_end(container, None)
        self.tell(container, "stop")

    def signal(self, container: Container, number: int) -> None:
        """Send a signal to its first process, through the monitor, which alone is sure of the pid."""
        try:
            ask(container, {"request": "kill", "signal": int(number)})
        except (FileNotFoundError, ConnectionError, Unavailable):
            return  # it has just ended
        self.tell(container, "kill", signal=str(int(number)))

    def wait_for_end(self, container: Container, timeout: float | None) -> bool:
        """Wait until it is not running (and cleaned up after); False if it still is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with container.changed:
            while container.running and not container.removed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                container.changed.wait(left)
        return True

    # %% Remove
    def remove(self, container: Container, force: bool) -> None:
        """Remove it and what it wrote; a running one only by ``force``."""
        if container.running:
            if not force:
                raise Conflict(
                    f'cannot remove container "/{container.name}": container is running: stop the'
                    " container before removing or force remove"
                )
            self.signal(container, signal.SIGKILL)
            self.wait_for_end(container, 30)
        with container.lock:
            if not container.removed:
                self.release(container)
                self.forget(container)

    def forget(self, container: Container) -> None:
        """Delete its directory, with all that it wrote; then its name is free."""
        container.removing = True
        container.close_pending()
        self.driver.remove(container.directory)
        remove_directory(container.directory)
        self.dropped(container)
        self.tell(container, "destroy")
        container.gone()

    def dropped(self, container: Container) -> None:
        """The engine forgets the name; it replaces this."""


# %% Small decisions
def _bridged(container: Container) -> bool:
    return container.host_config["NetworkMode"] in ("default", "bridge")


def _port_mappings(container: Container) -> list[PortMapping]:
    """``PortBindings``, and with ``-P`` a port of the kernel's choice for each exposed one."""
    host = container.host_config
    bindings = {key: list(value or []) for key, value in (host["PortBindings"] or {}).items()}
    if host["PublishAllPorts"]:
        for key in container.config.get("ExposedPorts") or {}:
            bindings.setdefault(key, [{"HostIp": "", "HostPort": ""}])
    mappings = []
    for key, wanted in bindings.items():
        port, _, protocol = key.partition("/")
        for one in wanted:
            mappings.append(
                PortMapping(
                    one.get("HostIp") or "0.0.0.0",  # noqa: S104 (what Docker does)
                    int(one.get("HostPort") or 0),
                    int(port),
                    protocol or "tcp",
                )
            )
    return mappings


def _extra_hosts(host: dict[str, Any], endpoint: Endpoint | None) -> list[tuple[str, str]]:
    """``--add-host NAME:ADDRESS``; ``host-gateway`` is the bridge's own address."""
    pairs = []
    for entry in host["ExtraHosts"]:
        name, _, address = entry.partition(":")
        if address == "host-gateway":
            address = endpoint.gateway if endpoint else "127.0.0.1"
        pairs.append((name, address))
    return pairs


def _status_of(error: BaseException) -> int:
    """The exit status that ``inspect`` shows for a container that could not start."""
    if isinstance(error, CommandNotFound):
        return 127
    return 126 if isinstance(error, CommandNotExecutable) else 128


def remove_directory(path: Path) -> None:
    """``rm -r``; it may be gone already."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
