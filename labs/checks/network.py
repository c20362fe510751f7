"""Lab ``network``: a container's address and route, and the translation of addresses.

There is a neighbour: a network namespace on the other end of a cable, like a
machine in the same street, with an address of its own and no route to the
containers. All servers and clients are small Python programs that are sent
into the namespace where they belong.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from labs.bench import PATIENCE, Bench, Box, Done, Wrong, command, expect

HOST, NEIGHBOUR, BRIDGE = "192.0.2.1", "192.0.2.2", "10.200.0.1"

_SERVE = """
import socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print(server.getsockname()[1], flush=True)
while True:
    client, (address, _) = server.accept()
    client.sendall(f"{sys.argv[2]} {address}".encode())
    client.close()
"""

_CALL = """
import socket, sys
try:
    server = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
except OSError as error:
    sys.exit(f"connect(2): {error}")
try:
    print(server.recv(100).decode())
except OSError as error:
    sys.exit(f"recv(2): {error}")
"""


# %% Who sits where
@contextmanager
def neighbour() -> Iterator[int]:
    """A process in a network namespace of its own, cabled to us."""
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000000"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        _must(
            "ip", "link", "add", "street", "type", "veth", "peer", "eth0", "netns", str(process.pid)
        )
        _must("ip", "addr", "add", f"{HOST}/24", "dev", "street")
        _must("ip", "link", "set", "street", "up")
        inside = ["nsenter", "-n", "-t", str(process.pid), "ip"]
        _must(*inside, "addr", "add", f"{NEIGHBOUR}/24", "dev", "eth0")
        _must(*inside, "link", "set", "eth0", "up")
        yield process.pid
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        with suppress(Wrong):
            _must("ip", "link", "delete", "street")


def _must(*words: str) -> None:
    done = command(*words)
    expect(done.status == 0, f"`{' '.join(words)}` to work", done.last)


def _python(pid: int | None, program: str, *arguments: str) -> list[str]:
    enter = [] if pid is None else ["nsenter", "-n", "-t", str(pid)]
    return [*enter, sys.executable, "-IS", "-c", program, *arguments]


@contextmanager
def server(pid: int | None, name: str, port: int = 0) -> Iterator[int]:
    """A server that says ``NAME ADDRESS-OF-THE-CLIENT``, in the network of ``pid``; its port."""
    process = subprocess.Popen(_python(pid, _SERVE, str(port), name), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def call(pid: int | None, address: str, port: int) -> Done:
    """Connect from the network of ``pid``; what the server says."""
    return command(*_python(pid, _CALL, address, str(port), str(PATIENCE)))


# %% The cable
def cable(bench: Bench) -> None:
    """eth0 has its address, is up, and leads to the gateway."""
    box = bench.box()
    wanted = box.inspect()["NetworkSettings"]["IPAddress"]
    enter = ("nsenter", "-n", "-t", str(box.pid), "ip", "-4")
    link = command(*enter, "link", "show", "eth0").out
    expect(
        "state UP" in link,
        "eth0 to be up",
        f"ip link says: {link.splitlines()[0] if link else link}",
    )
    addresses = command(*enter, "-o", "addr", "show", "eth0").out
    expect(
        f"{wanted}/24" in addresses,
        f"the address {wanted}/24 on eth0",
        f"ip addr says: {addresses.strip() or 'none'}",
    )
    routes = command(*enter, "route").out
    expect(
        f"default via {BRIDGE}" in routes,
        f"a default route by the gateway {BRIDGE}",
        f"ip route says: {routes.strip() or 'none'}",
    )
    with server(None, "host") as port:
        done = call(box.pid, BRIDGE, port)
    expect(done.status == 0, "the container to reach its gateway", done.last)


def outside(bench: Bench) -> None:
    """A container reaches the neighbour, who sees the host's address."""
    with neighbour() as them:
        box = bench.box()
        with server(them, "neighbour") as port:
            done = call(box.pid, NEIGHBOUR, port)
    expect(
        done.status == 0,
        f"the container to reach the neighbour {NEIGHBOUR}",
        f"{done.last}; the neighbour has no route to {BRIDGE}/24: its answers must go to the host's address",
    )
    expect(
        done.out.strip() == f"neighbour {HOST}",
        f"the neighbour to see {HOST}",
        f"it sees {done.out.strip()}",
    )


# %% The published port
@contextmanager
def serving(bench: Bench) -> Iterator[tuple[Box, int]]:
    """A container with a server on port 80, and the host's port for it."""
    box = bench.box("-p", "80")
    port = int(bench.minidock("port", box.id, "80").splitlines()[0].rpartition(":")[2])
    with server(box.pid, "container", 80):
        yield box, port


def _expect_container(done: Done, who: str, how: str) -> str:
    """The address that the container has seen."""
    expect(done.status == 0, f"{who} to reach the published port", f"{done.last}: {how}")
    name, _, seen = done.out.strip().partition(" ")
    expect(
        name == "container", f"{who} to be answered by the container", f"{name or 'nobody'} answers"
    )
    return seen


def published(bench: Bench) -> None:
    """The neighbour reaches a published port, and the container sees who it is."""
    with neighbour() as them, serving(bench) as (_, port):
        done = call(them, HOST, port)
    seen = _expect_container(done, "the neighbour", "what arrives passes the hook prerouting")
    expect(
        seen == NEIGHBOUR,
        f"the container to see who calls: {NEIGHBOUR}",
        f"it sees {seen}: the packet was masqueraded on its way in",
    )


def localhost(bench: Bench) -> None:
    """The host itself reaches the published port, as localhost and by its own address."""
    with serving(bench) as (_, port):
        for address in ("127.0.0.1", BRIDGE):
            done = call(None, address, port)
            if done.last.startswith("recv(2)"):
                raise Wrong(
                    f"{address}:{port} to lead to the container",
                    "connect(2) succeeds, but it is the engine's own socket, which only reserves the "
                    "port: what the host sends passes the hook output, never prerouting",
                )
            _expect_container(
                done, f"the host at {address}", f"a packet from {address} found no way back"
            )


def hairpin(bench: Bench) -> None:
    """A container reaches its own published port by the host's address."""
    with serving(bench) as (box, port):
        done = call(box.pid, BRIDGE, port)
    _expect_container(
        done,
        "the container itself (the hairpin)",
        "it gets an answer from itself, not from whom it has called, unless the source is masqueraded",
    )


def not_ours(bench: Bench) -> None:
    """A call to the same port of another machine is left alone."""
    with neighbour() as them, serving(bench) as (_, port):
        other = bench.box()
        with server(them, "neighbour", port):
            done = call(other.pid, NEIGHBOUR, port)
    expect(
        done.out.startswith("neighbour"),
        f"a container's call of {NEIGHBOUR}:{port} to reach the neighbour",
        f"{done.out.split()[0]} answers: only packets to this host's own addresses are for the published port"
        if done.out.strip()
        else f"{done.last} (is check outside well?)",
    )
