"""The box without building it: its name, its disk, and what a machine is asked with."""

import struct
import subprocess
from pathlib import Path

import pytest

from tools.vm import __main__ as program
from tools.vm import box, cpu, disk, recipe
from tools.vm.machine import Settings
from tools.vm.qemu import QemuMachine
from tools.vm.shell import Failed, NotHere, run
from tools.vm.ssh import Ssh


# %% The recipe
def test_what_setup_wants_is_in_the_box() -> None:
    wanted = subprocess.run(
        [recipe.TREE / "setup", "--packages"], capture_output=True, text=True, check=True
    )
    assert {"nftables", "crun", "dmsetup", "btrfs-progs"} <= set(wanted.stdout.split())
    assert set(wanted.stdout.split()) <= set(recipe.packages())


def test_another_recipe_is_another_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe.digest()
    assert before == recipe.digest()
    monkeypatch.setattr(recipe, "packages", lambda: ["one"])
    assert recipe.digest() != before


def test_a_box_in_the_cache_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []
    monkeypatch.setattr(box, "CACHE", tmp_path)
    monkeypatch.setattr(box, "build", lambda path: (built.append(path), path.write_text("box")))
    (tmp_path / "minidock-debian12-0123456789abcdef.box").write_text("old")
    assert box.cached() == box.cached()
    assert len(built) == 1 and list(tmp_path.iterdir()) == built
    box.cached(fresh=True)
    assert len(built) == 2


# %% The disk
def test_the_partition_table(tmp_path: Path) -> None:
    raw = tmp_path / "disk"
    raw.write_bytes(bytes(1024))
    disk._partition_table(raw, 1000)
    sector = raw.read_bytes()[:512]
    active, _, kind, _, first, count = struct.unpack("<B3sB3sII", sector[446:462])
    assert (active, kind, first, count) == (0x80, 0x83, disk.FIRST, 1000)
    assert sector[510:] == b"\x55\xaa"


def test_the_trial_of_kvm_is_a_boot_sector() -> None:
    assert len(cpu.SECTOR) == 512 and cpu.SECTOR.endswith(b"\x55\xaa")
    assert cpu.SECTOR.startswith(cpu.PROGRAM) and cpu.ENDED == 33


# %% Running programs
def test_what_a_program_complains_of_is_told() -> None:
    with pytest.raises(Failed, match="no such thing"):
        run("sh", "-c", "echo no such thing >&2; exit 3")
    with pytest.raises(Failed, match="./setup --vm installs it"):
        run("minidock-no-such-program")
    with pytest.raises(Failed, match="has not ended after 0 s"):
        run("sleep", "10", timeout=0.1)


# %% Machines that are not there
def test_ssh_to_nobody(tmp_path: Path) -> None:
    ssh = Ssh.write(tmp_path / "config", "127.0.0.1", 1, "vagrant", tmp_path / "key")
    assert not ssh.answers() and not ssh.wait(0.5)
    with pytest.raises(Failed, match="Connection refused"):
        ssh.run("true")


def test_something_that_is_no_box(tmp_path: Path) -> None:
    nothing = tmp_path / "x.box"
    nothing.write_bytes(b"nothing")
    with pytest.raises(Failed, match="is not a box"):
        QemuMachine(nothing, Settings(), tmp_path).up()


def test_a_computer_without_room_is_not_our_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(box, "CACHE", tmp_path)
    monkeypatch.setattr(program, "ROOM_GIB", 10**6)
    with pytest.raises(NotHere, match="a machine needs"):
        program.check(Settings())
    monkeypatch.setattr(program.os, "geteuid", lambda: 1000)
    assert program.main(["box"]) == program.OURS
    assert "needs root" in capsys.readouterr().err
    monkeypatch.setattr(program.os, "geteuid", lambda: 0)
    assert program.main(["box"]) == program.THIS_COMPUTERS
    assert "NOT RUN" in capsys.readouterr().err
    monkeypatch.setattr(program, "ROOM_GIB", 0)
    with pytest.raises(NotHere, match="MINIDOCK_VM_MEMORY"):
        program.check(Settings(memory=10**9))
