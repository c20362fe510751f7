"""What version 2 promises, asked of the kernel through our own cgroups."""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minidock import cgroups
from minidock.cgroups.entrance import Entrance
from minidock.cgroups.v2 import WANTED
from minidock.errors import Unavailable
from minidock.linux import syscalls
from minidock.spec.runtime import CPU, DeviceRule, Memory, Pids, Resources
from tests.integration.cgroup2.conftest import ROOT, Group
from tests.speed import wait_until

Make = Callable[..., Group]
NOBODY = 65534


# %% The tree
def test_controllers_are_passed_down_from_the_top(group: Make) -> None:
    one = group()
    has = set((ROOT / "cgroup.controllers").read_text().split()) & set(WANTED)
    assert {"cpu", "cpuset", "memory", "pids", "io"} <= has
    for directory in (ROOT, one.path.parent):
        assert has <= set((directory / "cgroup.subtree_control").read_text().split())
    assert has <= set(one.read("cgroup.controllers").split())


def test_no_internal_processes(group: Make) -> None:
    """The rule, as the kernel states it: processes in it, so no controllers for groups below it."""
    one = group()
    one.spawn("exec sleep 100")
    with pytest.raises(OSError, match="cgroup.subtree_control") as refused:
        cgroups.write(str(one.path / "cgroup.subtree_control"), "+memory")
    assert refused.value.errno == errno.EBUSY


def test_entering_a_group_that_has_groups(group: Make) -> None:
    """The other half of the rule; ``exec`` goes where the container's first process went."""
    one = group()
    inner = one.path / "inner"
    inner.mkdir()
    first = one.spawn("exec sleep 100", below="inner")
    cgroups.write(str(one.path / "cgroup.subtree_control"), "+memory")
    exact = Entrance.open(one.cgroup.by_controller(), exact=True)
    with pytest.raises(OSError, match="clone3") as refused:
        syscalls.clone(cgroup=exact.born)
    assert refused.value.errno == errno.EBUSY
    exact.close()
    entrance = one.cgroup.entrance()
    second = syscalls.clone(cgroup=entrance.born)
    if second == 0:
        time.sleep(100)
        os._exit(0)
    entrance.close()
    try:
        assert Path(f"/proc/{second}/cgroup").read_text().strip().endswith("/inner")
        assert one.cgroup.pids() == []
        assert one.cgroup.everybody() == sorted([first.pid, second])
    finally:
        os.kill(second, signal.SIGKILL)
        os.waitpid(second, 0)


# %% Limits and their events
def test_every_limit_in_its_file(group: Make) -> None:
    memory = Memory(limit=32 << 20, reservation=16 << 20, swap=48 << 20)
    cpu = CPU(quota=50000, period=100000, shares=512, cpus="0")
    one = group(Resources(memory=memory, cpu=cpu, pids=Pids(7)))
    assert {name: one.read(name) for name in
            ("memory.max", "memory.low", "memory.swap.max", "cpu.max", "cpu.weight",
             "cpuset.cpus.effective", "pids.max")} == {
        "memory.max": str(32 << 20), "memory.low": str(16 << 20), "memory.swap.max": str(16 << 20),
        "cpu.max": "50000 100000", "cpu.weight": "20", "cpuset.cpus.effective": "0",
        "pids.max": "7",
    }  # fmt: skip


def test_unified_settings_go_to_their_files(group: Make) -> None:
    one = group(Resources(unified={"memory.high": str(24 << 20), "pids.max": "9"}))
    assert (one.read("memory.high"), one.read("pids.max")) == (str(24 << 20), "9")
    with pytest.raises(Unavailable, match="nonsense"):
        one.cgroup.apply(Resources(unified={"nonsense.max": "1"}))


def test_a_killing_is_counted(group: Make) -> None:
    one = group(Resources(memory=Memory(limit=16 << 20, swap=16 << 20)))
    one.spawn("head -c 100000000 /dev/zero | tail > /dev/null").communicate()
    assert one.events("memory.events")["oom_kill"] >= 1
    assert one.cgroup.oom_killed()


def test_a_fork_too_many_is_counted(group: Make) -> None:
    one = group(Resources(pids=Pids(3)))
    output, _ = one.spawn("sleep 0.2 & sleep 0.2 & sleep 0.2 & sleep 0.2 & wait").communicate()
    assert "fork" in output
    assert one.events("pids.events")["max"] >= 1


def test_a_quota_throttles(group: Make) -> None:
    one = group(Resources(cpu=CPU(quota=10000, period=100000)))
    one.spawn("while :; do :; done")
    wait_until(lambda: one.events("cpu.stat")["nr_throttled"] >= 3)
    begun, used = time.monotonic(), one.cgroup.stats().cpu
    time.sleep(2)
    share = (one.cgroup.stats().cpu - used) / 1e9 / (time.monotonic() - begun)
    assert share < 0.2


