"""The monitor: one small process that stays with its container.

Somebody must be the parent of the container's first process: read what it
writes, notice when it dies, know its exit status. If that were the daemon,
the daemon could not be restarted without losing all containers. So each
container has a monitor of its own, forked by the spawner, which lives as
long as the container does. The daemon may come and go; it talks to the
monitor over a socket in the container's directory, and what it missed
stands in ``state.json``.

The traps. A client's connection is handed over whole (SCM_RIGHTS), so that
the data does not pass through the daemon; the daemon must not touch it
afterwards. The container's first process is not the last to hold its pipes:
all that is left in the cgroup is killed before we wait for the end of the
output. And the exit status is on disk before anybody is told about it.

**Interface:** :func:`main`; the requests in :data:`Monitor.REQUESTS`, one JSON
object per message on ``monitor.sock``.

**See:** unix(7), wait(2), prctl(2) PR_SET_CHILD_SUBREAPER; conmon and
containerd-shim, which do this for podman and Docker.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from minidock import cgroups, steps
from minidock.errors import Conflict, InvalidParameter, MiniDockError, NotFound
from minidock.linux.syscalls import prctl
from minidock.monitor import starter
from minidock.monitor.journal import STDERR, STDOUT, Writer
from minidock.monitor.restart import Restarts
from minidock.monitor.starter import SOCKET, STATE, Pipes, Request, record
from minidock.monitor.streams import READ, Loop, Streams
from minidock.monitor.task import Task
from minidock.runtime.container import exit_status
from minidock.runtime.execute import execute
from minidock.runtime.sync import Channel, describe, pair
from minidock.spec.timestamp import now

if TYPE_CHECKING:
    from minidock.runtime.foreign import Runtime

__all__ = ["SOCKET", "STATE", "main"]

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 10.0  # seconds that clients have to take what is left when all is over


# %% A monitor's life
def main(request: Request, fds: Sequence[int]) -> NoReturn:
    """Have the container in ``request["directory"]`` started, stay with it, record its end.

    ``fds`` are the report channel to the daemon, then one connection for
    each of ``request["attach"]``, then sockets that hold published ports.
    """
    report = Channel(socket.socket(fileno=fds[0]))
    directory: str = request["directory"]
    _become_monitor(directory.rpartition("/")[2])
    ours, theirs = pair()
    if os.fork() == 0:
        starter.start(request, report, theirs)
    theirs.close()
    message, received = ours.receive()
    if message is None:  # the starter has told the daemon why
        os._exit(1)
    monitor = Monitor(directory, report, message, received)
    clients = len(request["attach"])
    for wishes, fd in zip(request["attach"], fds[1:], strict=False):
        monitor.attach(monitor.init, wishes, fd)
    monitor.held = list(fds[1 + clients :])
    monitor.stay()
    os._exit(0)


def _become_monitor(container_id: str) -> None:
    """A session of our own: no terminal's Ctrl-C reaches us. And a name for ps(1)."""
    os.setsid()
    os.chdir("/")
    prctl(PR_SET_CHILD_SUBREAPER, 1, name="PR_SET_CHILD_SUBREAPER")
    signal.signal(signal.SIGCHLD, lambda *_: None)
    name = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(name, f"md {container_id[:12]}".encode())
    os.close(name)


def _foreign(program: str, directory: str) -> "Runtime | None":
    """Somebody else's runtime, if the container is one of its; few are, so it is not loaded for all."""
    if not program:
        return None
    from minidock.runtime.foreign import Runtime

    return Runtime(program, directory)


