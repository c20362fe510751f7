"""Exec: a second program in a running container.

Like a container, an exec is first described and then started, by two
requests. Unlike a container, it lives in memory only: when its container is
over, so is everything that was executed in it.

The trap is failure. A client that starts an exec has its connection turned
into a raw stream before the program is looked for, so "not found" cannot be
an HTTP status any more: it is written to the stream, as Docker does, and
the exit status (127 or 126) is what the client asks for afterwards.

**Interface:** :class:`Execs`.

**See:** Engine API, "Exec"; moby ``daemon/exec.go``.
"""

import json
import os
import secrets
import socket
import struct
from dataclasses import dataclass, field, replace
from threading import Condition
from typing import Any

from minidock import steps
from minidock.engine import bundle
from minidock.engine.container import Container
from minidock.engine.lifecycle import Lifecycle
from minidock.engine.monitors import ask
from minidock.engine.request import merge_environment
from minidock.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    InvalidParameter,
    MiniDockError,
    NotFound,
)
from minidock.paths import read_json
from minidock.spec import runtime as oci
from minidock.spec.codec import decode, encode

Body = dict[str, Any]

KEPT = 256


# %% One exec
@dataclass(slots=True, eq=False)
class Exec:
    """What was asked for (``body``) and what came of it."""

    id: str
    container: Container
    body: Body
    started: bool = False
    pid: int = 0
    exit_code: int | None = None
    changed: Condition = field(default_factory=Condition)

    @property
    def running(self) -> bool:
        """Whether it has started and not ended."""
        return self.pid != 0 and self.exit_code is None and self.container.running

    def ended(self, code: int) -> None:
        """It has ended; whoever waits is woken."""
        with self.changed:
            self.exit_code = code
            self.changed.notify_all()


