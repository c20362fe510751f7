"""From the API's HostConfig to OCI: limits, devices, modes, security options, id maps."""

from pathlib import Path
from typing import Any

import pytest

from minidock import cgroups
from minidock.engine import devices, modes, remap, resources, security
from minidock.engine.request import _HOST_DEFAULTS
from minidock.errors import InvalidParameter, Unavailable
from minidock.spec.runtime import DeviceRule, IDMapping


def host(**given: Any) -> dict[str, Any]:
    return {**_HOST_DEFAULTS, **given}


# %% Limits
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"Memory": 1000}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 8 << 20, "MemorySwap": 7 << 20}, "larger than memory limit"),
        ({"MemorySwap": 8 << 20}, "always set the Memory limit"),
        ({"MemoryReservation": 100}, "Minimum memory reservation allowed is 6MB"),
        ({"MemorySwappiness": 101}, "range is 0-100"),
        ({"KernelMemory": 5}, "kernel memory is not supported"),
        ({"NanoCpus": 10**15}, "range of CPUs"),
        ({"CpuPeriod": 5}, "CPU cfs period"),
        ({"CpuQuota": 5}, "CPU cfs quota"),
        ({"CpuRealtimePeriod": 1, "CpuRealtimeRuntime": 2}, "runtime cannot be higher"),
        ({"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000"),
        ({"BlkioWeightDevice": [{"Path": "/dev/null", "Weight": 5}]}, "Range of blkio weight"),
        ({"BlkioDeviceReadBps": [{"Path": "/not/there", "Rate": 5}]}, "no such file"),
        ({"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 5}]}, "not a block device"),
        ({"OomScoreAdj": 1001}, r"range for oom score adj is \[-1000, 1000\]"),
        ({"ShmSize": -1}, "SHM size"),
        ({"Ulimits": [{"Name": "files", "Soft": 1, "Hard": 1}]}, "invalid ulimit type: files"),
        ({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}, "less than or equal"),
    ],
)
def test_limits_that_make_no_sense(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        resources.check(host(**given))


def test_what_the_cgroup_is_told() -> None:
    given = host(
        Memory=64 << 20, MemorySwap=-1, CpuShares=5, NanoCpus=5 * 10**8, PidsLimit=7, BlkioWeight=50
    )
    found = resources.resources(given, [DeviceRule(False)])
    assert found.memory and (found.memory.limit, found.memory.swap) == (64 << 20, -1)
    assert found.cpu and (found.cpu.quota, found.cpu.period, found.cpu.shares) == (50000, 100000, 5)
    assert found.pids and found.pids.limit == 7
    assert found.block_io and found.block_io.weight == 50
    nothing = resources.resources(host(), [])
    assert (nothing.memory, nothing.cpu, nothing.pids, nothing.block_io) == (None, None, None, None)


def test_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "host_bounding_set", lambda: 0)
    monkeypatch.setattr(resources.resource, "getrlimit", lambda number: (10, 20))
    monkeypatch.setattr(cgroups, "hierarchy", lambda: cgroups.Version.V2)
    said = resources.warnings(
        host(
            CapAdd=["NET_ADMIN", "ALL"],
            Ulimits=[
                {"Name": "nofile", "Soft": 15, "Hard": -1},
                {"Name": "core", "Soft": 1, "Hard": 2},
            ],
            OomScoreAdj=-1,
            OomKillDisable=True,
            MemorySwappiness=5,
        )
    )
    assert [line.partition(" ")[0] for line in said] == [
        "CAP_NET_ADMIN", "ulimit", "OomScoreAdj", "Your", "Your",
    ]  # fmt: skip
    assert "15:20" in said[1]
    assert resources.warnings(host()) == []


# %% Devices
def test_rules_and_nodes() -> None:
    entry = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/hole", "CgroupPermissions": "r"}
    given = host(Devices=[entry], DeviceCgroupRules=["c 42:* rwm", "b 7:1 r"])
    assert [(one.path, one.major, one.minor) for one in devices.nodes(given)] == [
        ("/dev/hole", 1, 3)
    ]
    assert devices.rules(given) == (
        DeviceRule(False, access="rwm"),
        DeviceRule(True, "c", 1, 3, "r"),
        DeviceRule(True, "c", 42, None, "rwm"),
        DeviceRule(True, "b", 7, 1, "r"),
    )


def test_privileged_has_the_host_s_devices_but_not_its_terminals() -> None:
    paths = {device.path for device in devices.nodes(host(Privileged=True))}
    assert "/dev/null" in paths
    assert not [path for path in paths if path.startswith(("/dev/pts", "/dev/console", "/dev/shm"))]
    assert devices.rules(host(Privileged=True)) == (DeviceRule(True, access="rwm"),)


@pytest.mark.parametrize("rule", ["", "c 1:3", "x 1:3 r", "c 1:3 rx", "c 1:3 r extra", "c -1:3 r"])
def test_rules_that_make_no_sense(rule: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid device cgroup rule format"):
        devices.check(host(DeviceCgroupRules=[rule]))


def test_devices_that_are_none(tmp_path: Path) -> None:
    for path in (str(tmp_path), "/etc/passwd", "/not/there"):
        with pytest.raises(InvalidParameter, match="error gathering device information"):
            devices.nodes(host(Devices=[{"PathOnHost": path}]))
    with pytest.raises(InvalidParameter, match="invalid device mode: x"):
        devices.check(host(Devices=[{"PathOnHost": "/dev/null", "CgroupPermissions": "x"}]))


# %% Modes and sysctls
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"PidMode": "private"}, "invalid PID mode: private"),
        ({"IpcMode": "container:"}, "invalid IPC mode: container:"),
        ({"UTSMode": "container:x"}, "invalid UTS mode"),
        ({"UsernsMode": "private"}, "invalid USER mode"),
        ({"CgroupnsMode": "container:x"}, "invalid cgroup namespace mode"),
        ({"Sysctls": {"kernel.panic": "1"}}, "not in a separate kernel namespace"),
        ({"Sysctls": {"kernel.hostname": "x"}}, "use --hostname"),
        (
            {"Sysctls": {"net.x": "1"}, "NetworkMode": "host"},
            "not allowed in host network namespace",
        ),
        (
            {"Sysctls": {"kernel.sem": "1"}, "IpcMode": "host"},
            "not allowed in the hosts ipc namespace",
        ),
        ({"Sysctls": {"kernel.domainname": "x"}, "UTSMode": "host"}, "hosts UTS namespace"),
    ],
)
def test_modes_that_make_no_sense(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        modes.check(host(**given))


def test_modes_that_do() -> None:
    modes.check(
        host(PidMode="container:x", IpcMode="shareable", Sysctls={"net.core.somaxconn": "1"})
    )


# %% Security options
@pytest.mark.parametrize(
    ("option", "kind", "words"),
    [
        ("apparmor=docker-default", Unavailable, "no AppArmor"),
        ("nonsense", InvalidParameter, "invalid --security-opt 1"),
        ("speed=high", InvalidParameter, "invalid --security-opt 2"),
        ("no-new-privileges=perhaps", InvalidParameter, "invalid --security-opt 2"),
        ("seccomp={", InvalidParameter, "Decoding seccomp profile failed"),
    ],
)
def test_security_options_that_make_no_sense(
    option: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        security.check(host(SecurityOpt=[option]))


def test_security_options() -> None:
    assert security.no_new_privileges(host(SecurityOpt=["no-new-privileges"]))
    assert security.no_new_privileges(host(SecurityOpt=["no-new-privileges:true"]))
    assert not security.no_new_privileges(host(SecurityOpt=["no-new-privileges=false"]))
    assert security.system_call_filter(host()) is not None
    assert security.system_call_filter(host(Privileged=True)) is None
    assert security.system_call_filter(host(SecurityOpt=["seccomp=unconfined"])) is None
    both = host(Privileged=True, SecurityOpt=['seccomp={"defaultAction": "SCMP_ACT_LOG"}'])
    assert security.system_call_filter(both).default_action == "SCMP_ACT_LOG"  # type: ignore[union-attr]
    security.check(host(SecurityOpt=["label=disable", "apparmor=unconfined"]))


# %% Subordinate ids
def test_ranges_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "subuid"
    table.write_text("root:1000:10\nother:5:5\n0:2000:5\nroot:broken\n")
    monkeypatch.setattr(remap, "SUBUID", str(table))
    monkeypatch.setattr(remap, "SUBGID", str(table))
    found = remap.read("root")
    assert found.uids == (
        IDMapping(size=10, container_id=0, host_id=1000),
        IDMapping(size=5, container_id=10, host_id=2000),
    )
    assert found.root == (1000, 1000)
    assert remap.read("0:0") == found


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("no-such-user", "no user 'no-such-user' on this host"),
        ("root:no-such-group", "no group 'no-such-group'"),
        ("daemon", "no subuid ranges found for user 'daemon'"),
    ],
)
def test_no_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, words: str
) -> None:
    (tmp_path / "subuid").write_text("root:1000:10\n")
    monkeypatch.setattr(remap, "SUBUID", str(tmp_path / "subuid"))
    monkeypatch.setattr(remap, "SUBGID", str(tmp_path / "missing"))
    with pytest.raises(InvalidParameter, match=words):
        remap.read(option)
