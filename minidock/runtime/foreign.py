"""Other people's runtimes: runc, crun, and whatever has their command line.

Because the engine hands its runtime a standard bundle, any OCI runtime can
make the container of it. What differs is only the way of asking: not a
function call but a program, its arguments and files.

The traps. The container's first process is the child of a program that
ends; it falls to the nearest ancestor that has declared itself a
*subreaper*, which the monitor does, for only a parent learns the exit
status. An error is in the log file, as JSON, in words that are not ours, and
must become one of our kinds, or ``docker run`` would not know 127 from 126.
And what a runtime remembers of a container that the engine has lost must
not stand in the way of the next: each container has a state directory of
its own, removed before it is used.

**Interface:** :func:`find`, :class:`Runtime`.

**See:** runc(8), crun(1); prctl(2) PR_SET_CHILD_SUBREAPER; OCI runtime
command line interface.
"""

import json
import os
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from minidock import cgroups, steps
from minidock.errors import CommandNotExecutable, CommandNotFound, InvalidParameter, Unavailable
from minidock.runtime.container import Stdio

OWN = ("", "minidock")
KNOWN = ("runc", "crun")


# %% Which there are
def find(name: str) -> str | None:
    """The program of the runtime ``name``; None for our own. Raises in Docker's words if there is none."""
    if name in OWN:
        return None
    program = shutil.which(name) if name in KNOWN else None
    if program is None:
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")
    return program


def installed() -> dict[str, str]:
    """Name and program of those that this host has."""
    found = {name: shutil.which(name) for name in KNOWN}
    return {name: program for name, program in found.items() if program is not None}


# %% A container that somebody else has created
@dataclass(slots=True)
class Created:
    """What :class:`minidock.runtime.container.Container` is, for a foreign runtime."""

    runtime: "Runtime"
    pid: int
    cgroup: cgroups.Cgroup
    console: int | None

    @property
    def program(self) -> str:
        """Whose work it is."""
        return self.runtime.program

    def start(self) -> None:
        """Let the program run."""
        with steps.step("start the program", call=f"{self.runtime.name} start", chapter="runtime"):
            self.runtime.call("start", self.runtime.container_id)


# %% The runtime of one container
class Runtime:
    """Calls ``program`` for the container whose bundle is ``directory``."""

    def __init__(self, program: str, directory: str) -> None:
        self.program = program
        self.name = os.path.basename(program)
        self.directory = directory
        self.container_id = os.path.basename(directory)
        self._root = f"{directory}/runtime"
        self._log = f"{directory}/runtime.log"

    def create(self, stdio: Stdio, terminal: bool, cgroup: str) -> Created:
        """``create``: afterwards the first process waits, and its pid stands in a file."""
        shutil.rmtree(self._root, ignore_errors=True)
        pid_file = f"{self.directory}/init.pid"
        with steps.step(
            "have the container created", call=f"{self.name} create", chapter="runtime"
        ) as step:
            step.undo(self.delete)
            arguments = ["--bundle", self.directory, "--pid-file", pid_file]
            console = self._with_console("create", arguments, [self.container_id], stdio, terminal)
            with open(pid_file) as file:
                pid = int(file.read())
        return Created(self, pid, cgroups.open(cgroup), console)

    def execute(self, paper: int, stdio: Stdio, terminal: bool) -> tuple[int, int | None]:
        """``exec``: like :func:`minidock.runtime.execute.execute`; the process falls to us."""
        pid_file = f"{self.directory}/exec.{os.getpid()}.pid"
        description = f"/proc/{os.getpid()}/fd/{paper}"
        arguments = ["--detach", "--process", description, "--pid-file", pid_file]
        try:
            console = self._with_console("exec", arguments, [self.container_id], stdio, terminal)
            with open(pid_file) as file:
                return int(file.read()), console
        finally:
            with suppress(FileNotFoundError):
                os.unlink(pid_file)

    def kill(self, number: int) -> None:
        """``kill``: a signal for the first process."""
        self.call("kill", self.container_id, str(number))

    def delete(self) -> None:
        """``delete --force``: whatever there is of it; nothing may be."""
        with suppress(Unavailable):
            self.call("delete", "--force", self.container_id)
        shutil.rmtree(self._root, ignore_errors=True)

    # %% A terminal comes through a socket
    def _with_console(
        self, verb: str, arguments: list[str], rest: list[str], stdio: Stdio, terminal: bool
    ) -> int | None:
        """Call it; with ``terminal`` the master that it sends us while it works."""
        if not terminal:
            self.call(verb, *arguments, *rest, stdio=stdio)
            return None
        place = os.open(self.directory, os.O_PATH | os.O_CLOEXEC)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = f"/proc/{os.getpid()}/fd/{place}/console.sock"  # short enough, wherever we are
        try:
            door.bind(path)
            door.listen(1)
            self.call(verb, *arguments, "--console-socket", path, *rest, stdio=stdio)
            connection, _ = door.accept()
            with connection:
                _, fds, _, _ = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
            return fds[0]
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.close(place)
            door.close()

    # %% Calling the program
    def call(self, verb: str, *arguments: str, stdio: Stdio | None = None) -> None:
        """Run it and wait; raises what its log says, as one of our kinds."""
        with suppress(FileNotFoundError):
            os.unlink(self._log)
        words = [self.program, "--root", self._root, "--log", self._log, "--log-format", "json"]
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        given = stdio or (null, null, null)
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(given)]
        pid = os.posix_spawn(
            self.program,
            [*words, verb, *arguments],
            {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")},
            file_actions=actions,
        )
        os.close(null)
        _, status = os.waitpid(pid, 0)
        if status != 0:
            raise explain(self._reason() or f"{self.name} {verb}: status {status >> 8}")

    def _reason(self) -> str:
        """The message of the last line in the log that is an error."""
        message = ""
        with suppress(FileNotFoundError), open(self._log) as file:
            for line in file:
                with suppress(ValueError):
                    entry: dict[str, Any] = json.loads(line)
                    if entry.get("level") == "error":
                        message = str(entry.get("msg", ""))
        return message.strip()


# %% Their words, our kinds
NOT_FOUND: Sequence[str] = ("executable file not found", "no such file or directory", "not found")
NOT_EXECUTABLE: Sequence[str] = ("permission denied", "is a directory", "exec format error")


def explain(message: str) -> Exception:
    """The error that ``message`` speaks of: a program that is not there, cannot be run, or something else."""
    words = message.lower()
    if "exec" in words and any(phrase in words for phrase in NOT_FOUND):
        known = any(phrase in message for phrase in NOT_FOUND[:2])  # what Docker's clients look for
        return CommandNotFound(message if known else f"{message}: {NOT_FOUND[1]}")
    if "exec" in words and any(phrase in words for phrase in NOT_EXECUTABLE):
        return CommandNotExecutable(message)
    return Unavailable(message)