# %% All execs of an engine
class Execs:
    """Creates and starts them; the oldest that are over are forgotten."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._execs: dict[str, Exec] = {}
        lifecycle.exec_ended = self._ended  # type: ignore[method-assign]

    def create(self, container: Container, body: Body) -> str:
        """Describe one; returns its id."""
        container.must_go_on()
        command = body.get("Cmd") or []
        if not command:
            raise InvalidParameter("No exec command specified")
        exec_id = secrets.token_hex(32)
        for old in list(self._execs.values())[:-KEPT]:
            if old.exit_code is not None or not old.container.running:
                self._execs.pop(old.id, None)
        self._execs[exec_id] = Exec(exec_id, container, body)
        self._tell(self._execs[exec_id], f"exec_create: {' '.join(command)}")
        return exec_id

    def find(self, exec_id: str) -> Exec:
        """By its id, or an unambiguous beginning of it."""
        matches = [one for key, one in self._execs.items() if key.startswith(exec_id)]
        if len(matches) != 1 or not exec_id:
            raise NotFound(f"No such exec instance: {exec_id}")
        return matches[0]

    # %% Starting one
    def check(self, exec_id: str) -> Exec:
        """The exec, if it may be started now."""
        one = self.find(exec_id)
        if one.started:
            raise Conflict(f"exec command {exec_id} is already running or has ended")
        one.container.must_go_on()
        return one

    def start(self, exec_id: str, client: socket.socket | None, body: Body, early: bytes) -> None:
        """Run it; ``client``, if any, is handed over to the monitor (the caller's copy is closed)."""
        one = self.check(exec_id)
        one.started = True
        self._tell(one, f"exec_start: {' '.join(one.body['Cmd'])}")
        try:
            one.pid = self._run(one, client, body, early)
        except (MiniDockError, OSError) as error:
            one.ended(_status_of(error))
            if client is None:
                raise
            _say(
                client,
                bool(one.body.get("Tty")),
                f"OCI runtime exec failed: {error}\r\n",
            )

    def _run(self, one: Exec, client: socket.socket | None, body: Body, early: bytes) -> int:
        process = self._process(one, body)
        paper = os.memfd_create("exec", os.MFD_CLOEXEC)
        with open(paper, "wb") as file:
            own = read_json(one.container.directory / "config.json")
            filtered = own["linux"].get("seccomp")
            written = encode(process)
            if filtered:
                state = {"id": one.container.id, "status": "running", "pid": one.container.pid}
                written |= {"seccomp": filtered, "state": state}
            file.write(json.dumps(written).encode())
            file.flush()
            os.lseek(paper, 0, os.SEEK_SET)
            request = {
                "request": "exec",
                "exec": one.id,
                "tty": bool(one.body.get("Tty")),
                "trace": steps.export(),
                "stdin": bool(one.body.get("AttachStdin")),
                "stdout": bool(one.body.get("AttachStdout")),
                "stderr": bool(one.body.get("AttachStderr")),
                "early": early.decode("latin-1"),
            }
            fds = [paper] if client is None else [paper, client.fileno()]
            return int(ask(one.container, request, fds)["pid"])

    def _process(self, one: Exec, body: Body) -> oci.Process:
        """The container's own process, with what the exec wants otherwise."""
        asked, container = one.body, one.container
        config = container.config
        config |= {
            "Entrypoint": None,
            "Cmd": asked["Cmd"],
            "Tty": bool(asked.get("Tty")),
            "User": asked.get("User") or config["User"],
            "WorkingDir": asked.get("WorkingDir") or config["WorkingDir"],
            "Env": merge_environment(config["Env"], asked.get("Env") or []),
        }
        own = read_json(container.directory / "config.json")
        spec = decode(oci.Spec, own)
        hostname = spec.hostname or os.uname().nodename
        process = bundle.process(container, container.directory / "rootfs", config, hostname)
        if asked.get("Privileged"):
            process = replace(
                process, capabilities=bundle.capability_sets({**container.host_config, "Privileged": True}, process.user)
            )  # fmt: skip
        size = body.get("ConsoleSize") or asked.get("ConsoleSize")
        console = oci.ConsoleSize(*size) if size and process.terminal else None
        arguments = tuple(asked["Cmd"])
        return replace(process, console_size=console, args=arguments, oom_score_adj=None)

    # %% Afterwards
    def _ended(self, container: Container, exec_id: str, code: int) -> None:
        one = self._execs.get(exec_id)
        if one is not None:
            one.ended(code)
            self._tell(one, "exec_die", exitCode=str(code))

    def resize(self, exec_id: str, height: int, width: int) -> None:
        """Its window has another size."""
        one = self.find(exec_id)
        if one.running:
            request = {
                "request": "resize",
                "exec": one.id,
                "tty": bool(one.body.get("Tty")),
                "height": height,
                "width": width,
            }
            ask(one.container, request)

    def inspect(self, exec_id: str) -> Body:
        """The API's ``ExecInspectResponse``. Right after the end of the stream it waits for the status."""
        one = self.find(exec_id)
        if one.running:
            with one.changed:
                one.changed.wait_for(lambda: one.exit_code is not None, timeout=0.02)
        command = one.body["Cmd"]
        return {
            "ID": one.id,
            "Running": one.running,
            "ExitCode": one.exit_code,
            "ProcessConfig": {
                "tty": bool(one.body.get("Tty")),
                "entrypoint": command[0],
                "arguments": command[1:],
                "privileged": bool(one.body.get("Privileged")),
                "user": one.body.get("User") or "",
            },
            "OpenStdin": bool(one.body.get("AttachStdin")),
            "OpenStdout": bool(one.body.get("AttachStdout")),
            "OpenStderr": bool(one.body.get("AttachStderr")),
            "CanRemove": one.exit_code is not None,
            "ContainerID": one.container.id,
            "DetachKeys": one.body.get("DetachKeys") or "",
            "Pid": one.pid,
        }

    def of(self, container: Container) -> list[str]:
        """The ids of those that run in ``container``."""
        return [
            one.id for one in self._execs.values() if one.container is container and one.running
        ]

    def _tell(self, one: Exec, action: str, **attributes: str) -> None:
        self._lifecycle.tell(one.container, action, execID=one.id, **attributes)


# %% A failure, as the client of a raw stream sees it
def _status_of(error: Exception) -> int:
    if isinstance(error, CommandNotFound):
        return 127
    return 126 if isinstance(error, (CommandNotExecutable, InvalidParameter)) else 128


def _say(client: socket.socket, terminal: bool, text: str) -> None:
    data = text.encode()
    framed = data if terminal else struct.pack(">BxxxI", 1, len(data)) + data
    try:
        client.sendall(framed)
    except OSError:
        return  # it has hung up; the status is there for whoever asks
