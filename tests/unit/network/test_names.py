"""The texts that give a container its names, and the addresses' arithmetic."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from minidock.errors import Unavailable
from minidock.network import names
from minidock.network.addresses import Addresses, PortMapping, mac_of


def test_loopback_resolver_is_filtered() -> None:
    text = names.resolv_conf(
        host="nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a b\noptions ndots:2\n"
    )
    assert text == "nameserver 10.0.0.1\nsearch a b\noptions ndots:2\n"


def test_fallback_when_none_can_be_reached() -> None:
    text = names.resolv_conf(host="nameserver 127.0.0.53\n")
    assert text == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_what_was_asked_for_wins() -> None:
    text = names.resolv_conf(["1.2.3.4"], ["."], host="nameserver 10.0.0.1\nsearch a\n")
    assert text == "nameserver 1.2.3.4\n"


def test_hosts() -> None:
    text = names.hosts("web", "lan", "10.0.0.2", [("db", "10.0.0.3")])
    assert text.endswith("10.0.0.3\tdb\n10.0.0.2\tweb.lan web\n")


def test_mac_is_made_of_the_address() -> None:
    assert mac_of("172.30.0.2") == "02:42:ac:1e:00:02"


def test_addresses_are_lowest_first_distinct_and_persistent(tmp_path: Path) -> None:
    file, subnet = tmp_path / "b.json", IPv4Network("10.0.0.0/30")
    port = PortMapping("0.0.0.0", 8080, 80)
    first = Addresses(file, subnet, "b").allocate("a", None, [port])
    assert first.address == "10.0.0.2"
    again = Addresses(file, subnet, "b")
    assert again.all() == {"a": first}
    with pytest.raises(Unavailable):
        again.allocate("c", None, [])
    again.release("a")
    again.release("a")
    assert again.all() == {}
