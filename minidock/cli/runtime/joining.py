"""``exec``: one more program in a container that runs.

It is described by a file (``--process``), or on the command line as a
variation of the container's own process.

**Interface:** :func:`execute`.

**See:** runc-exec(8).
"""

from __future__ import annotations

import json
import os
from dataclasses import replace

from minidock import cgroups
from minidock.cgroups.entrance import Entrance
from minidock.cli.flags import Flag
from minidock.cli.runtime import Call
from minidock.cli.runtime.plumbing import (
    check_terminal,
    listen_fds,
    send_console,
    trace,
    write_pid_file,
)
from minidock.errors import Conflict, InvalidParameter, NotFound
from minidock.runtime import execute as runtime
from minidock.runtime.process import set_personality
from minidock.runtime.store import Entry, Status, Store
from minidock.runtime.validation import check_process
from minidock.spec.codec import decode, encode
from minidock.spec.runtime import Capabilities, Process, Spec, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidock.cli.flags import Values

FLAGS = [
    Flag("console-socket", "", "string", "socket which will receive the terminal's master"),
    Flag("cwd", "", "string", "current working directory in the container"),
    Flag("env", "e", "list", "set environment variables"),
    Flag("tty", "t", "bool", "allocate a pseudo-TTY"),
    Flag("user", "u", "string", "UID (format: <uid>[:<gid>])"),
    Flag("additional-gids", "g", "list", "additional gids"),
    Flag("process", "p", "string", "path to the process.json"),
    Flag("detach", "d", "bool", "detach from the container's process"),
    Flag("pid-file", "", "string", "specify the file to write the process id to"),
    Flag("process-label", "", "string", "set the asm process label (selinux)"),
    Flag("apparmor", "", "string", "set the apparmor profile for the process"),
    Flag("no-new-privs", "", "bool", "set the no new privileges value for the process"),
    Flag("cap", "c", "list", "add a capability to the bounding set for the process"),
    Flag("preserve-fds", "", "int", "Pass N additional file descriptors to the container"),
    Flag("cgroup", "", "list", "run the process in an (existing) sub-cgroup"),
    Flag("ignore-paused", "", "bool", "allow exec in a paused container"),
]


# %% exec
def execute(call: Call) -> int:
    """Run it; the status is the program's, or 255 if it did not come to that."""
    values, (container_id, *words) = call.parse(FLAGS, 1, 10**6, intersperse=False)
    entry = Store(call.root).find(container_id)
    _check_status(entry, values)
    process = _process(values, entry, words)
    check_process(process)
    check_terminal(process.terminal, values["detach"], values["console-socket"])
    more, environment = listen_fds()
    process = replace(process, env=(*process.env, *environment))
    cgroup = sub_cgroup(entry, values["cgroup"], call.rootless)
    domain = decode(Spec, entry.config()).linux.personality
    if domain is not None:
        set_personality(domain)  # ours, and so that of all that we start
    if process.exec_cpu_affinity is not None and process.exec_cpu_affinity.initial:
        os.sched_setaffinity(0, runtime.processors(process.exec_cpu_affinity.initial))
    with trace(call.log):
        pid, console = runtime.execute(
            entry.pid, _paper(process, entry), (0, 1, 2), cgroup, more + values["preserve-fds"]
        )
    if console is not None and values["console-socket"]:
        send_console(values["console-socket"], console)
    if values["pid-file"]:
        write_pid_file(values["pid-file"], pid)
    if values["detach"]:
        return 0
    from minidock.cli.runtime.foreground import Foreground

    with Foreground(pid, console) as front:
        return front.wait()


def _check_status(entry: Entry, values: Values) -> None:
    status = entry.status()
    if status == Status.STOPPED:
        raise Conflict("cannot exec in a stopped container")
    if status == Status.PAUSED and not values["ignore-paused"]:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")


