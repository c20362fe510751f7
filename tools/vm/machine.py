"""A machine: up, used, and gone without a trace.

Two ways bring one up, and both keep the same contract: :meth:`Machine.up`
returns when ssh works, or raises :class:`Failed` with the reason and the end
of the console; :meth:`Machine.destroy` takes away everything that ``up`` has
made, however far it got, and may be called at any time.

The trap is the failed ``up``: it leaves half a machine, and the exception
that says why must not be lost in the tidying.

**Interface:** :class:`Machine`, :func:`machine`, :func:`settings`, :func:`footprint`.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tools.vm import cpu
from tools.vm.shell import Failed, say
from tools.vm.ssh import Ssh


# %% The contract
@dataclass(frozen=True, slots=True)
class Settings:
    """``memory`` in MiB; ``patience`` in seconds, until a machine must answer."""

    memory: int = 2048
    cpus: int = 2
    accelerator: str = "tcg"
    patience: int = 600


class Machine(Protocol):
    """One virtual machine; the directory given to it at its making is its own."""

    def up(self) -> Ssh:
        """Start it; returns when ssh answers. Raises :class:`Failed`."""

    def provision(self, name: str) -> None:
        """One step of ``tools/vm/provision``. Raises :class:`Failed`."""

    def console(self) -> str:
        """What the machine has printed on its serial console."""

    def footprint(self) -> str:
        """The emulator's memory and the disk's size, for people."""

    def destroy(self) -> None:
        """Take away everything that ``up`` has made."""


def settings() -> Settings:
    """From ``$MINIDOCK_VM_MEMORY`` and its kin, which the Vagrantfile reads, too."""
    return Settings(
        memory=int(os.environ.get("MINIDOCK_VM_MEMORY", "2048")),
        cpus=int(os.environ.get("MINIDOCK_VM_CPUS", "2")),
        accelerator=os.environ.get("MINIDOCK_VM_ACCELERATOR") or cpu.accelerator(),
        patience=int(os.environ.get("MINIDOCK_VM_PATIENCE", "600")),
    )


def footprint(pid: int, disk: Path) -> str:
    """The memory of process ``pid`` (its own part: PSS) and the size of ``disk``, for people."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return f"{int(line.split()[1]) >> 10} MB of memory, {disk.stat().st_blocks >> 11} MB of disk"
    raise ValueError(f"process {pid} has no Pss")


# %% One machine, for a while
@contextmanager
def machine(
    kind: str, box: Path, wanted: Settings, attempts: int = 1
) -> Iterator[tuple[Machine, Ssh]]:
    """A running machine of ``kind`` (``vagrant`` or ``qemu``), destroyed at the end whatever happens.

    Starting is tried ``attempts`` times: an emulated machine on a busy computer can be too late.
    """
    with tempfile.TemporaryDirectory(prefix=f"minidock-{kind}.", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o711)  # libvirt runs the emulator as another user
        one = make(kind, box, wanted, directory)
        try:
            say(f"up, by {kind} ({wanted.accelerator}, {wanted.cpus} cpus, {wanted.memory} MB)")
            ssh = _up(one)
        except BaseException as error:
            one.destroy()
            if attempts == 1 or not isinstance(error, Failed):
                raise
            say(f"{error}\nOnce more:")
        else:
            try:
                say("ssh answers")
                yield one, ssh
            finally:
                one.destroy()
                say("destroyed")
            return
    with machine(kind, box, wanted, attempts - 1) as again:
        yield again


def make(kind: str, box: Path, wanted: Settings, directory: Path) -> Machine:
    """A machine that is not up yet."""
    if kind == "qemu":
        from tools.vm.qemu import QemuMachine

        return QemuMachine(box, wanted, directory)
    from tools.vm.vagrant import VagrantMachine

    return VagrantMachine(box, wanted, directory)


def _up(one: Machine) -> Ssh:
    """Up, or the reason with the last words of the console."""
    try:
        return one.up()
    except Failed as error:
        words = "\n  | ".join(one.console().splitlines()[-15:])
        raise Failed(f"{error}\n  the console's last lines:\n  | {words or '(nothing)'}") from None
