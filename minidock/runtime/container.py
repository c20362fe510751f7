"""Outside: making the child, and what only its parent may do for it.

**Interface:** :func:`create`, :class:`Container`, :class:`Wishes`.

Like runc, the runtime runs in a process of its own that ends when its work
is done; the container's first process must be the child of the one that
stays, which CLONE_PARENT arranges.

The trap is a child that dies half-way: its parent waits for a message that
never comes. It does not, because the channel closes with the child, and the
end of the stream is an answer too. The other trap is the parent's own
death: the child waits on the same channel and goes when it closes.

**See:** clone(2), cgroups(7); OCI runtime specification, runtime.md,
"Lifecycle", steps 2 to 8.
"""

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from minidock import cgroups, namespaces, steps
from minidock.cgroups.entrance import Entrance
from minidock.errors import Forbidden, Unavailable
from minidock.linux import syscalls
from minidock.linux.syscalls import Clone
from minidock.rootfs import devices
from minidock.runtime import init
from minidock.runtime.sync import Channel, describe, pair, rebuild
from minidock.spec.runtime import DeviceRule, Resources, Spec

if TYPE_CHECKING:
    from minidock.cgroups.systemd import Scope, Unit

Stdio = tuple[int, int, int]


# %% What a caller may wish for, beside the configuration
@dataclass(frozen=True, slots=True, eq=False)
class Wishes:
    """How a container is to be made.

    ``sibling``: its first process shall be the child of the caller's parent.
    ``listener``: a socket on which it waits for the word to start, once its
    maker has gone (without one, it goes when its maker does). ``state``: what
    hooks are told. ``born`` is called with the pid as soon as there is one.
    ``unit`` is for systemd to make, and its cgroup is the container's. With
    ``rootless``, a cgroup that may not be made is done without.
    """

    stdio: Stdio = (0, 1, 2)
    sibling: bool = False
    listener: int | None = None
    pivot: bool = True
    keyring: bool = True
    preserve_fds: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    born: Callable[[int], None] = lambda pid: None
    unit: "Unit | None" = None
    rootless: bool = False


# %% A container that has been created
@dataclass(slots=True, eq=False)
class Container:
    """The first process, its cgroup, and the terminal's master if it has one."""

    pid: int
    cgroup: cgroups.Cgroup
    console: int | None
    channel: Channel

    @property
    def program(self) -> str:
        """No other runtime's."""
        return ""

    def start(self) -> None:
        """Let the child execute its program; returns when it has, raises when it cannot."""
        with steps.step("start the program", call="execve(2)", chapter="run"):
            self.channel.send({"start": True})
            converse(self.channel, None, pid=self.pid)
            self.channel.close()


# %% Create
def create(spec: Spec, bundle: str, container_id: str, wishes: Wishes) -> Container:
    """Make the container that ``spec`` describes, short of running its program.

    Call it inside a transaction: what it acquires (the cgroup, the process)
    is given back by undo. ``spec`` must have been checked. Raises the errors
    of the first process as its own.
    """
    assert spec.root is not None
    scope = None if wishes.unit is None else _open_scope(spec, container_id, wishes.unit)
    path = cgroup_path(spec, container_id) if wishes.unit is None else wishes.unit.path
    cgroup, entrance = _make_cgroup(path, spec.linux.resources, wishes.rootless)
    trees = _open_trees(spec)
    ours, theirs = pair()
    work = init.Work(
        spec=spec,
        entrance=entrance,
        root=os.path.join(bundle, spec.root.path),
        bundle=bundle,
        container_id=container_id,
        wishes=wishes,
        trees=trees,
        cgroups=_cgroup_view(spec, cgroup),
        trace=steps.export(),
    )

    def be_first() -> NoReturn:
        ours.close()  # the parent's end, or we would never see it close
        init.main(work, theirs)

    pid = _make_first(spec, wishes, entrance.born, be_first)
    theirs.close()
    entrance.close()
    for tree in trees.values():
        os.close(tree)
    wishes.born(pid)
    if scope is not None:
        scope.close()
    if namespaces.has_new(spec.linux.namespaces, "user"):
        _map_ids(pid, spec, ours)
    console = converse(ours, "ready", lambda: _run_hooks(spec, {**wishes.state, "pid": pid}))
    return Container(pid, cgroup, console, ours)


def _make_cgroup(
    path: str, resources: Resources, rootless: bool
) -> tuple[cgroups.Cgroup, Entrance]:
    """And the way in. Without the right to make it, there is neither; but then no limit may be asked for."""
    try:
        cgroup = cgroups.create(path, _with_devices(resources))
        return cgroup, cgroup.entrance()
    except OSError as error:
        if not rootless or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        if replace(resources, devices=()) != Resources():
            reason = "container could not join or create cgroup"
            raise Forbidden(f"rootless: cannot set limits: {reason}: {error}") from None
        return cgroups.open(path), Entrance(None, ())


def _with_devices(resources: Resources) -> Resources:
    """Nothing at first, then what the configuration grants, then what no program can do without."""
    rules = (DeviceRule(False), *resources.devices, *devices.ALLOWED)
    return replace(resources, devices=rules)


def _open_scope(spec: Spec, container_id: str, unit: "Unit") -> "Scope":
    from minidock.cgroups import systemd

    with steps.step(
        "ask systemd for a scope", call="systemd-run(1)", chapter="cgroups", unit=unit.name
    ) as step:
        about = f"libcontainer container {container_id}"
        scope = systemd.Scope(unit, spec.linux.resources, spec.annotations, about)
        step.undo(systemd.stop, unit.name)
    return scope


def cgroup_path(spec: Spec, container_id: str) -> str:
    """Where its cgroup is; a relative path begins at the root, too (the specification leaves it to us)."""
    path = spec.linux.cgroups_path or container_id
    return "/" + os.path.normpath(path).lstrip("/")


