"""The starter: makes the container, hands it to the monitor, and is gone.

Starting a container runs through half of the engine's code, and every page
that this writes to (Python counts references *in* the objects) becomes a
copy of its own. The monitor stays for as long as the container does, so it
lets another process do the starting: its first child, which ends as soon as
the program runs. What remains is one message: the pid, and the file
descriptors that the monitor will live with.

The traps. The container's first process must be the *monitor's* child, as
only a parent learns the exit status: ``clone(2)`` with CLONE_PARENT. And the
state must be on disk before the program runs, or a daemon that dies at that
moment would not find the container again.

**Interface:** :func:`start`, :class:`Pipes`, :data:`STATE`, :data:`SOCKET`.

**See:** clone(2) CLONE_PARENT; fork(2) on copy-on-write;
``docs/design/0004-monitor.md`` for what it saves.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

from minidock import steps
from minidock.cgroups import Cgroup
from minidock.monitor import journal
from minidock.paths import read_json, write_json
from minidock.runtime import container as runtime
from minidock.runtime.process import Stdio
from minidock.runtime.sync import Channel, describe
from minidock.spec.codec import decode
from minidock.spec.runtime import Spec
from minidock.spec.timestamp import now

STATE = "state.json"
SOCKET = "monitor.sock"

Request = dict[str, Any]


# %% Standard streams of a program
class Pipes:
    """What a program gets as 0, 1, 2 (``theirs``), and the ends that stay with us."""

    def __init__(self, stdin: bool, terminal: bool) -> None:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._given = [null]
        self.ours: list[int] = []
        self.theirs: Stdio = (null, null, null)
        if not terminal:
            self._make(stdin, null)

    def _make(self, stdin: bool, null: int) -> None:
        out, theirs_out = os.pipe2(os.O_CLOEXEC)
        err, theirs_err = os.pipe2(os.O_CLOEXEC)
        self.ours = [out, err]
        self._given += [theirs_out, theirs_err]
        theirs_in = null
        if stdin:
            theirs_in, ours_in = os.pipe2(os.O_CLOEXEC)
            self.ours.append(ours_in)
            self._given.append(theirs_in)
        self.theirs = (theirs_in, theirs_out, theirs_err)

    def given(self) -> None:
        """The program has its ends; close ours of them, or the streams would never end."""
        for fd in self._given:
            os.close(fd)
        self._given.clear()

    def abandon(self) -> None:
        """Close everything: the program could not be started."""
        self.given()
        for fd in self.ours:
            os.close(fd)


# %% What a runtime gives us
class Made(Protocol):
    """A container that has been created, by our own runtime or by another."""

    pid: int
    cgroup: Cgroup
    console: int | None

    @property
    def program(self) -> str:
        """The other runtime's program; empty for our own."""

    def start(self) -> None:
        """Let the program run."""


# %% The starter's whole life
def start(request: Request, report: Channel, monitor: Channel) -> NoReturn:
    """Start the container of ``request``; tell the daemon (``report``) and the ``monitor``.

    A failure is told to the daemon; the monitor sees that its channel closes.
    """
    try:
        with (
            steps.adopt(request["trace"], lambda record: report.send({"step": record}), "monitor"),
            steps.transaction(),
        ):
            message, fds = _start(Path(request["directory"]), request.get("restarts", 0))
            monitor.send(message, fds)
    except BaseException as error:  # noqa: BLE001 (the daemon must hear of everything, even a bug)
        _tell(report, describe(error))
        os._exit(1)
    _tell(report, {"started": message["state"]})
    os._exit(0)


def _tell(report: Channel, message: dict[str, Any]) -> None:
    """A daemon that has died in the meantime will find ``state.json``, or nothing."""
    with suppress(OSError):
        report.send(message)


def _start(directory: Path, restarts: int) -> tuple[dict[str, Any], list[int]]:
    """Everything up to the running program; returns what the monitor needs to know, and to hold.

    At a restart it has the log and its socket already, and only the streams are new.
    """
    known = read_json(directory / "container.json")
    config, policy = known["Config"], known["HostConfig"]["RestartPolicy"]
    keeps = [] if restarts else [_listen(directory).detach(), *journal.open_files(directory)]
    pipes = Pipes(bool(config.get("OpenStdin")), bool(config.get("Tty")))
    made = _create(directory, pipes.theirs, known["HostConfig"].get("Runtime") or "minidock")
    state = {
        "pid": made.pid,
        "monitor": os.getppid(),
        "started_at": now(),
        "status": "running",
        "restarts": restarts,
    }
    record(directory, state)
    made.start()
    ours = pipes.ours if made.console is None else [made.console]
    message = {
        "state": state,
        "cgroup": made.cgroup.path,
        "terminal": made.console is not None,
        "stdin": bool(config.get("OpenStdin")),
        "once": bool(config.get("StdinOnce")),
        "runtime": made.program,
        "policy": [policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0],
    }
    return message, [*keeps, *ours]


def _create(directory: Path, stdio: Stdio, name: str) -> Made:
    """Have the runtime ``name`` make the container from its bundle, this directory."""
    spec = decode(Spec, read_json(directory / "config.json"))
    if name != "minidock":
        return _have_created(directory, stdio, name, spec)
    state = {"ociVersion": spec.oci_version, "id": directory.name, "bundle": str(directory)}
    wishes = runtime.Wishes(stdio=stdio, sibling=True, state={**state, "status": "created"})
    return runtime.create(spec, str(directory), directory.name, wishes)


def _have_created(directory: Path, stdio: Stdio, name: str, spec: Spec) -> Made:
    """The same by somebody else's program; what it leaves behind falls to the monitor, a subreaper."""
    from minidock.runtime import foreign

    program = foreign.find(name)
    assert program is not None and spec.process is not None
    terminal, cgroup = spec.process.terminal, spec.linux.cgroups_path
    return foreign.Runtime(program, str(directory)).create(stdio, terminal, cgroup)


# %% What the daemon will look for
def record(directory: Path, state: dict[str, Any]) -> None:
    """Write ``state.json``. That something runs is nothing to keep through a power failure."""
    with steps.step("write down the state", call="rename(2) state.json", chapter="run") as step:
        write_json(directory / STATE, state, durable=state["status"] == "exited")
        step.undo((directory / STATE).unlink, True)


def _listen(directory: Path) -> socket.socket:
    """A socket's path must fit into 108 bytes, and ours may not: so go through /proc/self/fd."""
    with steps.step("listen for the daemon", call="bind(2) monitor.sock", chapter="run") as step:
        path = directory / SOCKET
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        listener.bind(f"/proc/self/fd/{fd}/{SOCKET}")
        step.undo(path.unlink, True)
        os.close(fd)
        listener.listen()
    return listener
