"""A container, as the engine knows it: what was asked for, and how it goes.

Two files say it all. ``container.json`` is what was asked for; the daemon
writes it. ``state.json`` is what came of it; the monitor writes it while
there is one, the daemon only when there is none. One writer per file needs
no lock, and a daemon that has been killed reads both and knows as much as
before.

The lifecycle is small enough to be a table::

                  ┌──pause──▶ paused ──unpause──┐
    created ──start──▶ running ◀────────────────┘
       │          │    │  ▲ └──exit──▶ exited ──start──▶ running …
       │          │    └──┴─ restarting       │
       └──────────┴──────────┬────────────────┘
                           remove ──▶ (gone)

The trap is time: between looking at a state and acting on it, the container
may have died. So every verb holds the container's lock, and whoever waits
for a change waits on its condition.

**Interface:** :class:`Container`.

**See:** Engine API, "Inspect a container"; moby ``container/state.go``.
"""

import socket
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, RLock
from typing import Any

from minidock.errors import Conflict
from minidock.monitor import STATE
from minidock.network import Endpoint
from minidock.paths import read_json, write_json
from minidock.spec.timestamp import ZERO, now

RECORD = "container.json"


# %% A connection that waits for the container to start
@dataclass(slots=True)
class Pending:
    """An attach request that came before the start, as clients do, not to miss a byte."""

    request: dict[str, Any]
    connection: socket.socket


# %% The container
@dataclass(slots=True, eq=False)
class Container:
    """One container; ``record`` is ``container.json``, ``state`` is ``state.json``."""

    directory: Path
    record: dict[str, Any]
    state: dict[str, Any] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock)
    changed: Condition = field(default_factory=Condition)
    pending: list[Pending] = field(default_factory=list)
    endpoint: Endpoint | None = None
    exits: int = 0
    borrowed_shm: str = ""
    removed: bool = False
    removing: bool = False

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return str(self.record["Id"])

    @property
    def name(self) -> str:
        """Without the slash that Docker's API puts before it."""
        return str(self.record["Name"])

    @property
    def config(self) -> dict[str, Any]:
        """The API's ``ContainerConfig``, merged with the image's."""
        return dict(self.record["Config"])

    @property
    def host_config(self) -> dict[str, Any]:
        """The API's ``HostConfig``."""
        return dict(self.record["HostConfig"])

    @property
    def cgroup(self) -> str:
        """Where its control group is, in every tree; ``--cgroup-parent`` says below what."""
        parent = str(self.record["HostConfig"].get("CgroupParent") or "/minidock")
        return f"/{parent.strip('/')}/{self.id}"

    @property
    def shm(self) -> str:
        """Where its ``/dev/shm`` is on the host, if it is one that is shared; "" for its very own."""
        mode = self.record["HostConfig"]["IpcMode"]
        if mode == "shareable":
            return str(self.directory / "shm")
        return "/dev/shm" if mode == "host" else self.borrowed_shm  # noqa: S108

    @property
    def terminal(self) -> bool:
        """Whether it was made with ``-t``."""
        return bool(self.record["Config"].get("Tty"))

    # %% Its state
    @property
    def status(self) -> str:
        """``created``, ``running``, ``paused``, ``restarting``, ``exited``, or ``removing``."""
        if self.removing:
            return "removing"
        return str(self.state.get("status", "created"))

    @property
    def running(self) -> bool:
        """Whether it is under way: paused, and between two runs, it counts as running, too."""
        return self.state.get("status") in ("running", "paused", "restarting")

    @property
    def restart_policy(self) -> str:
        """``no``, ``on-failure``, ``always`` or ``unless-stopped``."""
        return str(self.record["HostConfig"]["RestartPolicy"].get("Name") or "no")

    @property
    def pid(self) -> int:
        """Its first process on the host; 0 when it does not run."""
        return int(self.state.get("pid", 0)) if self.running else 0

    @property
    def exit_code(self) -> int:
        """Of its last run."""
        return int(self.state.get("exit_code") or 0)

    def must_run(self) -> None:
        """Raise :class:`Conflict` in Docker's words unless it is running."""
        if not self.running:
            raise Conflict(f"container {self.id} is not running")

    def must_go_on(self) -> None:
        """The same for what needs a living process: neither paused nor between two runs."""
        self.must_run()
        if self.status == "paused":
            raise Conflict(f"Container {self.name} is paused, unpause the container before exec")
        if self.status == "restarting":
            raise Conflict(
                f"Container {self.id} is restarting, wait until the container is running"
            )

    def as_state(self) -> dict[str, Any]:
        """The API's ``ContainerState``."""
        return {
            "Status": self.status,
            "Running": self.running,
            "Paused": self.status == "paused",
            "Restarting": self.status == "restarting",
            "OOMKilled": bool(self.state.get("oom_killed")),
            "Dead": False,
            "Pid": self.pid,
            "ExitCode": self.exit_code,
            "Error": self.state.get("error", ""),
            "StartedAt": self.state.get("started_at", ZERO),
            "FinishedAt": self.state.get("finished_at", ZERO),
        }

    # %% Changes of it
    def became(self, state: dict[str, Any]) -> None:
        """The monitor says so; whoever waits is woken."""
        with self.changed:
            self.state = state
            self.changed.notify_all()

    def ended(self) -> None:
        """One more run is over, and cleaned up after."""
        with self.changed:
            self.exits += 1
            self.changed.notify_all()

    def gone(self) -> None:
        """The container is no more."""
        with self.changed:
            self.removed = True
            self.changed.notify_all()

    def failed(self, code: int, error: str, **more: Any) -> None:
        """There is no monitor to say it: the start failed, or the monitor itself died."""
        state = {**self.state, "pid": 0, "exit_code": code, "error": error, **more}
        if self.running:
            state |= {"status": "exited", "finished_at": now()}
        write_json(self.directory / STATE, state)
        self.became(state)

    # %% On disk
    def stopped_by_hand(self, yes: bool) -> None:
        """Note whether somebody has stopped it: ``unless-stopped`` is about that."""
        if bool(self.record.get("StoppedByHand")) != yes and self.restart_policy != "no":
            self.record["StoppedByHand"] = yes
            self.save()

    def save(self) -> None:
        """Write ``container.json``."""
        write_json(self.directory / RECORD, self.record)

    @classmethod
    def load(cls, directory: Path) -> "Container":
        """Read one back. Raises :class:`FileNotFoundError` for a directory without a record."""
        record = read_json(directory / RECORD)
        try:
            state = read_json(directory / STATE)
        except FileNotFoundError:
            state = {}
        return cls(directory, record, state)

    def close_pending(self) -> None:
        """Hang up on those who waited for a start that did not come."""
        for waiting in self.pending:
            waiting.connection.close()
        self.pending.clear()
