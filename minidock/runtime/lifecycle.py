"""The runtime's verbs: create, start, kill, delete, and what lies between.

Each is the whole of one command, in a process that ends with it. What one
leaves behind and the next one finds is an entry of the :mod:`store`.

The traps. Whoever calls us may be killed at any moment, so the entry is
there before anything else is, and says where the cgroup will be: ``delete
--force`` can clean up after every step. A pid may have become somebody
else's, so signals go to a pidfd whose process has been looked at. And a
hook may ask for the container's state while it is being made: no verb may
hold a lock.

**Interface:** :func:`create`, :func:`start`, :func:`kill`, :func:`delete`,
:func:`pause`, :func:`resume`, :class:`Order`.

**See:** OCI runtime specification, runtime.md, "Operations", "Lifecycle".
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minidock import capabilities, cgroups, namespaces, steps
from minidock.errors import Conflict, MiniDockError, NotFound, Unavailable
from minidock.runtime import container as runtime
from minidock.runtime import validation
from minidock.runtime.container import Container, Wishes, converse
from minidock.runtime.store import Entry, Status, Store, process_status
from minidock.spec.codec import decode
from minidock.spec.runtime import Hooks, Spec

if TYPE_CHECKING:
    from minidock.cgroups.systemd import Unit
    from minidock.runtime.notify import Readiness

NOTIFY = "notify"  # the directory of its entry in which its socket for readiness is

Warn = Callable[[str], object]


# %% What create is asked for
@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What ``create`` is asked for: a name, a bundle, what :func:`bundle.read` found in it, and how."""

    container_id: str
    bundle: str
    config: tuple[bytes, Spec]
    systemd_cgroup: bool = False
    pivot: bool = True
    keyring: bool = True
    preserve_fds: int = 0
    environment: tuple[str, ...] = ()
    notify: bool = False
    rootless: bool = False


# %% create
def create(store: Store, order: Order, warn: Warn) -> tuple[Entry, Container]:
    """Make a container from a bundle, short of running its program.

    Its first process is our child and outlives us: it waits at the door.
    When anything fails, nothing is left, and ``poststop`` hooks have run.
    """
    text, spec = order.config
    unit = _unit(order, spec)
    validation.check(spec, order.bundle)
    store.check_free(order.container_id)
    path = unit.path if unit else runtime.cgroup_path(spec, order.container_id)
    _check_cgroup(cgroups.open(path))
    spec = _with_environment(spec, order.environment)
    if order.notify:
        from minidock.runtime import notify

        spec = notify.lend(spec, f"{store.root}/{order.container_id}/{NOTIFY}")
    _warn_of_capabilities(spec, warn)
    with steps.transaction():
        with steps.step("write down the container", call="mkdir(2)", chapter="runtime") as step:
            state = _first_state(order, spec, path)
            if unit:
                state["unit"] = unit.name
            entry = store.create(order.container_id, text, state)
            step.undo(_undo_create, store, entry, spec, warn)
            if order.notify:
                os.mkdir(entry.path(NOTIFY), 0o755)
        return _make(entry, order, spec, unit)


def _unit(order: Order, spec: Spec) -> "Unit | None":
    """``--systemd-cgroup``: the scope that ``cgroupsPath`` names."""
    if not order.systemd_cgroup:
        validation.check_cgroup_path(spec.linux.cgroups_path)
        return None
    from minidock.cgroups import systemd

    unit = systemd.parse(spec.linux.cgroups_path, order.container_id)
    systemd.check_free(unit)
    return unit


def _check_cgroup(cgroup: cgroups.Cgroup) -> None:
    """A cgroup that is there already must be nobody's: at the end all that is in it will be killed.

    And in a frozen one our child would stand still before it could say anything.
    """
    there = cgroup.everybody()
    if there:
        raise Conflict(f"container's cgroup is not empty: {len(there)} process(es) found")
    if cgroup.frozen():
        raise Conflict("container's cgroup unexpectedly frozen")


def _warn_of_capabilities(spec: Spec, warn: Warn) -> None:
    """Those that the host has not, or nobody knows, are left out; the specification wants to hear of it."""
    assert spec.process is not None
    sets, host = spec.process.capabilities, capabilities.host_bounding_set()
    if sets is None:
        return
    wanted = {*sets.bounding, *sets.effective, *sets.permitted, *sets.inheritable, *sets.ambient}
    missing = sorted(name for name in wanted if not capabilities.mask([name]) & host)
    if missing:
        warn(f"cannot grant {', '.join(missing)}: this host has not got it")


