"""Lab ``namespaces``: the clone bits of a new container, and the way into a running one."""

import os

from labs.bench import Bench, Box, expect

NEW = {"mount": "NEWNS", "pid": "NEWPID", "network": "NEWNET", "ipc": "NEWIPC", "uts": "NEWUTS"}
FILES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")


# %% flags()
def bits(bench: Bench) -> None:
    """flags() asks for exactly the namespaces that are to be new."""
    from minidock.linux.syscalls import Clone
    from minidock.namespaces import flags
    from minidock.spec.runtime import Namespace

    for kind, bit in NEW.items():
        got = Clone(flags([Namespace(kind)]))
        expect(
            got == Clone[bit], f"{Clone[bit]!r} for a new {kind} namespace", f"flags() says {got!r}"
        )
    got = Clone(flags([Namespace(kind) for kind in NEW]))
    missing = [bit for bit in NEW.values() if Clone[bit] not in got]
    expect(
        not missing,
        "all five bits for five namespaces",
        f"these are not in it: {' '.join(missing)}",
    )
    got = Clone(flags([Namespace("cgroup")]))
    expect(
        Clone.NEWCGROUP not in got,
        "no CLONE_NEWCGROUP: its root would be the cgroup of the engine, in which the child still is",
        f"flags() says {got!r}",
    )
    got = Clone(flags([Namespace("time")]))
    expect(
        Clone.NEWTIME not in got,
        "no CLONE_NEWTIME: clone(2) has no room for it, and its offsets must be written first",
        f"flags() says {got!r}",
    )


def existing(bench: Bench) -> None:
    """A namespace with a path is joined, not made."""
    from minidock.namespaces import flags
    from minidock.spec.runtime import Namespace

    path = "/proc/self/ns/net"
    got = int(flags([Namespace("network", path)]))
    expect(got == 0, f"no bit for the network namespace at {path}", f"flags() says {got:#x}")
    box = bench.box()
    devices = box.exec("ls", "/sys/class/net").split()
    expect(
        "eth0" in devices,
        "eth0 in the container, whose network namespace the engine has prepared",
        f"it has only {' '.join(devices)}: it is in another, new one",
    )


# %% In a running container
def separate(bench: Bench) -> None:
    """A container shares no namespace with the engine."""
    box = bench.box("--hostname", "inner")
    for kind in FILES:
        ours = os.readlink(f"/proc/self/ns/{kind}")
        expect(
            box.namespace(kind) != ours,
            f"the container to have a {kind} namespace of its own",
            f"/proc/{box.pid}/ns/{kind} is {ours}, the engine's",
        )
    name = os.uname().nodename
    expect(
        name == "lab", "the host to keep its name", f"uname(2) says that the host is called {name}"
    )


def exec_joins(bench: Bench) -> None:
    """exec enters every namespace of the container."""
    box = bench.box()
    links = box.exec(*_readlinks()).split()
    for kind, link in zip(FILES, links, strict=True):
        _compare(box, kind, link)


def _readlinks() -> list[str]:
    return [
        "sh",
        "-c",
        "for kind in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$kind; done",
    ]


def _compare(box: Box, kind: str, link: str) -> None:
    theirs = box.namespace(kind)
    expect(
        link == theirs,
        f"exec's process in the container's {kind} namespace, {theirs}",
        f"its /proc/self/ns/{kind} is {link}",
    )


def exec_sees(bench: Bench) -> None:
    """What exec runs sees the container's processes, files and name."""
    box = bench.box("--hostname", "inner", run=("sleep", "123456"))
    processes = box.exec("ps", "-o", "args")
    expect(
        "sleep 123456" in processes,
        "ps in the container to show its `sleep`",
        f"ps says: {processes!r}",
    )
    name = box.exec("hostname")
    expect(name == "inner", "the host name inner", f"hostname says {name!r}")
    pid = int(box.exec("sh", "-c", "echo $$"))
    expect(1 < pid < 100, "a small process id, from the container's own numbers", f"it is {pid}")


def shared(bench: Bench) -> None:
    """exec also works in a container that shares a namespace with the host."""
    box = bench.box("--network", "host")
    net = os.readlink("/proc/self/ns/net")
    expect(
        box.namespace("net") == net,
        "--network host to leave the container in the host's network namespace",
        f"it is in {box.namespace('net')}, the host in {net}",
    )
    for kind, link in zip(FILES, box.exec(*_readlinks()).split(), strict=True):
        _compare(box, kind, link)
