"""Cgroups on the real kernel."""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from minidock import cgroups
from minidock.errors import Conflict, InvalidParameter, Unavailable
from minidock.linux import bpf, syscalls
from minidock.linux.syscalls import Clone
from minidock.spec.resources import HugepageLimit, Network, Rdma
from minidock.spec.runtime import CPU, DeviceRule, Memory, Pids, Resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

RULES = (DeviceRule(False), DeviceRule(True, "c", 1, 3), DeviceRule(True, "c", 1, 5, "r"))


@pytest.fixture
def path() -> Iterator[str]:
    name = f"/minidock/test-{secrets.token_hex(4)}"
    yield name
    cgroup = cgroups.open(name)
    cgroup.kill()
    cgroup.delete()


def spawn(cgroup: cgroups.Cgroup, script: str) -> "subprocess.Popen[str]":
    """A shell that enters the group before it does anything."""
    process = subprocess.Popen(
        ["sh", "-c", f"read go; {script}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    cgroup.add(process.pid)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process


def test_the_entrance_leads_into_every_tree(path: str) -> None:
    """Also for a process that has a user namespace of its own, and no right to open any of these files."""
    entrance = cgroups.create(path, Resources()).entrance()
    reads, writes = os.pipe()
    pid = syscalls.clone(Clone.NEWUSER, entrance.born)
    if pid == 0:
        entrance.enter()
        with open("/proc/self/cgroup") as file:
            os.write(writes, file.read().encode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    entrance.close()
    places = [line.split(":")[2] for line in os.read(reads, 10000).decode().splitlines()]
    os.close(reads)
    os.close(writes)
    assert places and set(places) == {path}


def test_limits_are_kept(path: str) -> None:
    resources = Resources(
        memory=Memory(limit=16 << 20), cpu=CPU(quota=50000, period=100000), pids=Pids(3)
    )
    cgroup = cgroups.create(path, resources)
    process = spawn(cgroup, "sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait")
    output, _ = process.communicate()
    assert "fork" in output
    assert cgroup.stats().memory_limit == 16 << 20


def test_out_of_memory_is_seen(path: str) -> None:
    cgroup = cgroups.create(path, Resources(memory=Memory(limit=8 << 20, swap=8 << 20)))
    process = spawn(cgroup, "head -c 100000000 /dev/zero | tail > /dev/null")
    process.communicate()
    assert cgroup.oom_killed()


def test_kill_ends_everybody(path: str) -> None:
    cgroup = cgroups.create(path, Resources())
    process = spawn(cgroup, "for i in 1 2 3 4 5; do sleep 100 & done; wait")
    while len(cgroup.pids()) < 6:
        time.sleep(0.01)
    cgroup.kill()
    assert cgroup.pids() == []
    assert process.wait(5) == -signal.SIGKILL


def test_freeze_and_thaw(path: str) -> None:
    cgroup = cgroups.create(path, Resources())
    process = spawn(cgroup, "while true; do :; done")
    cgroup.freeze(True)
    before = cgroup.stats().cpu
    time.sleep(0.2)
    frozen = cgroup.stats().cpu - before
    cgroup.freeze(False)
    assert frozen < 50_000_000
    cgroup.kill()
    process.wait(5)


def test_delete_twice_and_children(path: str) -> None:
    cgroups.create(path, Resources())
    inner = cgroups.create(f"{path}/inner", Resources())
    assert inner.pids() == []
    cgroup = cgroups.open(path)
    cgroup.delete()
    cgroup.delete()
    assert path.rpartition("/")[2] not in cgroups.children("/minidock")


TRY = "; ".join(
    f"(: {sign} /dev/{name}) 2>/dev/null && echo '{name}{sign} yes' || echo '{name}{sign} no'"
    for name, sign in (("null", ">"), ("zero", "<"), ("zero", ">"), ("full", "<"))
)

EXPECTED = ["null> yes", "zero< yes", "zero> no", "full< no"]


def test_devices(path: str) -> None:
    cgroup = cgroups.create(path, Resources(devices=RULES))
    output, _ = spawn(cgroup, TRY).communicate()
    assert output.split("\n")[:4] == EXPECTED


def test_devices_by_bpf(path: str) -> None:
    """On the version 2 tree, which a hybrid host has, too."""
    tree = cgroups.host().unified
    if tree is None:
        pytest.skip("no version 2 tree")
    cgroup = cgroups.create(path, Resources())
    bpf.attach_device_filter(tree + path, bpf.device_filter(RULES))
    output, _ = spawn(cgroup, TRY).communicate()
    assert output.split("\n")[:4] == EXPECTED


# %% What only some ask for
def test_burst_idle_and_real_time(path: str) -> None:
    cgroup = cgroups.create(path, Resources(cpu=CPU(quota=50000, period=100000, burst=20000)))
    if cgroups.hierarchy() is cgroups.Version.V2:
        assert cgroups.read(f"{cgroup.directories()[0]}/cpu.max.burst").strip() == "20000"
        with pytest.raises(Unavailable, match="real-time limits need cgroup v1"):
            cgroup.apply(Resources(cpu=CPU(realtime_runtime=1000)))
        return
    tree = cgroups.host().controllers["cpu"]
    assert cgroups.read(f"{tree}{path}/cpu.cfs_burst_us").strip() == "20000"
    cgroup.apply(Resources(cpu=CPU(idle=1)))
    assert cgroups.read(f"{tree}{path}/cpu.idle").strip() == "1"
    if os.path.exists(f"{tree}{path}/cpu.rt_runtime_us"):
        with pytest.raises(InvalidParameter, match=r"no more than .*/minidock/cpu.rt_runtime_us"):
            cgroup.apply(Resources(cpu=CPU(realtime_runtime=900000)))


def test_huge_pages(path: str) -> None:
    size = next((name[10:] for name in os.listdir("/sys/kernel/mm/hugepages")), "")
    if not size:
        pytest.skip("this kernel has no huge pages")
    kilobytes = int(size.removesuffix("kB"))
    name = f"{kilobytes >> 20}GB" if kilobytes >= 1 << 20 else f"{kilobytes >> 10}MB"
    limit = kilobytes * 1024 * 3
    cgroup = cgroups.create(path, Resources(hugepage_limits=(HugepageLimit(name, limit),)))
    found = [
        cgroups.read(f"{directory}/{file}").strip()
        for directory in cgroup.directories()
        for file in (f"hugetlb.{name}.max", f"hugetlb.{name}.limit_in_bytes")
        if os.path.exists(f"{directory}/{file}")
    ]
    assert found == [str(limit)]


def test_a_limit_below_what_is_used(path: str) -> None:
    cgroup = cgroups.create(path, Resources(memory=Memory(limit=64 << 20)))
    process = spawn(cgroup, "x=$(head -c 3000000 /dev/zero | tr '\\0' x); sleep 5")
    deadline = time.monotonic() + 5
    while cgroup.stats().memory < 2 << 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(Conflict, match="already using"):
        cgroup.apply(Resources(memory=Memory(limit=1 << 20, check_before_update=True)))
    process.kill()
    process.communicate()


def test_what_this_host_lacks_is_named(path: str) -> None:
    cgroup = cgroups.create(path, Resources())
    if cgroups.hierarchy() is cgroups.Version.V2:
        with pytest.raises(Unavailable, match="needs cgroup v1"):
            cgroup.apply(Resources(network=Network(class_id=1)))
        with pytest.raises(InvalidParameter, match="no slashes"):
            cgroup.apply(Resources(unified={"../x": "1"}))
        return
    with pytest.raises(Unavailable, match="cannot use unified on cgroup v1"):
        cgroup.apply(Resources(unified={"memory.high": "1"}))
    if "rdma" not in cgroups.host().controllers:
        with pytest.raises(Unavailable, match="'rdma'"):
            cgroup.apply(Resources(rdma={"mlx4_0": Rdma(hca_handles=1)}))
    if "net_cls" not in cgroups.host().controllers:
        with pytest.raises(Unavailable, match="'net_cls'"):
            cgroup.apply(Resources(network=Network(class_id=1)))
