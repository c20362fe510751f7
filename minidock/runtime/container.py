"""Outside: making the child, and what only its parent may do for it.

**Interface:** :func:`create`, :class:`Container`.

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

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from minidock import cgroups, namespaces, seccomp, steps
from minidock.errors import InvalidParameter, Unavailable
from minidock.linux import syscalls
from minidock.linux.syscalls import Clone
from minidock.runtime import init
from minidock.runtime.process import Stdio
from minidock.runtime.sync import Channel, pair, rebuild
from minidock.spec.runtime import Spec


# %% A container that has been created
@dataclass(slots=True)
class Container:
    """The first process, its cgroup, and the terminal's master if it has one."""

    pid: int
    cgroup: cgroups.Cgroup
    console: int | None
    channel: Channel
    state: dict[str, Any]

    def tell_listener(self, about: dict[str, str], listener: int) -> None:
        """The first process has a filter that asks somebody about its calls: hand over whom."""
        try:
            seccomp.forward(about, listener, self.pid, self.state)
        finally:
            os.close(listener)

    def start(self) -> None:
        """Let the child execute its program; returns when it has, raises when it cannot."""
        with steps.step("start the program", call="execve(2)", chapter="run"):
            self.channel.send({"start": True})
            converse(self.channel, None, self.tell_listener)
            self.channel.close()


# %% Create
def create(spec: Spec, bundle: str, container_id: str, stdio: Stdio) -> Container:
    """Make the container that ``spec`` describes, short of running its program.

    Its first process becomes a child of the caller's *parent*. Call it inside
    a transaction: what it acquires (the cgroup, the process) is given back by
    undo. Raises the errors of the first process as its own.
    """
    _check(spec)
    assert spec.root is not None
    root = os.path.join(bundle, spec.root.path)
    path = spec.linux.cgroups_path or f"/{container_id}"
    cgroup = cgroups.create(path, spec.linux.resources)
    ours, theirs = pair()
    with namespaces.joined(spec.linux.namespaces):
        pid = _clone(spec, lambda: _be_first(spec, root, stdio, ours, theirs))
    theirs.close()
    _place(pid, spec, cgroup)
    ours.send({"placed": True})
    console = converse(ours, "ready")
    return Container(pid, cgroup, console, ours, _state(spec, bundle, container_id, pid))


def _state(spec: Spec, bundle: str, container_id: str, pid: int) -> dict[str, Any]:
    """OCI's state of the container (runtime.md, "State")."""
    return {
        "ociVersion": spec.oci_version,
        "id": container_id,
        "status": "created",
        "pid": pid,
        "bundle": bundle,
        "annotations": spec.annotations,
    }


def _be_first(spec: Spec, root: str, stdio: Stdio, ours: Channel, theirs: Channel) -> None:
    """In the child: let go of the parent's end, or we would never see it close."""
    ours.close()
    init.main(spec, root, stdio, theirs, steps.export())


def _check(spec: Spec) -> None:
    if spec.root is None or spec.process is None:
        raise InvalidParameter("config.json: root and process are required")
    kinds = [namespace.type for namespace in spec.linux.namespaces]
    if len(set(kinds)) < len(kinds):
        raise InvalidParameter("linux.namespaces: a type is given twice")


def _clone(spec: Spec, child: Callable[[], None]) -> int:
    flags = namespaces.flags(spec.linux.namespaces)
    with steps.step(
        "clone the container's first process",
        call="clone(2)",
        chapter="namespaces",
        flags=" ".join(f"CLONE_{flag.name}" for flag in Clone if flag in flags),
    ) as step:
        pid = syscalls.clone(flags | Clone.PARENT)
        if pid == 0:
            child()
        step.undo(end, pid)
    return pid


def _place(pid: int, spec: Spec, cgroup: cgroups.Cgroup) -> None:
    """What the child cannot do for itself: enter its cgroup, and say who is who in it."""
    with steps.step(
        "put the process in its cgroup",
        call="write(2) cgroup.procs",
        chapter="cgroups",
        pid=pid,
    ):
        cgroup.add(pid)
    if namespaces.has_new(spec.linux.namespaces, "user"):
        namespaces.write_id_maps(pid, spec.linux.uid_mappings, spec.linux.gid_mappings)


# %% Listening to the child
def converse(
    channel: Channel,
    until: str | None,
    tell_listener: Callable[[dict[str, str], int], None] | None = None,
) -> int | None:
    """Hear the child out until it says ``until``, or with None until it closes the channel.

    Returns the terminal's master, if it sent one. Raises what the child raises.
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
        elif "seccomp" in message and tell_listener is not None:
            tell_listener(message["seccomp"], fds[0])
        elif "error" in message:
            raise rebuild(message)
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
