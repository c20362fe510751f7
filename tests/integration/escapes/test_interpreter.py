"""CVE-2019-5736, when other engines call the runtime: its own program cannot be overwritten from inside.

The runtime runs on a copy of the interpreter here, so that the attack, which
must succeed without the protection, does no harm.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.integration.runtime.conftest import HERE, Runtime, runtime
from tests.speed import wait_until

__all__ = ["runtime"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

STARTER = """\
import sys
sys.path.insert(0, "{here}")
from minidock.cli.runtime import sealed
{change}
from minidock.cli.runtime.__main__ import main
main()
"""

UNSEALED = "sealed.seal = lambda arguments: None"
WAYS = {"a mount": "", "a copy": "sealed._readonly_mount = lambda: -1"}

# First as Python, which keeps its own file open; then as a shell, when nobody executes that file
# any more: it tries for three seconds to write into it.
KEEP = """
import os
fd = os.open("/proc/self/exe", os.O_RDONLY)
os.set_inheritable(fd, True)
script = f'n=0; until echo overwritten > /proc/self/fd/{fd} || test $n = 30; do n=$((n+1)); sleep 0.1; done; echo over > /over'
os.execv("/bin/busybox", ["sh", "-c", script])
"""
ATTACK = ["/proc/self/exe", "-I", "-S", "-c", KEEP]
HOST = [("/usr", "/usr"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64")]


class Victim:
    """The runtime on a Python of its own."""

    def __init__(self, runtime: Runtime, change: str) -> None:
        self.runtime = runtime
        self.python = runtime.directory / "python3"
        shutil.copy("/usr/bin/python3", self.python)
        self.starter = runtime.directory / "starter.py"
        self.starter.write_text(STARTER.format(here=HERE, change=change))
        self.before = self.digest()

    def digest(self) -> str:
        """Of the interpreter."""
        return hashlib.sha256(self.python.read_bytes()).hexdigest()

    def call(self, *words: str) -> None:
        """Call the runtime, which goes as soon as the container runs."""
        command = [str(self.python), "-IS", str(self.starter), "--root", str(self.runtime.state)]
        quiet = subprocess.DEVNULL
        done = subprocess.run(
            [*command, *words], cwd=self.runtime.bundle, stdin=quiet, stdout=quiet, stderr=quiet, check=False
        )  # fmt: skip
        assert done.returncode == 0, words

    def overwritten(self) -> bool:
        """Whether it was, when the attack is over."""
        over = self.runtime.bundle / "rootfs/over"
        wait_until(over.exists)
        return self.digest() != self.before


@pytest.fixture
def victim(runtime: Runtime) -> Callable[[str], Victim]:
    """A bundle in which the host's Python would run."""
    config = runtime.config
    config["root"]["readonly"] = False
    config["process"]["env"] = ["PATH=/bin", "PYTHONHOME=/usr"]
    config["mounts"] += [
        {"destination": to, "type": "bind", "source": source, "options": ["rbind", "ro"]}
        for source, to in HOST
    ]
    for _, to in HOST:
        (runtime.bundle / "rootfs" / to.strip("/")).mkdir(exist_ok=True)
    return lambda change: Victim(runtime, change)


def by_run(one: Victim) -> None:
    """The image's own program is the attack."""
    one.runtime.config["process"]["args"] = ATTACK
    one.runtime.write()
    one.call("run", "-d", one.runtime.name())


def by_exec(one: Victim) -> None:
    """The container makes whoever executes something in it execute himself."""
    one.runtime.config["process"]["args"] = ["sleep", "100"]
    one.runtime.write()
    name = one.runtime.name()
    one.call("run", "-d", name)
    process = {**one.runtime.config["process"], "args": ATTACK}
    (one.runtime.directory / "process.json").write_text(json.dumps(process))
    one.call("exec", "-d", "-p", str(one.runtime.directory / "process.json"), name)


# %% Sealed, and not
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("attack", [by_run, by_exec])
def test_the_interpreter_stays_as_it_is(
    victim: Callable[[str], Victim], attack: Callable[[Victim], None], way: str
) -> None:
    one = victim(way)
    attack(one)
    assert not one.overwritten()


@pytest.mark.parametrize("attack", [by_run, by_exec])
def test_unsealed_it_would_be_overwritten(
    victim: Callable[[str], Victim], attack: Callable[[Victim], None]
) -> None:
    one = victim(UNSEALED)
    attack(one)
    assert one.overwritten()
    assert one.python.read_text() == "overwritten\n"
