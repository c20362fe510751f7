"""After a crash: what is still there, what must be cleaned up.

A daemon may be killed at any moment, in the middle of any step. The next
one begins by looking. A container whose monitor answers is running, and is
taken up as if nothing had been; a container that says it runs but whose
monitor does not answer is dead, and is buried. Then what belongs to no
container is removed: every mount, cgroup, network namespace and address
carries the id of its container in its name, so nothing has to be remembered
to be found.

The trap: what looks like rubbish may be somebody's work. Only names that
this engine gives, below directories that are its own, are touched.

Last, Docker's promise about restart policies: what was to run ``always`` is
started again when the daemon comes (after a boot, say), and what is to run
``unless-stopped``, unless somebody had stopped it.

**Interface:** :func:`recover`, :func:`to_start_again`.
"""

from collections.abc import Iterator
from contextlib import suppress

from minidock.engine.container import Container
from minidock.engine.lifecycle import Lifecycle, remove_directory
from minidock.engine.monitors import connect, kill_cgroup
from minidock.engine.versions import thaw
from minidock.monitor import STATE
from minidock.paths import read_json


# %% Recovery
def recover(lifecycle: Lifecycle) -> list[Container]:
    """The containers on disk, each in the state in which it really is."""
    containers = list(_on_disk(lifecycle))
    for container in containers:
        _settle(lifecycle, container)
        thaw(lifecycle, container)
    alive = {container.id for container in containers if container.running}
    lifecycle.bridge.remove_leftovers(alive)
    return [container for container in containers if not container.removed]


def _on_disk(lifecycle: Lifecycle) -> Iterator[Container]:
    """Every directory with a record, of this driver; one without is half made or half removed, and goes."""
    for directory in sorted(lifecycle.paths.containers.iterdir()):
        try:
            container = Container.load(directory)
            if container.record.get("Driver", lifecycle.driver.name) == lifecycle.driver.name:
                yield container  # else: it waits for the driver that made its tree
        except (FileNotFoundError, ValueError, KeyError):
            lifecycle.driver.remove(directory)
            kill_cgroup(f"/minidock/{directory.name}")
            remove_directory(directory)


def _settle(lifecycle: Lifecycle, container: Container) -> None:
    """Find out how ``container`` is, and make the record agree."""
    if _take_up(lifecycle, container):
        return
    with suppress(FileNotFoundError, ValueError):  # it may have ended since we read it
        container.state = read_json(container.directory / STATE)
    if container.running:
        container.failed(137, "the container's monitor died while the daemon was away")
    kill_cgroup(container.cgroup)
    lifecycle.release(container)
    if container.host_config["AutoRemove"]:
        lifecycle.forget(container)


def _take_up(lifecycle: Lifecycle, container: Container) -> bool:
    """Watch a container whose monitor answers."""
    try:
        channel = connect(container)
        channel.send({"request": "watch"})
        answer, _ = channel.receive()
    except OSError:
        return False
    if answer is None or answer["state"].get("status") == "exited":
        channel.close()
        return False
    container.state = answer["state"]
    container.endpoint = lifecycle.bridge.endpoints().get(container.id)
    lifecycle.watcher.add(channel, container)
    return True


# %% What is to run again
def to_start_again(containers: list[Container]) -> Iterator[Container]:
    """Those that do not run, have run, and whose restart policy wants them to."""
    for container in containers:
        if container.running or not container.state.get("started_at"):
            continue
        policy = container.restart_policy
        by_hand = bool(container.record.get("StoppedByHand"))
        failed = policy == "on-failure" and container.exit_code != 0 and not by_hand
        if policy == "always" or (policy == "unless-stopped" and not by_hand) or failed:
            yield container
