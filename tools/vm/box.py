"""A Vagrant box of Debian 12, from Debian packages alone.

No installer, no loop device, no mount, no KVM: ``mmdebstrap`` unpacks the
packages into a directory, a handful of files make it Vagrant's (a user, a
key, sudo), ``./setup`` runs in it by chroot(2), and :mod:`tools.vm.disk`
makes a disk of it. Root is needed, for the owners of the files.

The traps. An initramfs made for the *building* machine has the wrong
drivers, so it gets a list. systemd-resolved fails behind simple DNS
proxies, so ifupdown and dhclient are used. Keys of the ssh daemon that are
baked in would be the same in every student's machine: they are made at the
first boot.

**Interface:** :func:`cached`, :func:`build`.

**See:** mmdebstrap(1); Vagrant's documentation, "Creating a base box".
"""

import json
import os
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minidock.images import bootstrap
from tools.vm import disk, recipe
from tools.vm.shell import Failed, run, say

CACHE = Path(os.environ.get("MINIDOCK_VM_CACHE", "/var/cache/minidock-vm"))
VAGRANT_UID = 1000


# %% The box, from the cache or new
def cached(fresh: bool = False) -> Path:
    """The box for the recipe as it is now; built unless it is there. Older ones are deleted."""
    path = CACHE / f"minidock-debian12-{recipe.digest()}.box"
    if fresh or not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        build(path)
        for old in CACHE.glob("minidock-debian12-*.box"):
            if old != path:
                old.unlink()
    return path


def build(out: Path) -> None:
    """Make the box at ``out``, whole or not at all. Raises :class:`Failed`."""
    if platform.machine() != "x86_64":
        raise Failed("boxes are made for x86-64, on x86-64: the disk is started by a BIOS")
    with tempfile.TemporaryDirectory(prefix="minidock-box.", dir="/var/tmp") as name:
        work = Path(name)
        tree = work / "root"
        say(f"mmdebstrap: {len(recipe.packages())} packages and what they need")
        try:
            _debian(tree)
        except Failed as error:  # a mirror may have been changing just then
            say(f"{error}\nOnce more:")
            shutil.rmtree(tree, ignore_errors=True)
            _debian(tree)
        say("files of the machine")
        _configure(tree)
        say("Python packages, and ./setup in the new system")
        _environment(tree)
        say("base images")
        _images(tree)
        _clean(tree)
        say(f"a disk of {_megabytes(tree)} MB")
        image = disk.make(tree, recipe.DISK_GIB, work)
        _pack(image, work, out)
    say(f"{out}: {out.stat().st_size >> 20} MB")


# %% Debian
def _debian(tree: Path) -> None:
    """Packages, the kernel's initramfs told beforehand what a virtual machine has."""
    drivers = "virtio_pci virtio_blk virtio_scsi sd_mod ahci ext4 crc32c_generic".split()
    settings = "\\n".join(["MODULES=list", "COMPRESS=zstd"])
    initramfs = (
        'mkdir -p "$1/etc/initramfs-tools/conf.d"; '
        f'printf "{settings}\\n" > "$1/etc/initramfs-tools/conf.d/minidock"; '
        f'printf "%s\\n" {" ".join(drivers)} > "$1/etc/initramfs-tools/modules"'
    )
    leave_out = ("/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase",
        f"--include={','.join(recipe.packages())}",
        "--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"', '--aptopt=APT::Install-Recommends "false"',
        *[f"--dpkgopt=path-exclude={path}" for path in leave_out],
        "--dpkgopt=path-exclude=/usr/share/man/??/*", "--dpkgopt=path-exclude=/usr/share/man/??_*/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        f"--essential-hook={initramfs}",
        recipe.SUITE, str(tree), *bootstrap.mirrors(),
    )  # fmt: skip


# %% Files
GRUB_CFG = """\
linux /vmlinuz root=/dev/vda1 ro console=tty0 console=ttyS0 net.ifnames=0 mitigations=off quiet
initrd /initrd.img
boot
"""

FILES = {
    "etc/hostname": "minidock\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 minidock\n",
    "etc/fstab": "/dev/vda1 / ext4 rw,noatime,errors=remount-ro 0 1\n",
    "etc/network/interfaces": "auto lo\niface lo inet loopback\n"
    "allow-hotplug eth0\niface eth0 inet dhcp\n",
    "etc/resolv.conf": "",
    "etc/sudoers.d/vagrant": "vagrant ALL=(ALL) NOPASSWD: ALL\n",
    "etc/ssh/sshd_config.d/vagrant.conf": "UseDNS no\nGSSAPIAuthentication no\n"
    "HostKey /etc/ssh/ssh_host_ed25519_key\n",
    "etc/systemd/system/ssh.service.d/key.conf": "[Service]\nExecStartPre=\n"
    "ExecStartPre=/bin/sh -c 'test -e /etc/ssh/ssh_host_ed25519_key ||"
    ' ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key\'\n',
    "boot/grub/grub.cfg": GRUB_CFG,
}