def test_a_limit_can_be_changed_while_it_is_used(group: Make) -> None:
    one = group(Resources(pids=Pids(2), memory=Memory(limit=64 << 20)))
    one.spawn("exec sleep 100")
    one.cgroup.apply(Resources(pids=Pids(50)))
    assert (one.read("pids.max"), one.read("memory.max")) == ("50", str(64 << 20))


# %% Events of the group, freezing, killing
def test_populated_follows_the_last_process(group: Make) -> None:
    one = group()
    assert one.events()["populated"] == 0
    process = one.spawn("exec sleep 100")
    assert one.events()["populated"] == 1
    process.kill()
    process.communicate()
    wait_until(lambda: one.events()["populated"] == 0)


def test_frozen_is_said_by_the_kernel_and_is_true(group: Make) -> None:
    one = group()
    one.spawn("while :; do :; done")
    one.spawn("while :; do sleep 0.01; done")
    one.cgroup.freeze(True)
    assert one.events()["frozen"] == 1
    used = one.cgroup.stats().cpu
    time.sleep(0.5)
    assert one.cgroup.stats().cpu - used < 20_000_000
    one.cgroup.freeze(False)
    assert one.events()["frozen"] == 0
    wait_until(lambda: one.cgroup.stats().cpu - used > 50_000_000)


def test_the_frozen_can_be_killed(group: Make) -> None:
    """Version 1's freezer had to thaw them first."""
    one = group()
    process = one.spawn("while :; do :; done")
    one.cgroup.freeze(True)
    one.cgroup.kill()
    assert process.wait(10) == -signal.SIGKILL


def test_killing_reaches_groups_below(group: Make) -> None:
    one = group()
    (one.path / "a/b").mkdir(parents=True)
    processes = [one.spawn("exec sleep 100", below=where) for where in ("a", "a/b")]
    assert len(one.cgroup.everybody()) == 2 and one.cgroup.pids() == []
    one.cgroup.kill()
    assert [process.wait(10) for process in processes] == [-signal.SIGKILL] * 2
    one.cgroup.delete()
    assert not one.path.exists()


# %% Delegation
def test_a_group_given_away_is_managed_by_its_new_owner(group: Make) -> None:
    """chown of the directory and three files is all that delegation is (cgroup-v2.rst)."""
    one = group(Resources(pids=Pids(20)))
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(one.path / name, NOBODY, NOBODY)
    script = (
        f"cd {one.path} && mkdir leaf limited && echo $$ > leaf/cgroup.procs"
        " && echo +pids > cgroup.subtree_control && echo 1 > limited/pids.max"
        " && cat leaf/cgroup.controllers && (echo 100 > pids.max) 2>/dev/null || echo refused"
    )
    output, _ = one.spawn(script, user=NOBODY).communicate()
    assert output.split() == ["pids", "refused"]


def test_nobody_climbs_out_of_a_group_given_away(group: Make) -> None:
    """The common ancestor of both groups must be writable, too."""
    one, other = group(), group()
    for place in (one.path, other.path):
        for name in ("", "cgroup.procs"):
            os.chown(place / name, NOBODY, NOBODY)
    script = f"(echo $$ > {other.path}/cgroup.procs) 2>/dev/null && echo out || echo refused"
    output, _ = one.spawn(script, user=NOBODY).communicate()
    assert output.strip() == "refused"


# %% Devices
RULES = (DeviceRule(False), DeviceRule(True, "c", 1, 3), DeviceRule(True, "c", 1, 5, "r"))
TRY = "; ".join(
    f"(: {sign} /dev/{name}) 2>/dev/null && echo yes || echo no"
    for name, sign in (("null", ">"), ("zero", "<"), ("zero", ">"), ("full", "<"))
)


def test_the_device_filter_holds_below_and_cannot_be_widened(group: Make) -> None:
    """A group below with a filter of its own gets what both allow."""
    one = group(Resources(devices=RULES))
    inner = cgroups.create(f"{one.cgroup.path}/inner", Resources(devices=(DeviceRule(True),)))
    output, _ = one.spawn(TRY, below="inner").communicate()
    assert output.split() == ["yes", "yes", "no", "no"]
    inner.delete()


def test_making_a_node_can_be_forbidden(group: Make, tmp_path: Path) -> None:
    one = group(Resources(devices=(DeviceRule(False), DeviceRule(True, "c", 1, 3, "rw"))))
    script = f"mknod {tmp_path}/null c 1 3 2>/dev/null && echo made || echo refused; : > /dev/null && echo opened"
    output, _ = one.spawn(script).communicate()
    assert output.split() == ["refused", "opened"]