# %% The monitor
class Monitor:
    """The state of one monitor: its container, its execs, who watches."""

    def __init__(
        self, directory: str, report: Channel, message: Request, fds: Sequence[int]
    ) -> None:
        listener, log, index, *streams = fds
        self.directory = directory
        self.journal = Writer(log, index)
        self.restarts = Restarts(*message["policy"])
        self.again_at: float | None = None
        self.loop = Loop()
        self.listener = socket.socket(fileno=listener)
        self.watchers = [report]
        self.held: list[int] = []
        self.execs: dict[str, Task] = {}
        self.state: dict[str, Any] = message["state"]
        self.cgroup = cgroups.open(message["cgroup"])
        self.runtime = _foreign(message["runtime"], directory)
        self.tasks: dict[int, Task] = {}
        self.init = self._take_up(message, streams)

    def _take_up(self, message: Request, streams: Sequence[int]) -> Task:
        """The container's first process runs, as ``message`` of the starter says."""
        self.state = message["state"]
        self.begun = time.monotonic()
        init = Task(Streams(self.loop, self.journal, message["once"]))
        init.connect(self.state["pid"], streams, message["terminal"], message["stdin"])
        init.finish = self._container_is_over
        self.tasks[init.pid] = init
        return init

    # %% Staying
    def stay(self) -> None:
        """Serve until the container is over and its clients have what they are owed."""
        reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        self.loop.watch(reads, READ, lambda _: os.read(reads, 4096))
        self.loop.watch(self.listener, READ, lambda _: self._accept())
        while self.state["status"] != "exited":
            self._reap()
            self._settle()
            if self.again_at is not None and time.monotonic() >= self.again_at:
                self._start_again()
            if self.state["status"] != "exited":
                self.loop.turn(self._patience())
        self._say_goodbye()

    def _patience(self) -> float | None:
        if self.again_at is not None:
            return max(0.0, self.again_at - time.monotonic())
        waiting = any(task.status is not None for task in self.tasks.values())
        return 0.1 if waiting else None

    def _reap(self) -> None:
        """Collect children that have died, ours and the orphans that fell to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            task = self.tasks.get(pid)
            if task is None:
                continue
            task.status = exit_status(status)
            task.deadline = time.monotonic() + 2.0
            if task is self.init:
                self.cgroup.kill()  # whoever is left holds our pipes open, and has lost its container

    def _settle(self) -> None:
        for pid, task in list(self.tasks.items()):
            if task.over:
                del self.tasks[pid]
                task.finish()

    # %% The end of the container
    def _container_is_over(self) -> None:
        """What came of it; then it is either started again after a while, or over for good."""
        out_of_memory = self.cgroup.oom_killed()
        if self.runtime is not None:
            self.runtime.delete()
        self.cgroup.delete()
        status = self.init.status or 0
        self.state = {
            **self.state,
            "pid": 0,
            "exit_code": status,
            "oom_killed": out_of_memory,
            "finished_at": now(),
        }
        delay = self.restarts.next_delay(status, time.monotonic() - self.begun)
        if delay is None:
            self._end()
            return
        self._became("restarting")
        self.init.streams.finish()
        self.again_at = time.monotonic() + delay

    def _end(self, **more: Any) -> None:
        """First what cannot be told twice goes to disk, then everybody is told."""
        self.again_at = None
        self._close_held()
        # Before it is told: who hears it may start the container again, with a socket of that name.
        Path(self.directory, SOCKET).unlink(missing_ok=True)
        self._became("exited", **more)

    def _became(self, status: str, **more: Any) -> None:
        self.state = {**self.state, "status": status, **more}
        record(Path(self.directory), self.state)
        self._tell({status: self.state})

    def _close_held(self) -> None:
        for fd in self.held:
            os.close(fd)
        self.held.clear()

    # %% Starting it again
    def _start_again(self) -> None:
        """As at the first time, another process does it; the daemon need not be there."""
        self.again_at = None
        request = {"directory": self.directory, "trace": {}, "restarts": self.restarts.count}
        report, their_report = pair()
        ours, theirs = pair()
        if os.fork() == 0:
            starter.start(request, their_report, theirs)
        their_report.close()
        theirs.close()
        message, streams = ours.receive()
        if message is None:
            failure, _ = report.receive()
            self._end(error=(failure or {}).get("message", "the container could not be restarted"))
        else:
            self.init = self._take_up(message, streams)
            self._tell({"started": self.state})
        ours.close()
        report.close()

    # %% Good-bye
    def _say_goodbye(self) -> None:
        """Give clients the rest of the output; a client that does not take it is left behind."""
        self.loop.watch(self.listener, 0, lambda _: None)
        everybody = [self.init, *self.execs.values()]
        for task in everybody:
            task.streams.finish()
        deadline = time.monotonic() + PATIENCE
        while any(task.streams.clients for task in everybody) and time.monotonic() < deadline:
            self.loop.turn(0.1)

    # %% Requests
    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        channel = Channel(connection)
        self.loop.watch(channel, READ, lambda _: self._answer(channel))

    def _answer(self, channel: Channel) -> None:
        """Read one request and do it; a failure is an answer, too."""
        try:
            request, fds = channel.receive()
            if request is None:
                self._hang_up(channel)
                return
            verb = self.REQUESTS.get(request["request"])
            if verb is None:
                raise InvalidParameter(f"no such request: {request['request']}")
            answer = verb(self, request, fds, channel)
        except (MiniDockError, OSError, KeyError, ValueError) as error:
            answer = describe(error)
        with suppress(OSError):
            channel.send(answer)

    def _hang_up(self, channel: Channel) -> None:
        self.loop.watch(channel, 0, lambda _: None)
        if channel in self.watchers:
            self.watchers.remove(channel)
        channel.close()

    def _tell(self, event: dict[str, Any]) -> None:
        """Tell all who watch; a daemon that died in the meantime reads it from ``state.json``."""
        for channel in list(self.watchers):
            with suppress(OSError):
                channel.send(event)

    def _watch(self, request: Request, fds: list[int], channel: Channel) -> dict[str, Any]:
        """From now on send every change of the state, and ``exec_exited``, to this connection."""
        self.watchers.append(channel)
        return {"state": self.state}

    def _kill(self, request: Request, fds: list[int], channel: Channel) -> dict[str, Any]:
        """Send a signal. Only we can be sure of the pid: it is ours until we have reaped it.

        ``last``: somebody wants the container to end, so it is not to be started again; and to hear
        the signal it must be able to run.
        """
        last = bool(request.get("last"))
        self.restarts.stopped |= last
        if self.init.status is None:
            if self.runtime is None:
                os.kill(self.init.pid, request["signal"])
            else:
                self.runtime.kill(request["signal"])
        if last and self.state["status"] == "paused":
            self.cgroup.freeze(False)
            self._became("running")
        if last and self.again_at is not None:
            self._end()
        return {"ok": True}

    def _pause(self, request: Request, fds: list[int], channel: Channel) -> dict[str, Any]:
        """Stop all its processes where they are, or let them go on."""
        if self.init.status is not None:
            raise Conflict("the container is not running")
        frozen = bool(request["frozen"])
        self.cgroup.freeze(frozen)
        self._became("paused" if frozen else "running")
        return {"state": self.state}

    def _policy(self, request: Request, fds: list[int], channel: Channel) -> dict[str, Any]:
        """Another restart policy; how often it has been restarted is not forgotten."""
        self.restarts.policy, self.restarts.maximum = request["policy"]
        return {"ok": True}

    def _task(self, request: Request) -> Task:
        exec_id = request.get("exec")
        task = self.execs.get(exec_id) if exec_id else self.init
        if task is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return task

    def _resize(self, request: Request, fds: list[int], channel: Channel) -> dict[str, Any]:
        """The window of the container's, or an exec's, terminal."""
        self._task(request).resize(request["height"], request["width"])
        return {"ok": True}

    # %% Attaching clients
    def _attach(self, request: Request, fds: list[int], channel: Channel) -> dict[str, Any]:
        """Hand a client's connection over to the container's streams."""
        self.attach(self.init, request, fds[0])
        return {"ok": True}

    def attach(self, task: Task, request: Request, fd: int) -> None:
        """Let the client at the connection ``fd`` look on, and write if it wants to."""
        wants = frozenset(
            number for number, name in ((STDOUT, "stdout"), (STDERR, "stderr")) if request[name]
        )
        early = request.get("early", "").encode("latin-1")
        client = task.streams.attach(socket.socket(fileno=fd), wants, request["stdin"])
        if early and client.gives:
            task.streams.give(early)

    # %% Exec
    def _exec(self, request: Request, fds: list[int], channel: Channel) -> dict[str, Any]:
        """Run a second program; ``fds`` are its process as JSON, and a client if one is attached."""
        paper, *clients = fds
        task = Task(Streams(self.loop, None, once=True))
        pipes = Pipes(request["stdin"], request["tty"])
        try:
            with steps.adopt(
                request["trace"], lambda record: channel.send({"step": record}), "monitor"
            ):
                if self.runtime is None:
                    pid, console = execute(self.init.pid, paper, pipes.theirs, self.cgroup)
                else:
                    pid, console = self.runtime.execute(paper, pipes.theirs, request["tty"])
        except BaseException:
            pipes.abandon()
            for fd in clients:
                os.close(fd)
            raise
        finally:
            os.close(paper)
        pipes.given()
        for fd in clients:
            self.attach(task, request, fd)
        ours = pipes.ours if console is None else [console]
        task.connect(pid, ours, console is not None, request["stdin"])
        self._adopt_exec(request["exec"], task)
        return {"pid": pid}

    def _adopt_exec(self, exec_id: str, task: Task) -> None:
        def finish() -> None:
            self._tell({"exec_exited": exec_id, "exit_code": task.status})
            self.execs.pop(exec_id, None)
            task.streams.finish()  # last: a client asks for the status when its stream ends

        task.finish = finish
        self.execs[exec_id] = task
        self.tasks[task.pid] = task

    REQUESTS: dict[str, Callable[..., dict[str, Any]]] = {  # noqa: RUF012
        "watch": _watch,
        "kill": _kill,
        "pause": _pause,
        "policy": _policy,
        "resize": _resize,
        "attach": _attach,
        "exec": _exec,
    }