def _paper(process: Process, entry: Entry) -> int:
    """The process, and the container's filter, as JSON in a file that has no name."""
    written = encode(process)
    filtered = entry.config().get("linux", {}).get("seccomp")
    if filtered is not None:
        written |= {"seccomp": filtered, "state": entry.for_hooks(Status.RUNNING, entry.pid)}
    paper = os.memfd_create("process", os.MFD_CLOEXEC)
    os.write(paper, json.dumps(written).encode())
    os.lseek(paper, 0, os.SEEK_SET)
    return paper


# %% Which process
def _process(values: Values, entry: Entry, words: list[str]) -> Process:
    if values["process"]:
        try:
            with open(values["process"], "rb") as file:
                return decode(Process, json.load(file), "process")
        except FileNotFoundError:
            raise NotFound(f"open {values['process']}: no such file or directory") from None
        except ValueError as error:
            raise InvalidParameter(f"{values['process']} is not JSON: {error}") from None
    if not words:
        raise InvalidParameter("process args cannot be empty")
    own = decode(Spec, entry.config()).process
    assert own is not None
    process = replace(
        own,
        args=tuple(words),
        env=(*own.env, *values["env"]),
        cwd=values["cwd"] or own.cwd,
        terminal=values["tty"],
        user=_user(own.user, values),
        apparmor_profile=values["apparmor"] or own.apparmor_profile,
        selinux_label=values["process-label"] or own.selinux_label,
        capabilities=_capabilities(own.capabilities, values["cap"]),
        oom_score_adj=None,
    )
    if "no-new-privs" in values.given:
        process = replace(process, no_new_privileges=values["no-new-privs"])
    return process


def _user(own: User, values: Values) -> User:
    user = own
    if values["user"]:
        uid, colon, gid = values["user"].partition(":")
        user = replace(
            user, uid=_number("uid", uid), gid=_number("gid", gid) if colon else user.gid
        )
    if values["additional-gids"]:
        more = tuple(_number("gid", text) for text in values["additional-gids"])
        user = replace(user, additional_gids=(*user.additional_gids, *more))
    return user


def _number(what: str, text: str) -> int:
    if not text.isdigit():
        raise InvalidParameter(f"parsing {text} as int for {what} failed: it must be a number")
    return int(text)


def _capabilities(own: Capabilities | None, names: list[str]) -> Capabilities | None:
    if not names:
        return own
    own = own or Capabilities()
    more = tuple(names)
    return replace(
        own,
        bounding=(*own.bounding, *more),
        effective=(*own.effective, *more),
        permitted=(*own.permitted, *more),
        inheritable=(*own.inheritable, *more),
        ambient=(*own.ambient, *more),
    )


# %% Which cgroup
class SubCgroups:
    """Directories by their controllers, each in a tree of its own or all in one."""

    def __init__(self, directories: dict[str, str]) -> None:
        self._directories = directories

    def entrance(self) -> Entrance:
        """The way into all of them."""
        try:
            return Entrance.open(self._directories, exact=True)
        except FileNotFoundError as error:
            path = f"{os.path.dirname(error.filename)}/cgroup.procs"
            words = f"adding pid {os.getpid()} to {path}: no such file or directory"
            raise NotFound(words) from None


def sub_cgroup(entry: Entry, wanted: list[str], rootless: bool) -> runtime.Joins:
    """``--cgroup [controller[,controller]:]path``: below the container's own, and never above."""
    whole = cgroups.open(entry.cgroup)
    if not wanted:
        return SubCgroups({}) if rootless and not whole.exists() else whole
    own = whole.by_controller()
    paths = dict(own)
    for text in wanted:
        controllers, colon, path = text.rpartition(":")
        if ":" in controllers:
            raise InvalidParameter(f"invalid --cgroup argument: {text}")
        if not colon and len(wanted) > 1:
            raise InvalidParameter(
                f"invalid --cgroup argument: {text} (missing <controller>: prefix)"
            )
        if ".." in path.split("/"):
            raise InvalidParameter(f"bad sub cgroup path: {path} is not a sub cgroup path")
        for name in controllers.split(",") if colon else own:
            if name not in own:
                raise InvalidParameter(f"unknown controller {name} in --cgroup {text}")
            paths[name] = (own[name] + os.path.normpath(f"/{path}")).rstrip("/")
    return SubCgroups(paths)
