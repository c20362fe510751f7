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

import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from minidock import steps
from minidock.engine import bundle, modes, remap, shm
from minidock.engine.cables import Cables, bridged
from minidock.engine.container import Container
from minidock.engine.events import Events
from minidock.engine.monitors import MonitorGone, ask, hear_out, kill_cgroup
from minidock.engine.signals import stop_signal
from minidock.engine.watcher import Watcher
from minidock.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    NotModified,
)
from minidock.images import Images
from minidock.monitor import STATE
from minidock.network import Network
from minidock.paths import Paths, read_json, remove_tree, write_json
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
        self.cables = Cables(bridge)
        self.spawner = Spawner()
        self.watcher = Watcher(self._heard, self._silent)

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
            container.stopped_by_hand(False)
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
        with remap.prepare(container, self._userns(container)) as netns:
            mapped = str(self._userns(container)) if netns else ""
            root = self.driver.mount(chains, container.directory, mapped)
            ports = self.cables.connect(container, netns)
        shm.lend(container)
        namespaces = self._namespaces(container, others)
        hostname = self.cables.write_files(container, _joined(container, others))
        remap.give(container)
        with steps.step("write the bundle", call="rename(2) config.json", chapter="run") as step:
            spec = bundle.specification(container, root, hostname, namespaces)
            write_json(container.directory / "config.json", encode(spec), durable=False)
            step.undo((container.directory / "config.json").unlink, True)
        self._spawn(container, ports)

    def _userns(self, container: Container) -> Path:
        return self.paths.run / "userns" / container.id

    # %% Namespaces: ours, the host's, or another container's
    def _namespaces(self, container: Container, others: Others) -> dict[str, str | None]:
        host = container.host_config
        kinds: dict[str, str | None] = {"mount": ""}
        if remap.of(container) is not None:
            kinds["user"] = str(self._userns(container))
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
        if bridged(container):
            kinds["network"] = str(self.paths.netns / container.id)
        if host["NetworkMode"] == "host" and host["UTSMode"] == "":
            kinds["uts"] = ""
        return kinds

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
        for status in ("restarting", "started", "paused", "running"):
            if status in event:
                self._changed(container, status, event[status])

    def _changed(self, container: Container, status: str, state: dict[str, Any]) -> None:
        """The monitor has paused it, or let it go on, or is starting it once more."""
        was = container.status
        container.became(state)
        if status == "restarting":
            self._tell_end(container, state)
            container.ended()
        elif status == "started":
            self.tell(container, "start")
        elif status != was:
            self.tell(container, "pause" if status == "paused" else "unpause")

    def _tell_end(self, container: Container, state: dict[str, Any]) -> None:
        if state.get("oom_killed"):
            self.tell(container, "oom")
        self.tell(container, "die", exitCode=str(state.get("exit_code", 0)))

    def exec_ended(self, container: Container, exec_id: str, code: int) -> None:
        """An exec is over; whoever keeps the execs replaces this."""

    def _silent(self, container: Container, monitor: int) -> None:
        """That monitor is gone. If it has not said good-bye, it was killed."""
        Thread(target=self.orphaned, args=(container, monitor), daemon=True).start()

    def ended(self, container: Container, state: dict[str, Any]) -> None:
        """The container has ended as ``state`` says: give back what it held, then tell."""
        with container.lock:
            if container.removed:
                return
            self.release(container)
            self._tell_end(container, state)
            container.became(state)
            if container.host_config["AutoRemove"]:
                self.forget(container)
            container.ended()

    def orphaned(self, container: Container, monitor: int) -> None:
        """A container whose monitor died has nobody to read its output: it is killed.

        Unless it has been started again meanwhile, and its new monitor is another.
        """
        with container.lock:
            if container.removed or not container.running:
                return
            if container.state.get("monitor") != monitor:
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
        remap.release(self._userns(container))
        if bridged(container):
            self.cables.disconnect(container)
        container.endpoint = None

    # %% Stop and kill
    def stop(self, container: Container, timeout: int | None, number: int | None) -> None:
        """Ask it to end, and after ``timeout`` seconds (None: its own, or 10) make it."""
        if not container.running:
            raise NotModified(f"container {container.name} is not running")
        if timeout is None:
            timeout = container.config.get("StopTimeout")
        patience = 10 if timeout is None else timeout
        self.signal(container, number or stop_signal(container), last=True)
        if not self.wait_for_end(container, None if patience < 0 else patience):
            self.signal(container, signal.SIGKILL, last=True)
            self.wait_for_end(container, None)
        self.tell(container, "stop")

    def kill(self, container: Container, number: int) -> None:
        """``docker kill``: what ends a container by its own rules is meant to end it for good."""
        wanted = container.config.get("StopSignal")
        last = not wanted or number in (signal.SIGKILL, stop_signal(container))
        self.signal(container, number, last=last)
        if number == signal.SIGKILL:
            self.wait_for_end(container, 10)

    def signal(self, container: Container, number: int, *, last: bool) -> None:
        """Send a signal to its first process, through the monitor, which alone is sure of the pid.

        ``last``: its restart policy does not count any more. Raises :class:`OSError` when the
        kernel refuses; a container that has just ended is none of our worries.
        """
        if last:
            container.stopped_by_hand(True)
        try:
            ask(container, {"request": "kill", "signal": int(number), "last": last})
        except (FileNotFoundError, ConnectionError, MonitorGone):
            return
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

    # %% Pause
    def pause(self, container: Container, frozen: bool) -> None:
        """Stop its processes where they are, or let them go on: the monitor does it, and writes it down."""
        with container.lock:
            if not container.running and frozen:
                raise Conflict(f"Container {container.id} is not running")
            if container.status == "restarting":
                container.must_go_on()
            if frozen and container.status == "paused":
                raise Conflict(f"Container {container.id} is already paused")
            if not frozen and container.status != "paused":
                raise Conflict(f"Container {container.id} is not paused")
            answer = ask(container, {"request": "pause", "frozen": frozen})
            self._changed(container, "paused" if frozen else "running", answer["state"])

    # %% Remove
    def remove(self, container: Container, force: bool) -> None:
        """Remove it and what it wrote; a running one only by ``force``."""
        if container.running:
            if not force:
                raise Conflict(
                    f'cannot remove container "/{container.name}": container is running: stop the'
                    " container before removing or force remove"
                )
            self.signal(container, signal.SIGKILL, last=True)
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
def _joined(container: Container, others: Others) -> Container | None:
    """The container whose network it joins, if any."""
    kind, _, name = container.host_config["NetworkMode"].partition(":")
    return others(name) if kind == "container" else None


def _status_of(error: BaseException) -> int:
    """The exit status that ``inspect`` shows for a container that could not start."""
    if isinstance(error, CommandNotFound):
        return 127
    return 126 if isinstance(error, CommandNotExecutable) else 128


def remove_directory(path: Path) -> None:
    """``rm -r``; it may be gone already."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except RecursionError:
        remove_tree(path)
