"""Names and limits in systemd's words."""

import pytest

from minidock.cgroups import Version, systemd
from minidock.errors import InvalidParameter, NotSupported
from minidock.spec.resources import BlockIO
from minidock.spec.runtime import CPU, Memory, Pids, Resources


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("-.slice", ""),
        ("system.slice", "/system.slice"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
    ],
)
def test_slices_are_nested_by_their_names(name: str, path: str) -> None:
    assert systemd.expand(name) == path


@pytest.mark.parametrize(
    "name", ["system", "-a.slice", "a-.slice", "a--b.slice", ".slice", "a/b.slice"]
)
def test_names_that_are_no_slices(name: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid slice name"):
        systemd.expand(name)


def test_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.isdir", lambda path: False)
    with pytest.raises(NotSupported, match="systemd not running on this host, cannot use systemd"):
        systemd.parse("system.slice:md:one", "one")


LIMITS = Resources(
    memory=Memory(limit=64, swap=96, reservation=32),
    cpu=CPU(quota=25_001, period=50_000, shares=1024, cpus="0-1", mems="0"),
    pids=Pids(7),
    block_io=BlockIO(weight=500),
)


def test_limits_in_version_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "hierarchy", lambda: Version.HYBRID)
    assert systemd.properties(LIMITS) == [
        "MemoryLimit=64", "CPUShares=1024", "CPUQuota=51%", "CPUQuotaPeriodSec=50000us", "TasksMax=7",
        "BlockIOWeight=500",
    ]  # fmt: skip


def test_limits_in_version_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "hierarchy", lambda: Version.V2)
    assert systemd.properties(LIMITS) == [
        "MemoryMax=64", "MemoryLow=32", "MemorySwapMax=32", "CPUWeight=39", "CPUQuota=51%",
        "CPUQuotaPeriodSec=50000us", "AllowedCPUs=0-1", "AllowedMemoryNodes=0", "TasksMax=7",
        "IOWeight=4950",
    ]  # fmt: skip
    no_limits = Resources(memory=Memory(limit=-1, swap=-1), cpu=CPU(quota=-1), pids=Pids(-1))
    assert systemd.properties(no_limits) == [
        "MemoryMax=infinity", "MemorySwapMax=infinity", "CPUQuota=", "TasksMax=infinity",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "written"),
    [("true", "X=true"), ("'one two'", "X=one two"), ("uint64 5", "X=5")],
)
def test_annotations_are_properties(text: str, written: str) -> None:
    assert systemd._annotated({"org.systemd.property.X": text, "other": "1"}) == [written]


def test_times_are_in_seconds_there() -> None:
    asked = {"org.systemd.property.TimeoutStopUSec": "uint64 5000000"}
    assert systemd._annotated(asked) == ["TimeoutStopSec=5000000us"]


@pytest.mark.parametrize("key", ["", "a b", "A=1\nB"])
def test_annotations_that_are_none(key: str) -> None:
    with pytest.raises(InvalidParameter, match="is no property of a unit"):
        systemd._annotated({f"org.systemd.property.{key}": "1"})
