"""The network on the real kernel, in a host of its own: a private network namespace."""

import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minidock import steps
from minidock.errors import Conflict, Unavailable
from minidock.linux import netlink, syscalls
from minidock.network import Endpoint, Network, PortMapping, make_netns, remove_netns, reserve
from minidock.network.bridge import veth_name
from minidock.paths import Paths
from tests.speed import SLOWNESS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
STEPS = (
    "take an address",
    "make the network namespace",
    "plug in the cable",
    "set address and route",
    "publish the ports",
)


@pytest.fixture
def host() -> Iterator[None]:
    """This thread, and what it starts, in a new network namespace, as if on another host."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    syscalls.unshare(syscalls.Clone.NEWNET)
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        syscalls.setns(home, syscalls.Clone.NEWNET)
        os.close(home)


@pytest.fixture
def network(host: None, tmp_path: Path) -> Iterator[Network]:
    subnet = f"10.{secrets.randbelow(255)}.{secrets.randbelow(255)}.0/24"
    made = Network(Paths(tmp_path / "root", tmp_path / "run"), f"t{secrets.token_hex(4)}", subnet)
    made.ensure()
    yield made
    made.remove_leftovers(())
    made.shutdown()
    assert shell("nft list ruleset") == ""
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def shell(command: str) -> str:
    return subprocess.run(
        command, shell=True, check=True, capture_output=True, text=True
    ).stdout.strip()


def new_id() -> str:
    return secrets.token_hex(32)


def netns(network: Network, container: str) -> Path:
    return network._netns / container


def serve(network: Network, container: str, port: int = 80) -> None:
    """Answer in the container, from a thread, with the caller's address."""
    fd = os.open(netns(network, container), os.O_RDONLY)
    listener = netlink.in_namespace(fd, lambda: socket.create_server(("0.0.0.0", port)))
    os.close(fd)
    listener.settimeout(10)

    def answer() -> None:
        try:
            while True:
                client, peer = listener.accept()
                with client:
                    client.sendall(peer[0].encode())
        except OSError:  # nobody came for a while
            listener.close()

    threading.Thread(target=answer, daemon=True).start()


def ask(address: str, port: int, network: Network | None = None, container: str = "") -> str:
    def call() -> str:
        with socket.create_connection((address, port), 3) as connection:
            return connection.recv(100).decode()

    if network is None:
        return call()
    fd = os.open(netns(network, container), os.O_RDONLY)
    try:
        return netlink.in_namespace(fd, call)
    finally:
        os.close(fd)


def web(network: Network) -> tuple[str, Endpoint]:
    container = new_id()
    ports, sockets = reserve([PortMapping("0.0.0.0", 0, 80)])
    endpoint = network.connect(container, None, ports)
    serve(network, container)
    network.held = sockets  # type: ignore[attr-defined]
    return container, endpoint


def test_published_port_answers_from_everywhere(network: Network) -> None:
    container, endpoint = web(network)
    port, other = endpoint.ports[0].host_port, new_id()
    network.connect(other, None, [])
    assert ask("127.0.0.1", port) == endpoint.gateway
    assert ask(endpoint.gateway, port) == endpoint.gateway
    assert ask(endpoint.gateway, port, network, other)
    assert ask(endpoint.gateway, port, network, container)  # the hairpin
    assert ask(endpoint.address, 80, network, other) == network.endpoints()[other].address


def test_outside_sees_the_hosts_address(network: Network, tmp_path: Path) -> None:
    container, endpoint = web(network)
    far = tmp_path / "far"  # not `ip netns add`: it would leave the mount of /run/netns for good
    make_netns(far)
    there = f"nsenter --net={far} ip"
    try:
        shell("ip link add out0 type veth peer name in0 && ip link set out0 up")
        fd = os.open(far, os.O_RDONLY)
        shell(f"ip link set in0 netns /proc/{os.getpid()}/fd/{fd}")
        shell(f"ip addr add 192.0.2.1/24 dev out0 && {there} addr add 192.0.2.2/24 dev in0")
        shell(f"{there} link set in0 up")
        listener = netlink.in_namespace(fd, lambda: socket.create_server(("192.0.2.2", 99)))
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.append(listener.accept()[1][0]))
        thread.start()
        inside = os.open(netns(network, container), os.O_RDONLY)
        netlink.in_namespace(inside, lambda: socket.create_connection(("192.0.2.2", 99), 3).close())
        thread.join(5)
        assert seen == ["192.0.2.1"]
        port = endpoint.ports[0].host_port
        reply = netlink.in_namespace(fd, lambda: ask("192.0.2.1", port))
        assert reply == "192.0.2.2"  # from outside, the caller's address is kept
        listener.close()
        os.close(inside)
        os.close(fd)
    finally:
        remove_netns(far)


