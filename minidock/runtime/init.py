"""Inside: how a new process furnishes its namespaces and becomes the program.

This code runs in the child of ``clone(2)``, as process 1 of the container
to be. Nothing it does here can be seen outside, except through the channel
to its parent.

The traps. The order is forced almost everywhere: the cgroup first,
and then its namespace; ``/proc`` after the pid namespace, or
it would show the host's processes; devices after ``/dev`` is mounted; the
pivot after all sources from the host are mounted; masks after the pivot,
when paths mean what the container will mean by them; what was to be
read-only when everything is in it. And whatever goes wrong must be said to
the parent before dying, for there is nobody else to hear it.

**Interface:** :func:`main`, :class:`Work`.

**See:** OCI runtime specification, config-linux.md; runc
``libcontainer/standard_init_linux.go``.
"""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from minidock import namespaces, rootfs, steps, terminal
from minidock.cgroups.entrance import Entrance
from minidock.errors import InvalidParameter
from minidock.linux import procfs, syscalls
from minidock.linux.mountapi import move_mount, open_tree
from minidock.linux.syscalls import Clone, Resolve, openat2, prctl
from minidock.rootfs import devices, hiding, mounts
from minidock.runtime import hooks, process
from minidock.runtime.sync import Channel, describe
from minidock.spec.runtime import Hook, Process, Spec

if TYPE_CHECKING:
    from minidock.runtime.container import Wishes
    from minidock.seccomp import Filter, Send

PR_SET_DUMPABLE = 4


# %% What is to be done
@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """All that the child must know: it cannot ask anybody later."""

    spec: Spec
    entrance: Entrance
    root: str
    bundle: str
    container_id: str
    wishes: "Wishes"
    trees: dict[int, int]
    cgroups: dict[str, str] | None
    trace: dict[str, Any]

    @property
    def process(self) -> Process:
        """The program; that there is one has been checked."""
        assert self.spec.process is not None
        return self.spec.process

    @property
    def in_user_namespace(self) -> bool:
        """Whether our root is not the host's."""
        return namespaces.has(self.spec.linux.namespaces, "user")


# %% The child's whole life
def main(work: Work, channel: Channel) -> NoReturn:
    """Build the container from within, wait for the word to start, and execute the program."""
    try:
        with steps.adopt(work.trace, lambda record: channel.send({"step": record}), "init"):
            work.entrance.enter()
            work.entrance.close()
            if namespaces.has_new(work.spec.linux.namespaces, "user"):
                _await(channel, "mapped")
            filtered = _filter(
                work,
                lambda message, fds: channel.send(message, fds),  # the channel of that moment
            )
            _build(work, channel)
            program = process.prepare(work.process, filtered)
            channel.send({"ready": True})
            if work.wishes.listener is None:
                _await(channel, "start")
        if work.wishes.listener is not None:
            channel.close()
            channel = _await_start(work.wishes.listener)
        _run_hooks(work, "startContainer", work.spec.hooks.start_container, "created", filtered)
        process.run(program, work.process, work.wishes.preserve_fds, filtered)
    except BaseException as error:  # noqa: BLE001 (the parent must hear of everything, even of a bug)
        channel.send(describe(error))
    finally:
        os._exit(1)


def _filter(work: Work, send: "Send") -> "Filter | None":
    """The filter for system calls, made while the library that knows their numbers is the host's."""
    if work.spec.linux.seccomp is None:
        return None
    from minidock import seccomp

    return seccomp.prepare(work.spec.linux.seccomp, send, work.wishes.state)


def _await(channel: Channel, word: str) -> None:
    """Wait until the parent says ``word``; if it has died, so do we."""
    message, _ = channel.receive()
    if message is None:
        os._exit(1)
    if not message.get(word):
        raise InvalidParameter(f"expected {word!r} from the parent, not {message}")


def _await_start(listener: int) -> Channel:
    """Our maker has gone; wait until somebody connects and says ``start``.

    Who connects and says nothing only wanted to know whether we still wait.
    """
    door = socket.socket(fileno=listener)
    while True:
        channel = Channel(door.accept()[0])
        message, _ = channel.receive()
        if message is not None and message.get("start"):
            return channel
        channel.close()