def _with_environment(spec: Spec, more: tuple[str, ...]) -> Spec:
    from dataclasses import replace

    assert spec.process is not None
    if not more:
        return spec
    return replace(spec, process=replace(spec.process, env=(*spec.process.env, *more)))


def _first_state(order: Order, spec: Spec, path: str) -> dict[str, Any]:
    from minidock.spec.timestamp import now

    assert spec.root is not None
    return {
        "ociVersion": spec.oci_version,
        "status": Status.CREATING,
        "init_process_pid": 0,
        "init_process_start": 0,
        "created": now(),
        "bundle": order.bundle,
        "rootfs": os.path.join(order.bundle, spec.root.path),
        "annotations": spec.annotations,
        "cgroup": path,
        "cgroup_paths": cgroups.open(path).by_controller(),
    }


def _make(entry: Entry, order: Order, spec: Spec, unit: "Unit | None") -> tuple[Entry, Container]:
    entries = [entry]

    def born(pid: int) -> None:
        found = process_status(pid)
        birth = found[1] if found else 0
        entries.append(entries[-1].write(init_process_pid=pid, init_process_start=birth))

    with entry.listen() as door:
        wishes = Wishes(
            listener=door.fileno(),
            pivot=order.pivot,
            keyring=order.keyring,
            preserve_fds=order.preserve_fds,
            state=entry.for_hooks(Status.CREATING, 0),
            born=born,
            unit=unit,
            rootless=order.rootless,
        )
        made = runtime.create(spec, order.bundle, order.container_id, wishes)
    made.channel.close()
    namespace_paths = {
        kind.flag.name: f"/proc/{made.pid}/ns/{kind.file}" for kind in namespaces.KINDS
    }
    created = entries[-1].write(status=Status.CREATED, namespace_paths=namespace_paths)
    return created, made


def _undo_create(store: Store, entry: Entry, spec: Spec, warn: Warn) -> None:
    cgroup = cgroups.open(entry.cgroup)
    with suppress(FileNotFoundError):
        cgroup.kill()
    _remove_cgroup(entry)
    store.remove(entry.id)
    _poststop(entry, spec.hooks, warn)


# %% start
def start(entry: Entry, warn: Warn, manager: str = "") -> "Readiness | None":
    """Let the program run. Raises when it cannot, and then the container is over.

    With ``manager``, the socket of a service manager, what is returned waits
    until the container says that it is ready, and passes that on.
    """
    status = entry.status()
    if status == Status.STOPPED:
        raise Conflict("cannot start a container that has stopped")
    if status == Status.RUNNING:
        raise Conflict("cannot start an already running container")
    if status != Status.CREATED:
        raise Conflict(f"cannot start a container in the {status} state")
    readiness = None
    if manager and os.path.isdir(entry.path(NOTIFY)):
        from minidock.runtime import notify

        readiness = notify.Readiness(entry.path(NOTIFY), manager)
    with steps.step("start the program", call="execve(2)", chapter="run"):
        _say_start(entry)
    with suppress(FileNotFoundError):
        os.unlink(entry.path("start.sock"))
    _poststart(entry, warn)
    return readiness


def _say_start(entry: Entry) -> None:
    """The channel closes when the program runs; what comes before that is why it does not."""
    try:
        channel = entry.knock()
        channel.send({"start": True})
        converse(channel, None, pid=entry.pid)
    except ConnectionError:  # somebody else was faster, or it has died
        raise Conflict("cannot start an already running container") from None
    channel.close()


def _poststart(entry: Entry, warn: Warn) -> None:
    """A hook that fails ends the container (runtime specification 1.3, and runc ever since)."""
    wanted = entry.config().get("hooks", {}).get("poststart")
    if not wanted:
        return
    hooks = decode(Hooks, {"poststart": wanted}).poststart
    from minidock.runtime import hooks as runner

    try:
        runner.run("poststart", hooks, entry.for_hooks(Status.RUNNING, entry.pid))
    except MiniDockError:
        with suppress(MiniDockError):
            kill(entry, signal.SIGKILL)
        raise


