"""A bootable disk, put together by hand.

Installers mount the disk that they write. We cannot: a loop device needs a
kernel that has one and a root that may use it, and a class room's server or
a CI machine often has neither. But a disk is only a file, and each of its
three parts can be written without the kernel's help::

    sector 0        440 bytes of GRUB's boot.img, then the partition table
    sector 1        GRUB's core.img: reads ext4, finds /boot/grub/grub.cfg
    sector 2048     the file system: mke2fs -d fills it from a directory

The trap is that boot.img knows where its core.img lies: sector 1 is what is
compiled in, and so nothing has to be patched.

**Interface:** :func:`make`.

**See:** mke2fs(8), grub-mkimage(1), qemu-img(1); the GRUB manual, "BIOS installation".
"""

import os
import struct
from pathlib import Path

from tools.vm.shell import run

SECTOR = 512
FIRST = 2048  # a megabyte: what everybody leaves before the first partition
GRUB = Path("/usr/lib/grub/i386-pc")
MODULES = "biosdisk part_msdos ext2 linux configfile normal boot minicmd".split()
EARLY = "set root=(hd0,msdos1)\nset prefix=(hd0,msdos1)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"


# %% The parts
def make(tree: Path, gib: int, work: Path) -> Path:
    """A qcow2 image of ``gib`` GiB that boots the system in ``tree``; temporary files go to ``work``."""
    raw = work / "disk.raw"
    sectors = gib * 1024**3 // SECTOR - FIRST
    with open(raw, "wb") as file:
        os.truncate(file.fileno(), gib * 1024**3)
    _file_system(tree, raw, sectors)
    _boot_loader(raw, work)
    _partition_table(raw, sectors)
    image = work / "box.img"
    packed = ["-c", "-o", "compression_type=zstd", "-m", "4", "-W"]
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *packed, str(raw), str(image))
    raw.unlink()
    return image


def _file_system(tree: Path, raw: Path, sectors: int) -> None:
    """Tables that are all zero need not be written: the file is a hole there already."""
    options = f"offset={FIRST * SECTOR},lazy_itable_init=1,lazy_journal_init=1"
    command = ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-m", "1", "-d", str(tree)]
    run(*command, "-E", options, str(raw), f"{sectors // 2}k")


def _boot_loader(raw: Path, work: Path) -> None:
    early, core = work / "early.cfg", work / "core.img"
    early.write_text(EARLY)
    run("grub-mkimage", "-O", "i386-pc", "-o", str(core), "-c", str(early),
        "-p", "(hd0,msdos1)/boot/grub", *MODULES)  # fmt: skip
    data = core.read_bytes()
    if len(data) > (FIRST - 1) * SECTOR:
        raise ValueError(f"GRUB's core.img has {len(data)} bytes: it does not fit before the disk")
    with open(raw, "r+b") as file:
        file.write((GRUB / "boot.img").read_bytes()[:440])
        file.seek(SECTOR)
        file.write(data)


def _partition_table(raw: Path, sectors: int) -> None:
    """One bootable Linux partition; cylinders and heads have not counted since 1996."""
    nowhere = b"\xfe\xff\xff"
    entry = struct.pack("<B3sB3sII", 0x80, nowhere, 0x83, nowhere, FIRST, sectors)
    with open(raw, "r+b") as file:
        file.seek(446)
        file.write(entry + bytes(48) + b"\x55\xaa")