# %% Building, in the order that the kernel forces
def _build(work: Work, channel: Channel) -> None:
    spec, wanted = work.spec, work.spec.linux.namespaces
    os.umask(0o022)
    process.adjust_oom_score(work.process.oom_score_adj)
    if work.in_user_namespace:
        os.setresgid(0, 0, 0)  # root of the new namespace, now that it has a root
        os.setresuid(0, 0, 0)
    prctl(PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")  # the container must not look into us
    os.setsid()
    if work.wishes.keyring:
        process.leave_keyring(work.container_id)
    if namespaces.has_new(wanted, "cgroup"):
        with steps.step("unshare the cgroup namespace", call="unshare(2)", chapter="namespaces"):
            syscalls.unshare(Clone.NEWCGROUP)
    if namespaces.has_new(wanted, "network"):
        namespaces.bring_loopback_up()
    _furnish(work, channel)
    process.make_directory(work.process.cwd)
    _set_names(spec)
    _set_sysctls(spec.linux.sysctl)
    if work.process.terminal:
        _open_console(work.process, channel)
    else:
        process.take_stdio(work.wishes.stdio)
        rootfs.reopen_null()
    if namespaces.has(wanted, "mount"):
        mounts.finish_readonly(spec.mounts)
        hiding.hide(spec.linux.masked_paths, spec.linux.readonly_paths)
        if spec.root is not None and spec.root.readonly:
            rootfs.make_readonly()
    if spec.linux.personality is not None:
        process.set_personality(spec.linux.personality)


# %% The root file system
def _furnish(work: Work, channel: Channel) -> None:
    """Mounts, devices, hooks, and the change of root.

    Without a mount namespace of its own all of it happens in the caller's,
    and chroot(2) must do.
    """
    spec, private = work.spec, namespaces.has(work.spec.linux.namespaces, "mount")
    if private:
        rootfs.separate(work.root, spec.linux.rootfs_propagation)
    directory = os.open(work.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        given = mounts.Given(work.in_user_namespace, work.trees, work.cgroups)
        mounts.mount_all(directory, spec.mounts, given)
        if not _brings_its_own_dev(spec):
            devices.make_devices(directory, spec.linux.devices, work.in_user_namespace)
        _tell_hooks(work, channel)
        process.seal()
        if not private:
            os.fchdir(directory)
            rootfs.change_root()
        elif work.wishes.pivot:
            rootfs.pivot(directory, spec.linux.rootfs_propagation)
        else:
            rootfs.move_root(directory)
    finally:
        os.close(directory)


def _brings_its_own_dev(spec: Spec) -> bool:
    """A ``/dev`` that is bind mounted is not ours to fill."""
    return any(
        os.path.normpath(entry.destination) == "/dev"
        and (entry.type == "bind" or {"bind", "rbind"} & set(entry.options))
        for entry in spec.mounts
    )


# %% Hooks
def _tell_hooks(work: Work, channel: Channel) -> None:
    """Now the namespaces are furnished: the runtime's hooks first, then those in here."""
    if work.spec.hooks.prestart or work.spec.hooks.create_runtime:
        channel.send({"hooks": True})
        _await(channel, "hooked")
    _run_hooks(work, "createContainer", work.spec.hooks.create_container, "creating")


def _run_hooks(
    work: Work, kind: str, wanted: tuple[Hook, ...], status: str, filtered: "Filter | None" = None
) -> None:
    if wanted:
        state = {**work.wishes.state, "status": status, "pid": os.getpid()}
        hooks.run(kind, wanted, state, filtered)


# %% Names and kernel parameters
def _set_names(spec: Spec) -> None:
    if spec.hostname:
        with steps.step(
            "set the host name",
            call="sethostname(2)",
            chapter="namespaces",
            name=spec.hostname,
        ):
            syscalls.sethostname(spec.hostname)
    if spec.domainname:
        syscalls.setdomainname(spec.domainname)


def _set_sysctls(sysctls: dict[str, str]) -> None:
    """``--sysctl``: only those that belong to a namespace of ours ever reach this point."""
    for name, value in sysctls.items():
        path = "sys/" + name.replace(".", "/")
        with steps.step(
            "set a kernel parameter", call=f"/proc/{path}", chapter="namespaces", value=value
        ):
            try:
                procfs.write(path, value)
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                raise InvalidParameter(f"sysctl {name}={value}: {reason}") from None


# %% The console
def _open_console(spec: Process, channel: Channel) -> None:
    """A terminal of the container's own devpts; its master goes to the parent.

    ``/dev/console`` is the same terminal, for programs that look for it there.
    It is the open file that is mounted there, not what its path in ``/dev/pts``
    may be by now, and not through a link: the masks are still to come, and a
    swapped path would carry a file of ``/proc`` past them (CVE-2025-52565).
    """
    with steps.step("open a terminal", call="open(2) /dev/pts/ptmx", chapter="rootfs"):
        master, slave, _ = terminal.open_pair("/dev/pts/ptmx")
        channel.send({"console": True}, [master])
        os.close(master)
        _be_console(slave)
        process.take_terminal(slave, spec)


def _be_console(slave: int) -> None:
    with suppress(FileExistsError):
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC
        os.close(os.open("/dev/console", flags, 0o666))
    tree = open_tree("", directory=slave)
    target = openat2(-100, "/dev/console", os.O_PATH, resolve=Resolve.NO_SYMLINKS)
    move_mount(tree, target, "/dev/console")
    os.close(target)
    os.close(tree)
