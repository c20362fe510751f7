"""Inside: how a new process furnishes its namespaces and becomes the program.

This code runs in the child of ``clone(2)``, as process 1 of the container
to be. Nothing it does here can be seen outside, except through the channel
to its parent.

The traps. The order is forced almost everywhere: the cgroup namespace after
the parent has put us in our cgroup; ``/proc`` after the pid namespace, or
it would show the host's processes; devices after ``/dev`` is mounted; the
pivot after all sources from the host are mounted; masks after the pivot,
when paths mean what the container will mean by them. And whatever goes
wrong must be said to the parent before dying, for there is nobody else to
hear it.

**Interface:** :func:`main`.

**See:** OCI runtime specification, config-linux.md; runc
``libcontainer/standard_init_linux.go``.
"""

import os
from typing import Any, NoReturn

from minidock import namespaces, rootfs, seccomp, steps, terminal
from minidock.errors import InvalidParameter
from minidock.linux import syscalls
from minidock.linux.syscalls import Clone, Mount
from minidock.runtime import process
from minidock.runtime.process import Stdio
from minidock.runtime.sync import Channel, describe
from minidock.spec.runtime import Spec


# %% The child's whole life
def main(spec: Spec, root: str, stdio: Stdio, channel: Channel, trace: dict[str, Any]) -> NoReturn:
    """Build the container from within, wait for the word to start, and execute the program."""
    try:
        with steps.adopt(trace, lambda record: channel.send({"step": record}), "init"):
            _await(channel, "placed")
            _build(spec, root, stdio, channel)
            assert spec.process is not None
            filtered = seccomp.prepare(spec.linux.seccomp, channel.send)
            program = process.prepare(spec.process, filtered)
            channel.send({"ready": True})
            _await(channel, "start")
            process.run(program, spec.process, filtered)
    except BaseException as error:  # noqa: BLE001 (the parent must hear of everything, even of a bug)
        channel.send(describe(error))
    finally:
        os._exit(1)


def _await(channel: Channel, word: str) -> None:
    """Wait until the parent says ``word``; if it has died, so do we."""
    message, _ = channel.receive()
    if message is None:
        os._exit(1)
    if not message.get(word):
        raise InvalidParameter(f"expected {word!r} from the parent, not {message}")


# %% Building, in the order that the kernel forces
def _build(spec: Spec, root: str, stdio: Stdio, channel: Channel) -> None:
    wanted = spec.linux.namespaces
    if namespaces.has_new(wanted, "user"):
        os.setresgid(0, 0, 0)  # root of the new namespace, now that it has a root
        os.setresuid(0, 0, 0)
    os.setsid()
    if namespaces.has_new(wanted, "cgroup"):
        with steps.step("unshare the cgroup namespace", call="unshare(2)", chapter="namespaces"):
            syscalls.unshare(Clone.NEWCGROUP)
    if namespaces.has_new(wanted, "network"):
        namespaces.bring_loopback_up()
    if namespaces.has_new(wanted, "mount"):
        _furnish(spec, root)
    _set_names(spec)
    _set_sysctls(spec.linux.sysctl)
    assert spec.process is not None
    if spec.process.terminal:
        _open_console(spec, channel)
    else:
        process.take_stdio(stdio)
    if namespaces.has_new(wanted, "mount"):
        rootfs.hide(spec.linux.masked_paths, spec.linux.readonly_paths)
        if spec.root is not None and spec.root.readonly:
            rootfs.make_readonly()


# %% The root file system
def _furnish(spec: Spec, root: str) -> None:
    in_user_namespace = namespaces.has_new(spec.linux.namespaces, "user")
    rootfs.separate(root, spec.linux.rootfs_propagation)
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rootfs.mount_all(directory, spec.mounts, in_user_namespace)
        rootfs.make_devices(directory, spec.linux.devices, in_user_namespace)
        rootfs.pivot(directory, spec.linux.rootfs_propagation)
    finally:
        os.close(directory)


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
        path = "/proc/sys/" + name.replace(".", "/")
        with steps.step("set a kernel parameter", call=path, chapter="namespaces", value=value):
            try:
                with open(path, "w") as file:
                    file.write(value)
            except OSError as error:
                raise InvalidParameter(f"sysctl {name}={value}: {error.strerror}") from None


# %% The console
def _open_console(spec: Spec, channel: Channel) -> None:
    """A terminal of the container's own devpts; its master goes to the parent.

    ``/dev/console`` is the same terminal, for programs that look for it there.
    """
    assert spec.process is not None
    with steps.step("open a terminal", call="open(2) /dev/pts/ptmx", chapter="rootfs"):
        master, slave, path = terminal.open_pair("/dev/pts/ptmx")
        channel.send({"console": True}, [master])
        os.close(master)
        os.close(
            os.open(
                "/dev/console",
                os.O_CREAT | os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC,
                0o666,
            )
        )
        syscalls.mount(path, "/dev/console", flags=Mount.BIND)
        process.take_terminal(slave, spec.process)
