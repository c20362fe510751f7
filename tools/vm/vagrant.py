"""A machine by Vagrant: the way of the class room, driven from Python.

The same ``Vagrantfile`` that students use, with the offline box, provider
libvirt. Everything that Vagrant and libvirt keep lies in the machine's own
directory: the boxes, its state, the storage pool, the console's log; and
every name in libvirt begins with the machine's own prefix. So a machine of
a test never meets a student's.

The traps. A machine that has nothing to boot is waited for by the provider for
ten minutes, whatever is asked for. ``vagrant destroy`` knows only what ``vagrant up`` has written down,
and an ``up`` that fails early has written nothing. What is left is swept
up by its prefix.

**Interface:** :class:`VagrantMachine`.

**See:** python-vagrant's documentation; vagrant-libvirt's "Provider options".
"""

import contextlib
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import vagrant

from tools.vm import libvirt
from tools.vm.machine import Settings, footprint
from tools.vm.recipe import BOX, TREE
from tools.vm.shell import Failed, say
from tools.vm.ssh import Ssh


# %% The machine
class VagrantMachine:
    """One ``vagrant up``."""

    def __init__(self, box: Path, wanted: Settings, directory: Path) -> None:
        self._box, self._wanted, self._directory = box, wanted, directory
        self._late = False
        self.prefix = f"minidock-{secrets.token_hex(3)}"
        self._log = directory / "vagrant.log"
        self._console = directory / "console.log"
        self._vagrant = vagrant.Vagrant(
            root=str(TREE),
            env={**os.environ, **self._environment(wanted)},
            err_cm=vagrant.make_file_cm(str(self._log)),
        )

    def _environment(self, wanted: Settings) -> dict[str, str]:
        """What the Vagrantfile reads, and where Vagrant keeps its things."""
        return {
            "VAGRANT_HOME": str(self._directory / "home"),
            "VAGRANT_DOTFILE_PATH": str(self._directory / "state"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_NO_COLOR": "1",
            "LIBVIRT_DEFAULT_URI": libvirt.URI,
            "MINIDOCK_BOX": BOX,
            "MINIDOCK_VM_ACCELERATOR": wanted.accelerator,
            "MINIDOCK_VM_CPUS": str(wanted.cpus),
            "MINIDOCK_VM_MEMORY": str(wanted.memory),
            "MINIDOCK_VM_PATIENCE": str(wanted.patience),
            "MINIDOCK_VM_PREFIX": self.prefix,
            "MINIDOCK_VM_NETWORK": f"{self.prefix}-net",
            "MINIDOCK_VM_SUBNET": f"{libvirt.subnet()}/24",
            "MINIDOCK_VM_POOL": f"{self.prefix}-pool",
            "MINIDOCK_VM_CONSOLE": str(self._console),
            "MINIDOCK_VM_BOOK_PORT": "0",
            "MINIDOCK_VM_WEB_PORT": "0",
        }

    def up(self) -> Ssh:
        """Add the box, ``vagrant up`` without provisioning, ask for the way to ssh."""
        self._make_pool()
        try:
            self._vagrant.box_add(BOX, str(self._box))
            with self._patience():
                for line in self._vagrant.up(
                    provider="libvirt", provision=False, stream_output=True
                ):
                    self._note(line)
            config = self._directory / "ssh_config"
            config.write_text(self._vagrant.ssh_config())
        except subprocess.CalledProcessError as error:
            what = f"vagrant {error.cmd[1]} failed"
            if self._late:
                what = f"no answer from the machine after {self._wanted.patience} s: {what}"
            raise Failed(f"{what}:\n{self._last_words()}") from None
        ssh = Ssh(config)
        if not ssh.wait(30):
            raise Failed(f"vagrant is up, but ssh is not:\n{config.read_text()}")
        return ssh

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Interrupt ``vagrant up`` when it is late.

        Its own ``boot_timeout`` begins when the machine has an address. For that the provider waits
        ten minutes, which cannot be set, though nothing may be running in the machine.
        """
        timer = threading.Timer(self._wanted.patience, self._interrupt)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _interrupt(self) -> None:
        """As Ctrl-C would: Vagrant then takes down what it has made."""
        self._late = True
        for pid in _children():
            with contextlib.suppress(OSError):
                if b"vagrant" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGINT)

    def provision(self, name: str) -> None:
        """``vagrant provision --provision-with NAME``."""
        try:
            self._vagrant.provision(provision_with=[name])
        except subprocess.CalledProcessError:
            raise Failed(f"vagrant provision {name} failed:\n{self._last_words()}") from None

    # %% Its directory
    def _make_pool(self) -> None:
        """The storage pool: a directory that libvirt knows by our prefix."""
        pool = self._directory / "pool"
        pool.mkdir()
        pool.chmod(0o711)
        name = f"{self.prefix}-pool"
        libvirt.virsh("pool-define-as", name, "dir", "--target", str(pool))
        libvirt.virsh("pool-start", name)

    def _note(self, line: str) -> None:
        with open(self._log, "a") as file:
            file.write(line)
        text = line.strip()
        if text.startswith("==>"):
            say(text)

    def _last_words(self) -> str:
        """The end of Vagrant's log, without the places in its source at which it happened."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        words = [line for line in lines if line.strip() and not line.startswith("\tfrom ")]
        return "\n".join(f"  {line}" for line in words[-12:])

    def console(self) -> str:
        """The serial console's log."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def footprint(self) -> str:
        """Memory of the emulator that libvirt has started, size of the machine's own volume."""
        domain = f"{self.prefix}_minidock"
        pid = int(Path(f"/run/libvirt/qemu/{domain}.pid").read_text())
        return footprint(pid, self._directory / "pool" / f"{domain}.img")

    def destroy(self) -> None:
        """As a student would; then whatever is left."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._vagrant.destroy()
        libvirt.sweep(self.prefix)
        left = libvirt.remains(self.prefix)
        if left:
            raise Failed("left behind by vagrant:\n  " + "\n  ".join(left))


def _children() -> list[int]:
    """The processes that this one has started, from whichever thread."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        found += [int(pid) for pid in path.read_text().split()]
    return found
