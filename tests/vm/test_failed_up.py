"""An ``up`` that fails says why, and leaves no process, network or volume behind."""

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tools.vm import libvirt
from tools.vm.machine import Settings, machine, make
from tools.vm.shell import Failed

QUICK = Settings(memory=512, cpus=1, patience=20)


@pytest.fixture
def broken(box: Path, tmp_path: Path) -> Path:
    """The same box with an empty disk: nothing to boot from."""
    names = ["metadata.json", "Vagrantfile"]
    subprocess.run(["tar", "-C", tmp_path, "-xf", box, *names], check=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "box.img", "10G"], check=True
    )
    path = tmp_path / "broken.box"
    subprocess.run(["tar", "-C", tmp_path, "-cf", path, *names, "box.img"], check=True)
    return path


def processes() -> set[str]:
    """Every emulator, and everything that serves one, by pid and name."""
    listed = subprocess.run(["ps", "-eo", "pid,comm"], capture_output=True, text=True, check=True)
    words = ("qemu-system", "dnsmasq", "vagrant", "ruby")
    return {line for line in listed.stdout.splitlines() if any(word in line for word in words)}


def directories() -> set[str]:
    """The machines' own directories."""
    return {str(path) for path in Path("/var/tmp").glob("minidock-*")}


def fail(kind: str, box: Path, wanted: Settings) -> str:
    """Bring it up in vain; what was said."""
    before = processes() | directories()
    with pytest.raises(Failed) as failed, machine(kind, box, wanted):
        pass
    for _ in range(100):  # dnsmasq goes a moment after its network
        left = (processes() | directories()) - before
        if not left:
            break
        time.sleep(0.1)
    assert not left
    return str(failed.value)


# %% QEMU alone
def test_qemu_without_a_system(broken: Path) -> None:
    words = fail("qemu", broken, QUICK)
    assert "no ssh after 20 s" in words and "console" in words


def test_qemu_that_does_not_start(box: Path) -> None:
    assert "QEMU ended with status 1" in fail("qemu", box, replace(QUICK, cpus=100000))


def test_no_box_at_all(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.box"
    nothing.write_bytes(b"this is not a box")
    assert "is not a box" in fail("qemu", nothing, QUICK)


# %% Vagrant
@pytest.fixture
def lists() -> None:
    """libvirt runs, if Vagrant is the way of this run."""
    if shutil.which("virsh") is None or not libvirt.answers():
        pytest.skip("libvirt does not run here")


@pytest.mark.usefixtures("lists")
def test_vagrant_without_a_system(broken: Path) -> None:
    before = {kind: libvirt.virsh(*words) for kind, words in libvirt.LISTS.items()}
    words = fail("vagrant", broken, QUICK)
    assert "no answer from the machine after 20 s" in words and "console" in words
    assert {kind: libvirt.virsh(*words) for kind, words in libvirt.LISTS.items()} == before


@pytest.mark.usefixtures("lists")
def test_vagrant_whose_machine_does_not_start(box: Path) -> None:
    before = {kind: libvirt.virsh(*words) for kind, words in libvirt.LISTS.items()}
    words = fail("vagrant", box, replace(QUICK, cpus=100000))
    assert "vagrant up failed" in words
    assert {kind: libvirt.virsh(*words) for kind, words in libvirt.LISTS.items()} == before


@pytest.mark.usefixtures("lists")
def test_destroy_before_up_and_twice(box: Path, tmp_path: Path) -> None:
    one = make("vagrant", box, QUICK, tmp_path)
    one.destroy()
    one.destroy()