def test_disconnect_leaves_nothing(network: Network) -> None:
    before = shell("nft list ruleset"), shell("ip -o link | wc -l")
    container, _ = web(network)
    network.disconnect(container)
    network.disconnect(container)
    assert (shell("nft list ruleset"), shell("ip -o link | wc -l")) == before
    assert network.endpoints() == {}
    assert not netns(network, container).exists()


@pytest.mark.parametrize("title", STEPS)
def test_fault_at_every_step_leaves_nothing(network: Network, title: str) -> None:
    before = shell("nft list ruleset"), shell("ip -o link | wc -l")
    fault = steps.listening(None, fault=steps.Fault(title, "fail"))
    with fault, pytest.raises(steps.InjectedFault) as raised:
        network.connect(new_id(), None, [PortMapping("0.0.0.0", 4000, 80)])
    assert not getattr(raised.value, "__notes__", [])
    assert (shell("nft list ruleset"), shell("ip -o link | wc -l")) == before
    assert network.endpoints() == {}
    assert not network._netns.exists() or list(network._netns.iterdir()) == []


def test_crash_recovery(network: Network, tmp_path: Path) -> None:
    kept, kept_endpoint = web(network)
    lost, _ = web(network)
    again = Network(Paths(tmp_path / "root", tmp_path / "run"), network.bridge, str(network.subnet))
    again.ensure()
    assert again.remove_leftovers({kept}) == [lost]
    assert again.endpoints() == {kept: kept_endpoint}
    assert ask("127.0.0.1", kept_endpoint.ports[0].host_port)
    assert veth_name(lost) not in shell("ip -o link")


def forwarding() -> str:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()


def test_forwarding_is_given_back_by_the_last_who_needs_it(host: None, tmp_path: Path) -> None:
    shell("echo 0 > /proc/sys/net/ipv4/ip_forward")
    paths = Paths(tmp_path / "root", tmp_path / "run")
    one, two = (Network(paths, f"t{secrets.token_hex(4)}", f"10.9.{n}.0/24") for n in (1, 2))
    one.ensure()
    two.ensure()
    assert forwarding() == "1"
    one.shutdown()
    assert forwarding() == "1"  # the other still needs it
    two.shutdown()
    assert forwarding() == "0"
    shell("echo 1 > /proc/sys/net/ipv4/ip_forward")
    one._ready = False
    one.ensure()
    one.shutdown()
    assert forwarding() == "1"  # it was on before us


def test_small_subnet_is_exhausted(host: None, tmp_path: Path) -> None:
    paths = Paths(tmp_path / "root", tmp_path / "run")
    small = Network(paths, f"t{secrets.token_hex(4)}", "10.9.8.0/29")
    small.ensure()
    for _ in range(5):
        small.connect(new_id(), None, [])
    with pytest.raises(Unavailable, match="no available IPv4 addresses"):
        small.connect(new_id(), None, [])
    assert len(small.remove_leftovers(())) == 5
    small.shutdown()


def test_concurrent_connects_get_distinct_addresses(network: Network) -> None:
    ids = [new_id() for _ in range(12)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda one: network.connect(one, None, []), ids))
    assert len({one.address for one in made}) == len(ids)


def test_connect_is_fast(network: Network) -> None:
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        network.connect(new_id(), None, [])
        times.append(time.perf_counter() - begun)
    print(f"connect: median {sorted(times)[5] * 1000:.1f} ms")
    assert sorted(times)[5] < 0.1 * SLOWNESS  # far above what it takes: the machine may be busy


def test_taken_port_in_dockers_words(host: None) -> None:
    ports, held = reserve([PortMapping("127.0.0.1", 0, 80)])
    with pytest.raises(Conflict, match="failed: port is already allocated"):
        reserve(ports)
    held[0].close()


def test_foreign_drop_policy_is_opened_and_closed(network: Network) -> None:
    shell("iptables -P FORWARD DROP")
    network._ready = False
    network.ensure()
    assert f"-A FORWARD -i {network.bridge} -j ACCEPT" in shell("iptables -S FORWARD")
    network.shutdown()
    assert shell("iptables -S FORWARD") == "-P FORWARD DROP"
    shell("iptables -P FORWARD ACCEPT && nft delete table ip filter")