def _cgroup_view(spec: Spec, cgroup: cgroups.Cgroup) -> dict[str, str] | None:
    """What the container may see of the trees, if it has no cgroup namespace to see to it."""
    if namespaces.has(spec.linux.namespaces, "cgroup"):
        return None
    return {where.removesuffix(cgroup.path): where for where in cgroup.directories()}


def _open_trees(spec: Spec) -> dict[int, int]:
    """Mounts that only the host can open: see :mod:`.trees`. Most containers have none."""
    mapped = any(mount.uid_mappings or "idmap" in "".join(mount.options) for mount in spec.mounts)
    if not mapped and not namespaces.has(spec.linux.namespaces, "user"):
        return {}
    from minidock.runtime import trees

    return trees.open_all(spec)


def _map_ids(pid: int, spec: Spec, child: Channel) -> None:
    """Say who is who in its user namespace; if it has died meanwhile, the channel has the reason."""
    with suppress(ProcessLookupError, BrokenPipeError, ConnectionResetError):
        namespaces.write_id_maps(pid, spec.linux.uid_mappings, spec.linux.gid_mappings)
        child.send({"mapped": True})


def _run_hooks(spec: Spec, state: dict[str, Any]) -> None:
    """The two kinds that run out here when the namespaces are there and furnished."""
    from minidock.runtime import hooks

    hooks.run("prestart", spec.hooks.prestart, state)
    hooks.run("createRuntime", spec.hooks.create_runtime, state)


# %% The first process
def _make_first(
    spec: Spec, wishes: Wishes, cgroup: int | None, child: Callable[[], NoReturn]
) -> int:
    """Clone it into ``cgroup``: directly, or by a helper that first goes where it is to be born.

    The helper is in the cgroup, too, as later it might not have the right: in
    version 2 it counts for a moment against the limit of processes.
    """
    wanted = spec.linux.namespaces
    parent = Clone.PARENT if wishes.sibling else Clone(0)
    if wishes.sibling and namespaces.harmless(wanted):
        namespaces.join(wanted)  # the caller is a process for just this: no need to come home
        return _clone(spec, parent, cgroup, child)
    if not namespaces.needs_helper(wanted):
        return _clone(spec, parent, cgroup, child)
    reports, channel = pair()  # of its own: the child holds the other one, and would hide its death

    def child_alone() -> NoReturn:
        channel.close()
        child()

    helper = syscalls.clone(parent, cgroup)
    if helper == 0:
        reports.close()
        _help(spec, child_alone, channel, steps.export())
    channel.close()
    pid = _hear_helper(reports)
    reports.close()
    with suppress(ChildProcessError):  # a sibling is for our parent to bury
        os.waitpid(helper, 0)
    return pid


def _clone(spec: Spec, extra: Clone, cgroup: int | None, child: Callable[[], NoReturn]) -> int:
    flags = namespaces.flags(spec.linux.namespaces)
    with steps.step(
        "clone the container's first process",
        call="clone3(2)",
        chapter="namespaces",
        flags=" ".join(f"CLONE_{flag.name}" for flag in Clone if flag in flags),
    ) as step:
        pid = syscalls.clone(flags | extra, cgroup)
        if pid == 0:
            child()
        step.undo(end, pid)
    return pid


def _help(
    spec: Spec, child: Callable[[], NoReturn], channel: Channel, trace: dict[str, Any]
) -> NoReturn:
    """The helper: join what exists, clone the first process as a sibling of ours, and be gone."""
    try:
        with steps.adopt(trace, lambda record: channel.send({"step": record}), "helper"):
            namespaces.join(spec.linux.namespaces)
            if namespaces.has_new(spec.linux.namespaces, "time"):
                namespaces.make_time_namespace(spec.linux.time_offsets)
            pid = _clone(spec, Clone.PARENT, None, child)
        channel.send({"pid": pid})
    except BaseException as error:  # noqa: BLE001 (the parent must hear of everything, even of a bug)
        channel.send(describe(error))
    finally:
        os._exit(0)


def _hear_helper(channel: Channel) -> int:
    """Steps, and then the pid of what it made."""
    with steps.step("take charge of it", call="recvmsg(2)", chapter="namespaces") as step:
        while True:
            message, _ = channel.receive()
            if message is None:
                raise Unavailable("the helper died before it had made the first process")
            if "step" in message:
                steps.relay(message["step"])
            elif "error" in message:
                raise rebuild(message)
            else:
                step.undo(end, message["pid"])
                return int(message["pid"])


# %% Listening to the child
def converse(
    channel: Channel,
    until: str | None,
    hooks: Callable[[], None] = lambda: None,
    pid: int = 0,
) -> int | None:
    """Hear the child out until it says ``until``, or with None until it closes the channel.

    Returns the terminal's master, if it sent one. Raises what the child
    raises. ``hooks`` is called when it says that it is time.
    """
    console: int | None = None
    while True:
        message, fds = channel.receive()
        if message is None:
            if until is None:
                return console
            raise Unavailable("the container's first process died before it was ready")
        if "step" in message:
            steps.relay(message["step"])
        elif "console" in message:
            (console,) = fds
        elif "seccomp" in message:
            from minidock import seccomp

            seccomp.forward(message["seccomp"], fds[0], pid)
        elif "error" in message:
            raise rebuild(message)
        elif message.get("hooks"):
            hooks()
            channel.send({"hooked": True})
        elif until is not None and message.get(until):
            return console


def end(pid: int) -> None:
    """Kill a child and wait for it; it may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def exit_status(status: int) -> int:
    """The status that a shell would show for the wait status ``status``: 128 + n for signal n."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
