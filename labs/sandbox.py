"""Private namespaces for an engine that may be broken.

A student's engine forgets to unmount, kills the wrong process, writes the
wrong rule. So it never runs on the host, but in namespaces of its own, made
with the engine's own functions: mounts, processes, network, host name, IPC,
and a cgroup that it takes for the root of the tree. Its images and
containers lie on a tmpfs that only it can see. When the first process of
the sandbox ends, the kernel ends all others, and with them go mounts,
bridges and rules; what remains is the cgroup, which the parent removes.

The traps. Version 2 of cgroups allows no processes beside children, so the
sandbox's own sit in a leaf called ``main``. ``/`` is made *shared* within
the sandbox, as systemd makes it on a host: an engine that forgets to cut
itself off must be seen to fail. And the parent may be killed: its child
asks the kernel to be killed too (PR_SET_PDEATHSIG).

**Interface:** :func:`run`, :data:`INSIDE`.

**See:** namespaces(7), cgroup_namespaces(7), prctl(2); chapters 3 to 5.
"""

import os
import select
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from labs.table import ROOT
from minidock import cgroups, namespaces
from minidock.linux import syscalls
from minidock.linux.syscalls import Clone, Mount, Umount

INSIDE = "MINIDOCK_LAB_SANDBOX"

ALL = Clone.NEWNS | Clone.NEWPID | Clone.NEWNET | Clone.NEWIPC | Clone.NEWUTS

PREFIX = "minidock-lab-"  # of directories and cgroups; then the pid of who has made them

QUIET = Mount.NOSUID | Mount.NODEV | Mount.NOEXEC

PR_SET_PDEATHSIG = 1


# %% The parent's side
def run(
    command: Sequence[str],
    shadow: Path | None,
    variables: Mapping[str, str],
    keep: Sequence[int] = (),
    seconds: float | None = None,
) -> int:
    """Run ``command`` in a new sandbox; returns its exit status, 124 if it took longer than ``seconds``.

    In it ``minidock`` is the engine of the work copy ``shadow``, or ours; the
    descriptors in ``keep`` are open in it. Nothing of it is left afterwards.
    """
    sweep()
    scratch = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    group = cgroups.open(f"/{scratch.name}")
    try:
        group.make()
        gate, opened = os.pipe()
        pid = syscalls.clone(ALL)
        if pid == 0:
            os.close(opened)
            _live(gate, scratch, shadow, command, variables, keep)
        os.close(gate)
        return _watch_over(pid, group, opened, seconds)
    finally:
        group.delete()
        shutil.rmtree(scratch)


def sweep() -> None:
    """Remove what a parent that was killed has left: an empty directory, and an empty cgroup."""
    found = [name for name in os.listdir(tempfile.gettempdir()) if name.startswith(PREFIX)]
    for name in {*found, *(one for one in cgroups.children("/") if one.startswith(PREFIX))}:
        if os.path.exists(f"/proc/{name.removeprefix(PREFIX).partition('-')[0]}"):
            continue
        with suppress(OSError):  # not there; or its last process is still dying: the next run's
            cgroups.open(f"/{name}").delete()
            os.rmdir(f"{tempfile.gettempdir()}/{name}")


def _watch_over(pid: int, group: cgroups.Cgroup, opened: int, seconds: float | None) -> int:
    """Put the child into its cgroup, let it go on, and wait for its end; whatever happens, it ends."""
    pidfd = os.pidfd_open(pid)  # a pid could be another's by the time that we kill it
    try:
        group.add(pid)
        os.write(opened, b".")
        os.close(opened)
        return _wait(pid, pidfd, seconds)
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        thaw(group.path)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def thaw(path: str) -> None:
    """Let all groups below ``path`` go on: in version 1 the frozen cannot even die."""
    tree = cgroups.host().controllers.get("freezer")
    if tree is None:
        return
    for directory, _, _ in os.walk(tree + path):
        with suppress(OSError):  # the root of the tree has no such file; a group may go meanwhile
            cgroups.write(f"{directory}/freezer.state", "THAWED")


def _wait(pid: int, pidfd: int, seconds: float | None) -> int:
    if seconds is not None and not select.select([pidfd], [], [], seconds)[0]:
        return 124
    while True:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except KeyboardInterrupt:  # for whoever runs inside, not for us
            continue