# %% kill
def kill(entry: Entry, number: int, everybody: bool = False) -> None:
    """Send a signal to the first process, or to all in the container."""
    cgroup = cgroups.open(entry.cgroup)
    if everybody:
        if cgroup.exists():
            cgroup.signal(number)
        return
    if not entry.alive():
        raise Conflict("container not running")
    _signal(entry, number)
    if number == signal.SIGKILL:
        if not _has_own_pids(entry):  # nobody else would take the others along
            cgroup.signal(number)
        with suppress(OSError, Unavailable):  # what is frozen does not even die
            if cgroup.frozen():
                cgroup.freeze(False)


def _signal(entry: Entry, number: int) -> None:
    try:
        pidfd = os.pidfd_open(entry.pid)
        try:
            if not entry.alive():  # looked at when we hold it: no other process can be meant
                raise Conflict("container not running")
            signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)
    except ProcessLookupError:
        raise Conflict("container not running") from None


def _has_own_pids(entry: Entry) -> bool:
    wanted = entry.config().get("linux", {}).get("namespaces", [])
    return any(one.get("type") == "pid" and not one.get("path") for one in wanted)


# %% delete
def delete(store: Store, container_id: str, force: bool, warn: Warn) -> None:
    """Remove a container that has stopped; with ``force`` end it first.

    Without an entry there may still be a directory, of a creation that was
    killed: it goes; to ``force`` nothing is missing.
    """
    try:
        entry = store.find(container_id)
    except NotFound:
        store.remove(container_id)
        if force:
            return
        raise
    status = entry.status()
    if status != Status.STOPPED:
        if not force:
            raise Conflict(f"cannot delete container {container_id} that is not stopped: {status}")
        with suppress(Conflict):
            kill(entry, signal.SIGKILL)
    destroy(store, entry, warn)


def destroy(store: Store, entry: Entry, warn: Warn) -> None:
    """Whatever of it is left: processes, cgroup, mounts in the host's namespace, entry; then the hooks."""
    cgroup = cgroups.open(entry.cgroup)
    cgroup.kill()
    _wait_until_dead(entry)
    _remove_cgroup(entry)
    config = entry.config()
    if not any(one["type"] == "mount" for one in config.get("linux", {}).get("namespaces", ())):
        _unmount_below(entry.state["rootfs"])
    store.remove(entry.id)
    _poststop(entry, decode(Hooks, config.get("hooks", {})), warn)


def _remove_cgroup(entry: Entry) -> None:
    """systemd's part of it first: it would find a cgroup missing that it has made."""
    unit = entry.state.get("unit")
    if unit:
        from minidock.cgroups import systemd

        systemd.stop(unit)
    cgroups.open(entry.cgroup).delete()


def _wait_until_dead(entry: Entry) -> None:
    deadline = time.monotonic() + 10
    while entry.alive():
        if time.monotonic() > deadline:
            raise Unavailable("container init still running")
        time.sleep(0.002)


def _unmount_below(root: str) -> None:
    from minidock.linux import syscalls

    with open("/proc/self/mountinfo") as file:
        places = [line.split()[4] for line in file]
    for place in reversed(places):
        if place.startswith(f"{root}/"):
            syscalls.umount(place, syscalls.Umount.DETACH)


def _poststop(entry: Entry, hooks: Hooks, warn: Warn) -> None:
    """All of them, whatever the others say: there is nothing left to stop."""
    if not hooks.poststop:
        return
    from minidock.runtime import hooks as runner

    for hook in hooks.poststop:
        try:
            runner.run("poststop", [hook], entry.for_hooks(Status.STOPPED, 0))
        except (MiniDockError, OSError) as error:
            warn(str(error))


# %% pause and resume
def pause(entry: Entry) -> None:
    """Freeze all its processes where they are."""
    status = entry.status()
    if status not in (Status.RUNNING, Status.CREATED):
        raise Conflict(f"container not running or created: {status}")
    cgroups.open(entry.cgroup).freeze(True)


def resume(entry: Entry) -> None:
    """Let them go on."""
    if entry.status() != Status.PAUSED:
        raise Conflict("container not paused")
    cgroups.open(entry.cgroup).freeze(False)
