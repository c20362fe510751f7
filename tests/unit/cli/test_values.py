"""Values of flags: ports, sizes, durations, mounts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidock.cli.flags import OptionError, billionths, duration, size
from minidock.cli.mounts import mount, volumes
from minidock.cli.ports import bindings, exposed
from minidock.cli.stats import processor_share
from minidock.cli.table import binary_size

PORTS = st.integers(0, 65535)


@given(
    PORTS,
    PORTS,
    st.sampled_from(["tcp", "udp", "sctp"]),
    st.sampled_from(["", "127.0.0.1", "[::1]"]),
)
def test_what_is_written_is_what_is_read(host: int, port: int, protocol: str, address: str) -> None:
    before = f"{address}:" if address else ""
    found = bindings([f"{before}{host}:{port}/{protocol}"])
    assert found == {f"{port}/{protocol}": [{"HostIp": address.strip("[]"), "HostPort": str(host)}]}


@given(st.integers(0, 65000), st.integers(0, 65000), st.integers(0, 20))
def test_ranges_go_side_by_side(host: int, port: int, more: int) -> None:
    found = bindings([f"{host}-{host + more}:{port}-{port + more}"])
    assert len(found) == more + 1
    for n in range(more + 1):
        assert found[f"{port + n}/tcp"] == [{"HostIp": "", "HostPort": str(host + n)}]


@given(st.text("0123456789:-/.ab[]=,", max_size=12))
def test_nonsense_is_refused_or_makes_ports(text: str) -> None:
    try:
        found = bindings([text])
    except OptionError:
        return
    for key in found:
        number, _, protocol = key.partition("/")
        assert 0 <= int(number) <= 65535 and protocol in ("tcp", "udp", "sctp")


def test_exposed_counts_what_is_published_too() -> None:
    assert set(exposed(["5-6/UDP"], {"80/tcp": []})) == {"80/tcp", "5/udp", "6/udp"}


@given(st.integers(0, 10**6), st.sampled_from("bkmgtp"), st.sampled_from(["", "b", "ib"]))
def test_sizes(number: int, unit: str, tail: str) -> None:
    if unit == "b" and tail:
        return
    assert size(f"{number}{unit}{tail}") == number * 1024 ** "bkmgtp".index(unit)
    assert size(f"{number}{(unit + tail).upper()}") == number * 1024 ** "bkmgtp".index(unit)


@given(st.integers(0, 10**9))
def test_processors(nano: int) -> None:
    assert billionths(f"{nano}/1000000000") == nano


@pytest.mark.parametrize(
    ("text", "nano"),
    [("1s", 10**9), ("1m30s", 90 * 10**9), ("1h", 3600 * 10**9), ("500ms", 5 * 10**8), ("1.5s", 15 * 10**8), ("0", 0), ("-5s", -5 * 10**9), ("3us", 3000)],
)  # fmt: skip
def test_durations(text: str, nano: int) -> None:
    assert duration(text) == nano


@pytest.mark.parametrize("text", ["", "5", "s", "5x", "5s5", "1 s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "binds", "anonymous"),
    [
        ("/a:/b", ["/a:/b"], {}), ("name:/b:ro", ["name:/b:ro"], {}), ("/b", [], {"/b": {}}),
        ("x", [], {"x": {}}), ("v:/b", [], {"v:/b": {}}), ("/a:/b:c:d", ["/a:/b:c:d"], {}),
    ],
)  # fmt: skip
def test_volumes(text: str, binds: list[str], anonymous: dict[str, object]) -> None:
    assert volumes([text]) == (binds, anonymous)


def test_mounts() -> None:
    made = mount('type=bind,"src=/a,b",dst=/x,readonly,bind-propagation=rslave')
    assert made == {
        "Type": "bind", "Source": "/a,b", "Target": "/x", "ReadOnly": True, "BindOptions": {"Propagation": "rslave"},
    }  # fmt: skip


# %% stats
def test_a_share_of_the_processors() -> None:
    now = {
        "cpu_stats": {
            "cpu_usage": {"total_usage": 300},
            "system_cpu_usage": 2000,
            "online_cpus": 4,
        },
        "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
    }
    assert processor_share(now) == 80.0
    now["precpu_stats"] = now["cpu_stats"]
    assert processor_share(now) == 0.0


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (1536, "1.5KiB"),
        (64 << 20, "64MiB"),
        (3 << 30, "3GiB"),
    ],
)
def test_binary_sizes(number: int, text: str) -> None:
    assert binary_size(number) == text
