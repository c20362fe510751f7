"""``create`` and ``run``: a container from a bundle.

``create`` ends when the container waits to be started. ``run`` starts it,
too, and unless ``--detach`` was given stays: passes signals on, lends the
terminal, returns the exit status and cleans up.

**Interface:** :func:`create`, :func:`run`.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from minidock import steps
from minidock.cli.flags import Flag
from minidock.cli.runtime import Call
from minidock.cli.runtime.plumbing import (
    check_terminal,
    listen_fds,
    send_console,
    trace,
    wait_until_ready,
    write_pid_file,
)
from minidock.errors import InvalidParameter
from minidock.runtime import lifecycle
from minidock.runtime.bundle import read as read_bundle
from minidock.runtime.container import Container
from minidock.runtime.lifecycle import Order
from minidock.runtime.store import Entry, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidock.cli.flags import Values

CREATE = [
    Flag("bundle", "b", "string", "path to the root of the bundle directory"),
    Flag("console-socket", "", "string", "socket which will receive the terminal's master"),
    Flag("pid-file", "", "string", "specify the file to write the process id to"),
    Flag("no-pivot", "", "bool", "do not use pivot root to jail process inside rootfs"),
    Flag("no-new-keyring", "", "bool", "do not create a new session keyring for the container"),
    Flag("preserve-fds", "", "int", "Pass N additional file descriptors to the container"),
]

RUN = [
    *CREATE,
    Flag("detach", "d", "bool", "detach from the container's process"),
    Flag("keep", "", "bool", "do not delete the container after it exits"),
    Flag("no-subreaper", "", "bool", "disable the use of the subreaper"),
]


# %% create
def create(call: Call) -> int:
    """Make it; whoever looks at the pid file can look at the container, too."""
    values, (container_id,) = call.parse(CREATE, 1, 1)
    _make(call, values, container_id, detach=True)
    return 0


def _make(
    call: Call, values: Values, container_id: str, detach: bool
) -> tuple[Store, Entry, Container]:
    bundle = os.path.abspath(values["bundle"] or ".")
    more, environment = listen_fds()
    config = read_bundle(bundle)
    order = Order(
        container_id,
        bundle,
        config,
        systemd_cgroup=call.values["systemd-cgroup"],
        pivot=not values["no-pivot"],
        keyring=not values["no-new-keyring"],
        preserve_fds=more + values["preserve-fds"],
        environment=environment,
        notify="NOTIFY_SOCKET" in os.environ,
        rootless=call.rootless,
    )
    for fd in range(3 + more, 3 + order.preserve_fds):
        if not os.path.exists(f"/proc/self/fd/{fd}"):
            raise InvalidParameter(f"unable to stat preserved-fd {fd - 3 - more}: it is not open")
    if config[1].process is not None:
        check_terminal(config[1].process.terminal, detach, values["console-socket"])
    store = Store(call.root)
    with trace(call.log), steps.transaction():
        entry, made = lifecycle.create(store, order, call.log.warn)
        with steps.step("hand over", call="sendmsg(2)", chapter="runtime") as step:
            step.undo(lifecycle.destroy, store, entry, call.log.warn)
            if values["console-socket"] and made.console is not None:
                send_console(values["console-socket"], made.console)
            if values["pid-file"] and call.name == "create":
                write_pid_file(values["pid-file"], made.pid)
    return store, entry, made


# %% run
def run(call: Call) -> int:
    """create, start, and unless detached: wait, delete."""
    values, (container_id,) = call.parse(RUN, 1, 1)
    detach = values["detach"]
    if not detach and not values["no-subreaper"]:
        _become_subreaper()
    store, entry, made = _make(call, values, container_id, detach)
    if detach:
        _start(call, values, store, entry, made)
        return 0
    from minidock.cli.runtime.foreground import Foreground

    with Foreground(made.pid, made.console) as front:
        _start(call, values, store, entry, made)
        status = front.wait()
    if not values["keep"]:
        with trace(call.log):
            lifecycle.destroy(store, entry, call.log.warn)
    return status


def _start(call: Call, values: Values, store: Store, entry: Entry, made: Container) -> None:
    """A container that cannot be started is over: nothing is left of it but ``--keep`` says so."""
    try:
        with trace(call.log):
            readiness = lifecycle.start(entry, call.log.warn, os.environ.get("NOTIFY_SOCKET", ""))
            if values["pid-file"]:
                write_pid_file(values["pid-file"], made.pid)
            wait_until_ready(
                readiness, call.log, made.pid, made.pid if values["detach"] else os.getpid()
            )
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(made.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(made.pid, 0)
        if not values["keep"]:
            lifecycle.destroy(store, entry, call.log.warn)
        raise


def _become_subreaper() -> None:
    """Orphans of the container fall to us (when it has no process 1 of its own), not to the host's init."""
    from minidock.linux.syscalls import prctl

    prctl(36, 1, name="PR_SET_CHILD_SUBREAPER")
