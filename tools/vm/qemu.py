r"""A machine by QEMU alone: no libvirt, no bridge, no root.

A disk that is a layer over the box (what the machine writes goes into a
file of its own: a union file system of two block devices), a network card
whose packets QEMU itself translates into sockets, and one forwarded port
for ssh.

The traps. That network would let the machine out into the internet, and then
nobody would notice that the box is not whole: it is ``restrict``\ ed to the one
port. Translating with several threads (``thread=multi``) is what makes
two processors two. And the emulator is ended by its pid, which is read from
its own child, never by a name.

**Interface:** :class:`QemuMachine`.

**See:** qemu(1); the Vagrant provider ``qemu`` does the same for Apple silicon.
"""

import shutil
import socket
import subprocess
import time
from pathlib import Path

from tools.vm.machine import Settings, footprint
from tools.vm.shell import Failed, run
from tools.vm.ssh import Ssh


# %% The machine
class QemuMachine:
    """One QEMU process; everything of it lies in ``directory``."""

    def __init__(self, box: Path, wanted: Settings, directory: Path) -> None:
        self._box, self._wanted, self._directory = box, wanted, directory
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "console.log"

    def up(self) -> Ssh:
        """Unpack the box, start the emulator, wait for ssh."""
        base = self._unpack()
        disk = self._directory / "disk.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(disk))
        port = _free_port()
        with open(self._directory / "qemu.log", "wb") as log:
            self._process = subprocess.Popen(
                self._command(disk, port), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        ssh = Ssh.write(self._directory / "ssh_config", "127.0.0.1", port, "vagrant", self._key())
        self._wait(ssh)
        return ssh

    def _command(self, disk: Path, port: int) -> list[str]:
        wanted = self._wanted
        accelerator = "tcg,thread=multi" if wanted.accelerator == "tcg" else wanted.accelerator
        forward = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"
        return [
            "qemu-system-x86_64", "-accel", accelerator, "-machine", "q35", "-cpu", "max",
            "-m", str(wanted.memory), "-smp", str(wanted.cpus),
            "-nodefaults", "-display", "none", "-serial", f"file:{self._log}",
            "-drive", f"file={disk},if=virtio,cache=unsafe",
            "-netdev", forward, "-device", "virtio-net-pci,netdev=net",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip

    def _wait(self, ssh: Ssh) -> None:
        deadline = time.monotonic() + self._wanted.patience
        while not ssh.wait(5):
            assert self._process is not None
            if self._process.poll() is not None:
                words = (self._directory / "qemu.log").read_text(errors="replace").strip()
                raise Failed(f"QEMU ended with status {self._process.returncode}: {words}")
            if time.monotonic() > deadline:
                raise Failed(f"no ssh after {self._wanted.patience} s")

    def provision(self, name: str) -> None:
        """What Vagrant would do."""
        Ssh(self._directory / "ssh_config").run(f"sudo /vagrant/tools/vm/provision {name}", 1200)

    # %% What it is made of
    def _unpack(self) -> Path:
        """The box's disk image."""
        try:
            run("tar", "-C", str(self._directory), "-xf", str(self._box), "box.img")
        except Failed as error:
            raise Failed(f"{self._box} is not a box: {error}") from None
        return self._directory / "box.img"

    def _key(self) -> Path:
        """Vagrant's well-known key, which ssh wants to be ours alone."""
        keys = Path("/usr/share/rubygems-integration/all/gems").glob("vagrant-*/keys/vagrant")
        key = self._directory / "key"
        shutil.copyfile(sorted(keys)[-1], key)
        key.chmod(0o600)
        return key

    def console(self) -> str:
        """The serial console's log."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def footprint(self) -> str:
        """Memory of the one process, size of the one layer."""
        assert self._process is not None
        return footprint(self._process.pid, self._directory / "disk.qcow2")

    def destroy(self) -> None:
        """End the emulator; its files go with the directory."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    """A port that nobody listens on: asked of the kernel, given back at once."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