# Docker is there to compare with: its socket listens, its daemon starts when somebody asks.
ENABLED = ("ssh.service", "docker.socket")
DISABLED = ("docker.service", "containerd.service", "docker-registry.service")
NOT_IN_A_LABORATORY = """
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
    dpkg-db-backup.timer man-db.timer getty@tty1.service systemd-timesyncd.service
    podman.socket podman.service podman-restart.service
    podman-auto-update.timer podman-auto-update.service
""".split()


def _configure(tree: Path) -> None:
    """Everything that Vagrant expects of a box, and a machine that boots fast."""
    for name, text in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        path.write_text(text)
    os.chmod(tree / "etc/sudoers.d/vagrant", 0o440)
    _chroot(tree, "useradd", "-m", "-s", "/bin/bash", "-u", str(VAGRANT_UID), "vagrant")
    _authorise(tree)
    for path in (tree / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    _chroot(tree, "systemctl", "-q", "enable", *ENABLED)
    _chroot(tree, "systemctl", "-q", "disable", *DISABLED)
    _chroot(tree, "systemctl", "-q", "mask", *NOT_IN_A_LABORATORY)
    modules = tree / "boot/grub/i386-pc"
    shutil.copytree(disk.GRUB, modules, ignore=shutil.ignore_patterns("*.img", "*.module"))


def _authorise(tree: Path) -> None:
    """Vagrant's public key, which Debian ships: Vagrant replaces it by one of its own when it starts."""
    keys = sorted(
        Path("/usr/share").glob("rubygems-integration/all/gems/vagrant-*/keys/vagrant.pub")
    )
    if not keys:
        raise Failed("vagrant is not installed (./setup --vm installs it)")
    folder = tree / "home/vagrant/.ssh"
    folder.mkdir(mode=0o700)
    (folder / "authorized_keys").write_text(keys[-1].read_text())
    for path in (folder, folder / "authorized_keys"):
        os.chown(path, VAGRANT_UID, VAGRANT_UID)


def _chroot(tree: Path, *command: str) -> None:
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    run("chroot", str(tree), "/usr/bin/env", "-i", path, "LC_ALL=C.UTF-8", *command)


# %% What ./setup does
def _environment(tree: Path) -> None:
    """``./setup --lab`` in /vagrant, with wheels that were downloaded here; only ``.venv`` stays."""
    wheels = tree / "opt/minidock/wheels"
    wheels.mkdir(parents=True)
    pip = [str(recipe.TREE / ".venv/bin/pip"), "download", "-q", "-d", str(wheels)]
    run(*pip, "setuptools", "wheel", ".[dev]", cwd=recipe.TREE)
    with _tree(tree / "vagrant"):
        _chroot(tree, "/vagrant/setup", "--lab")
    run("chown", "-R", f"{VAGRANT_UID}:{VAGRANT_UID}", str(tree / "vagrant"))


@contextmanager
def _tree(target: Path) -> Iterator[None]:
    """A copy of what is needed to install the project, gone afterwards but for ``.venv``."""
    target.mkdir()
    for name in ("setup", "pyproject.toml", "README.md", "minidock", "labs"):
        source = recipe.TREE / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, target / name)
    yield
    for path in target.iterdir():
        if path.name != ".venv":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _images(tree: Path) -> None:
    """The archives that ``minidock bootstrap`` would make: it finds them made."""
    kept = tree / "var/lib/minidock/bootstrap"
    kept.mkdir(parents=True)
    for name in bootstrap.RECIPES:
        bootstrap.make(name, kept / f"{name.replace(':', '-')}.tar")


# %% A box
def _clean(tree: Path) -> None:
    """What packages leave that nobody needs, and the id that every machine must have for itself."""
    for pattern in ("var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*"):
        for path in tree.glob(pattern):
            path.unlink()
    for path in tree.glob("var/log/**/*.log"):
        path.unlink()
    (tree / "etc/machine-id").write_text("")


def _megabytes(tree: Path) -> int:
    return int(run("du", "-sm", str(tree)).split()[0])


VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.vm.provider(:libvirt) { |v| v.disk_bus = "virtio"; v.disk_device = "vda" }
end
"""


def _pack(image: Path, work: Path, out: Path) -> None:
    """A box is a tar of three files. The image is compressed already."""
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": recipe.DISK_GIB}
    (work / "metadata.json").write_text(json.dumps(metadata))
    (work / "Vagrantfile").write_text(VAGRANTFILE)
    partial = out.with_suffix(".partial")
    with tarfile.open(partial, "w") as archive:
        for path in (work / "metadata.json", work / "Vagrantfile", image):
            archive.add(path, path.name)
    os.rename(partial, out)
