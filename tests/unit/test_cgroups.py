"""Cgroups without root: finding the trees, and the values that go into version 2's files."""

from pathlib import Path

import pytest

from minidock import cgroups
from minidock.cgroups import Host, Version, parse_mountinfo
from minidock.cgroups.v1 import V1Cgroup, device_line
from minidock.cgroups.v2 import V2Cgroup, weight
from minidock.errors import Unavailable
from minidock.linux import bpf
from minidock.spec.runtime import CPU, DeviceRule, Memory, Pids, Resources

V2 = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
MEMORY = "31 20 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
BOTH = "32 20 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
UNIFIED = "33 20 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("text", "version"),
    [(V2, Version.V2), (MEMORY + BOTH, Version.V1), (MEMORY + UNIFIED, Version.HYBRID)],
)
def test_arrangements(text: str, version: Version) -> None:
    assert parse_mountinfo(text).version is version


def test_controllers_mounted_together_share_a_directory() -> None:
    host = parse_mountinfo(MEMORY + BOTH)
    assert host.controllers["cpu"] == host.controllers["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    assert len(V1Cgroup("/x", host).directories()) == 2


def test_a_missing_controller_is_named() -> None:
    cgroup = V1Cgroup("/x", Host({"memory": "/nowhere"}, None))
    with pytest.raises(Unavailable, match="'pids'"):
        cgroup.apply(Resources(pids=Pids(5)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with the files that the kernel would have put there."""
    group = tmp_path / "g"
    group.mkdir()
    for name in (
        "memory.max",
        "memory.low",
        "memory.swap.max",
        "cpu.max",
        "cpu.weight",
        "pids.max",
    ):
        (group / name).write_text("")
    return tmp_path


def test_version_2_values(tree: Path) -> None:
    cgroup = V2Cgroup("/g", Host({}, str(tree)))
    memory = Memory(limit=100, swap=150, reservation=50)
    cgroup.apply(Resources(memory=memory, cpu=CPU(quota=50000, shares=1024), pids=Pids(7)))
    written = {path.name: path.read_text() for path in (tree / "g").iterdir()}
    assert written == {
        "memory.max": "100",
        "memory.low": "50",
        "memory.swap.max": "50",
        "cpu.max": "50000 100000",
        "cpu.weight": "39",
        "pids.max": "7",
    }


def test_weights() -> None:
    assert [weight(shares) for shares in (2, 1024, 262144)] == [1, 39, 10000]


def test_device_lines() -> None:
    assert device_line(DeviceRule(False)) == "a"
    assert device_line(DeviceRule(True, "c", 1, 3)) == "c 1:3 rwm"
    assert device_line(DeviceRule(True, "b", 8, None, "r")) == "b 8:* r"


def test_a_program_ends_and_is_whole_instructions() -> None:
    program = bpf.device_filter([DeviceRule(False), DeviceRule(True, "c", 1, 3, "r")])
    assert len(program) % 8 == 0 and program.endswith(bpf.EXIT)


def test_describe() -> None:
    resources = Resources(memory=Memory(limit=8), pids=Pids(2))
    assert cgroups._describe(resources) == "memory=8 pids=2"