# %% The first process of the sandbox
def _live(
    gate: int,
    scratch: Path,
    shadow: Path | None,
    command: Sequence[str],
    variables: Mapping[str, str],
    keep: Sequence[int],
) -> NoReturn:
    """Furnish the namespaces, start ``command``, bury the dead, and end with the command."""
    status = 125
    try:
        syscalls.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, name="PR_SET_PDEATHSIG")
        if not os.read(gate, 1):
            os._exit(status)
        os.close(gate)
        _furnish(scratch)
        environment = _environment(scratch, shadow) | dict(variables)
        child = os.fork()
        if child == 0:
            for fd in keep:
                os.set_inheritable(fd, True)
            os.execvpe(command[0], list(command), environment)
        for fd in keep:
            os.close(fd)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        status = _bury_until(child)
        thaw("")
    except BaseException as error:  # noqa: BLE001 (nobody above would hear of it)
        sys.stderr.write(f"the sandbox could not be made: {error}\n")
    finally:
        os._exit(status)


def _bury_until(child: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


# %% Furnishing it
def _furnish(scratch: Path) -> None:
    """From here on nothing that is mounted, plugged in or written to a cgroup file reaches the host."""
    syscalls.unshare(Clone.NEWCGROUP)
    syscalls.mount("", "/", flags=Mount.PRIVATE | Mount.REC)
    syscalls.umount("/proc", Umount.DETACH)  # and what systemd has mounted in it
    syscalls.mount("proc", "/proc", "proc", QUIET)
    syscalls.mount("minidock-lab", scratch, "tmpfs", data="mode=755")
    _mount_sys(scratch)
    syscalls.mount("", "/", flags=Mount.SHARED | Mount.REC)
    namespaces.bring_loopback_up()
    syscalls.sethostname("lab")


def _mount_sys(scratch: Path) -> None:
    """``/sys`` of our network, and in it the cgroup tree(s) with our own group as the root.

    The host's must go: with two in the list of mounts, the engine would take each tree twice.
    """
    host, top = cgroups.host(), scratch / "cgroup"
    top.mkdir()
    if host.version is cgroups.Version.V2:
        syscalls.mount("cgroup", top, "cgroup2", QUIET)
    else:
        _mount_trees(host, top)
    syscalls.umount("/sys", Umount.DETACH)
    syscalls.mount("sysfs", "/sys", "sysfs", QUIET)
    syscalls.mount(top, "/sys/fs/cgroup", flags=Mount.MOVE)
    if host.unified is not None:
        os.mkdir(f"{host.unified}/main")
        cgroups.write(f"{host.unified}/main/cgroup.procs", "0")


def _mount_trees(host: cgroups.Host, top: Path) -> None:
    """Version 1: one tree for each controller, or for several together, under the host's names."""
    syscalls.mount("cgroup", top, "tmpfs", QUIET, "mode=755")
    trees: dict[str, list[str]] = {}
    for name, place in host.controllers.items():
        trees.setdefault(place, []).append(name if name in cgroups.CONTROLLERS else f"name={name}")
    for place, names in trees.items():
        (top / os.path.basename(place)).mkdir()
        syscalls.mount("cgroup", top / os.path.basename(place), "cgroup", QUIET, ",".join(names))
    if host.unified is not None:
        (top / os.path.basename(host.unified)).mkdir()
        syscalls.mount("cgroup", top / os.path.basename(host.unified), "cgroup2", QUIET)


def _environment(scratch: Path, shadow: Path | None) -> dict[str, str]:
    """Variables for an engine of its own, and a ``minidock`` that is it."""
    places = [str(ROOT)]
    if shadow is not None and (shadow / "minidock").exists():
        places.insert(0, str(shadow))
    programs = scratch / "bin"
    for folder in (programs, scratch / "tmp"):
        folder.mkdir()
    _write_program(programs / "minidock", places, "labs.command")
    _write_program(programs / "minidock-lab", [str(ROOT)], "labs.__main__")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MINIDOCK_")}
    return kept | {
        INSIDE: str(scratch),
        "MINIDOCK_ROOT": f"{scratch}/root",
        "MINIDOCK_RUN": f"{scratch}/run",
        "MINIDOCK_BRIDGE": "lab0",
        "MINIDOCK_SUBNET": "10.200.0.0/24",
        "PATH": f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": ":".join(places),
        "TMPDIR": f"{scratch}/tmp",
        "LC_ALL": "C.UTF-8",
    }


def _write_program(path: Path, places: Sequence[str], module: str) -> None:
    """Without site, and with our own path only: as ``./setup`` writes the engine's."""
    path.write_text(
        f"#!/usr/bin/python3 -IS\nimport sys\nsys.path[:0] = {list(places)!r}\n"
        f"from {module} import main\nsys.exit(main())\n"
    )
    path.chmod(0o755)
