"""A machine's other end: ssh.

Every way of bringing a machine up ends in the same thing: an address, a
port, a user, a key. From there on it is ssh(1) and rsync(1), as a student
would type them.

**Interface:** :class:`Ssh`.

**See:** ssh_config(5); ``vagrant ssh-config``.
"""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tools.vm.shell import Failed, run

# Not sent: what git ignores, and what only means something on this machine.
LEFT_OUT = """
    .git .venv .nox .vagrant .hypothesis .mypy_cache .ruff_cache .import_linter_cache
    __pycache__ reports *.box *.egg-info chapters/_build
""".split()


# %% Ssh
HOST = "minidock"


@dataclass(frozen=True, slots=True)
class Ssh:
    """How to reach a machine: the words of ssh_config(5), kept in a file."""

    config: Path

    @classmethod
    def write(cls, config: Path, address: str, port: int, user: str, key: Path) -> "Ssh":
        """Write ``config``. Nobody else's keys are tried, and no host is remembered."""
        words = {
            "HostName": address,
            "Port": str(port),
            "User": user,
            "IdentityFile": str(key),
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ConnectTimeout": "10",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "8",
        }
        lines = [f"Host {HOST}", *[f"  {word} {value}" for word, value in words.items()]]
        config.write_text("\n".join(lines) + "\n")
        return cls(config)

    def command(self, script: str) -> list[str]:
        """The command that runs ``script`` in the machine's shell."""
        return ["ssh", "-F", str(self.config), HOST, script]

    def answers(self) -> bool:
        """Whether somebody is there."""
        done = subprocess.run(
            self.command("true"), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        return done.returncode == 0

    def wait(self, seconds: float) -> bool:
        """Try until somebody is there, at most ``seconds``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.answers():
                return True
            time.sleep(1)
        return False

    # %% Doing things there
    def run(self, script: str, timeout: float = 600) -> str:
        """What ``script`` prints, which must succeed. Raises :class:`Failed`."""
        return run(*self.command(script), stdin=b"", timeout=timeout)

    def show(self, script: str, timeout: float) -> int:
        """Run ``script`` for a person to watch; its exit status. Raises :class:`Failed` at the timeout."""
        try:
            return subprocess.run(
                self.command(script), stdin=subprocess.DEVNULL, timeout=timeout, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            raise Failed(f"the machine has not ended {script!r} after {timeout:.0f} s") from None

    def send(self, tree: Path, target: str = "/vagrant") -> None:
        """The tree, as the synced folder would have it."""
        excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT]
        shell = f"ssh -F {self.config}"
        run("rsync", "-rlpt", "--delete", *excluded, "-e", shell, f"{tree}/", f"{HOST}:{target}/")

    def put(self, path: Path, target: str) -> None:
        """One file to the machine."""
        run("rsync", "-p", "-e", f"ssh -F {self.config}", str(path), f"{HOST}:{target}")

    def fetch(self, path: str, target: Path) -> None:
        """One file of the machine."""
        target.parent.mkdir(parents=True, exist_ok=True)
        run("rsync", "-e", f"ssh -F {self.config}", f"{HOST}:{path}", str(target))
