"""Exec: a second program in a running container.

There is nothing to build: the namespaces exist and are entered with
``setns(2)``. But entering the *pid* namespace counts only for children, so
a helper enters and then makes one. ``CLONE_PARENT`` gives that child not to
the helper but to the helper's parent, the monitor, who wants its exit
status; the helper can then go.

The trap: between entering and executing, this process still is our
interpreter, in a place where the container's processes can see it. It makes
itself undumpable, or a hostile container could reach through its
``/proc/<pid>/exe`` to the host's interpreter (CVE-2019-5736).

**Interface:** :func:`execute`.

**See:** setns(2), clone(2) CLONE_PARENT, prctl(2) PR_SET_DUMPABLE.
"""

import errno
import json
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from minidock import namespaces, steps, terminal
from minidock.cgroups.entrance import Entrance
from minidock.errors import Conflict, InvalidParameter, Unavailable
from minidock.linux import syscalls
from minidock.linux.syscalls import Clone, prctl
from minidock.runtime import process
from minidock.runtime.process import Stdio
from minidock.runtime.sync import Channel, describe, pair, rebuild
from minidock.spec.codec import decode
from minidock.spec.runtime import Process
from minidock.spec.seccomp import Seccomp

if TYPE_CHECKING:
    from minidock.seccomp import Filter

PR_SET_DUMPABLE = 4


# %% The parent's side
class Joins(Protocol):
    """Where the process goes: a cgroup, or several of them in several trees."""

    def entrance(self) -> Entrance:
        """The way in."""


def execute(
    init: int, paper: int, stdio: Stdio, cgroup: Joins, preserve_fds: int = 0
) -> tuple[int, int | None]:
    """Run the process that is described, as JSON, in the file ``paper`` beside the process ``init``.

    Returns the new process's pid (a child of the caller) and the terminal's
    master, if it has one. Raises the errors of :func:`process.prepare`.
    """
    entrance = cgroup.entrance()
    ours, theirs = pair()
    helper = _clone_into(entrance)
    if helper == 0:
        order = Order(init, paper, stdio, entrance, preserve_fds)
        ours.close()
        _enter_and_clone(order, theirs, steps.export())
    theirs.close()
    entrance.close()
    try:
        return _listen(ours)
    finally:
        os.waitpid(helper, 0)
        ours.close()


def _clone_into(entrance: Entrance) -> int:
    """Version 2 may refuse: a group that passes controllers on to others below it holds nobody."""
    try:
        return syscalls.clone(cgroup=entrance.born)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        place = os.readlink(f"/proc/self/fd/{entrance.born}")
        raise Conflict(
            f"adding pid {os.getpid()} to cgroups {place}/cgroup.procs: device or resource busy"
        ) from None


def _listen(channel: Channel) -> tuple[int, int | None]:
    """Hear helper and child out; the channel closes when the one has gone and the other executes.

    Who is to answer for the kernel must hear of it as soon as we know which
    process it is: it may be that very execve(2) which waits for the answer.
    """
    pid, console = 0, None
    asks: tuple[dict[str, Any], int] | None = None
    failure: Exception | None = None
    while True:
        message, fds = channel.receive()
        if message is None:
            break
        if "step" in message:
            steps.relay(message["step"])
        elif "console" in message:
            (console,) = fds
        elif "pid" in message:
            pid = int(message["pid"])
        elif "seccomp" in message:
            asks = message["seccomp"], fds[0]
        else:
            failure = rebuild(message)
        if asks is not None and pid:
            failure = _ask(*asks, pid) or failure
            asks = None
    if failure is None and pid:
        return pid, console
    if asks is not None:
        os.close(asks[1])
    if console is not None:
        os.close(console)
    if pid:
        os.waitpid(pid, 0)
    raise failure or Unavailable("exec: the helper died before the program ran")


def _ask(about: dict[str, Any], listener: int, pid: int) -> Exception | None:
    """Tell the container's listener; without one, the program would wait for an answer for ever."""
    from minidock import seccomp

    try:
        seccomp.forward(about, listener, pid)
    except Unavailable as error:
        os.kill(pid, signal.SIGKILL)
        return error
    return None


# %% The helper: enters, and makes the child
@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What :func:`execute` was asked for."""

    init: int
    paper: int
    stdio: Stdio
    entrance: Entrance
    preserve_fds: int


def _enter_and_clone(order: Order, channel: Channel, trace: dict[str, Any]) -> NoReturn:
    try:
        prctl(PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")
        with steps.adopt(trace, lambda record: channel.send({"step": record}), "exec"):
            with open(order.paper, "rb", closefd=False) as file:
                asked = json.load(file)
            spec = decode(Process, asked)
            filtered = _filter(asked, channel)
            process.adjust_oom_score(spec.oom_score_adj)
            affinity = spec.exec_cpu_affinity
            order.entrance.enter()
            if affinity is not None and affinity.final:
                os.sched_setaffinity(0, processors(affinity.final))
            process.seal()
            namespaces.enter(order.init)
            pid = syscalls.clone(Clone.PARENT)
            if pid == 0:
                _become_program(spec, filtered, order, channel)
        channel.send({"pid": pid})
    except BaseException as error:  # noqa: BLE001 (the parent must hear of everything, even of a bug)
        channel.send(describe(error))
    finally:
        os._exit(0)


def _filter(asked: dict[str, Any], channel: Channel) -> "Filter | None":
    """The container's own filter, which the paper has beside the process, with the container's state."""
    if "seccomp" not in asked:
        return None
    from minidock import seccomp

    rules = decode(Seccomp, asked["seccomp"])
    return seccomp.prepare(rules, channel.send, asked.get("state", {}))


def processors(text: str) -> set[int]:
    """``0-2,4`` as a set of numbers."""
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InvalidParameter(f"execCPUAffinity: {text!r} is not a list like 0-2,4")
        found.update(range(int(first), int(last or first) + 1))
    return found


# %% The child: becomes the program
def _become_program(
    spec: Process, filtered: "Filter | None", order: Order, channel: Channel
) -> NoReturn:
    try:
        os.setsid()
        if spec.terminal:
            master, slave, _ = terminal.open_pair("/dev/pts/ptmx")
            channel.send({"console": True}, [master])
            os.close(master)
            process.take_terminal(slave, spec)
        else:
            process.take_stdio(order.stdio)
        program = process.prepare(spec, filtered)
        process.run(program, spec, order.preserve_fds, filtered)
    except BaseException as error:  # noqa: BLE001 (as above)
        channel.send(describe(error))
    finally:
        os._exit(1)
