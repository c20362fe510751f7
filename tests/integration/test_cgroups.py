"""Cgroups on the real kernel."""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from minidock import cgroups
from minidock.linux import bpf
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
