"""``/proc`` is a path in a stranger's tree: CVE-2019-16884, CVE-2023-27561, CVE-2025-31133, -52565, -52881."""

from collections.abc import Callable
from pathlib import Path

from tests.conformance.conftest import Daemon

Make = Callable[..., str]


# %% CVE-2023-27561: /proc is a link, so that what is masked is another file than what is read
ANYWHERE = (
    "from minidock.rootfs import mounts; mounts.check_ordinary_directory = lambda *a, **k: None"
)


def test_proc_that_is_a_link(daemon: Daemon, image: Make) -> None:
    name = image("linked", {"proc": "real"})
    done = daemon.docker("run", "--rm", name, "/bin/sh", "-c", "true")
    assert "must be mounted on ordinary directory" in done.stderr, done


def test_a_link_would_be_followed(mutant: Callable[[str], Daemon], image: Make) -> None:
    one = mutant(ANYWHERE)
    name = image("linked", {"proc": "real"}, to=one)
    script = "/bin/busybox ls /real/self/exe"
    assert (
        one.ok("run", "--rm", "--network", "host", name, "/bin/sh", "-c", script).strip()
        == "/real/self/exe"
    )


# %% CVE-2019-16884: a volume over /proc, so that labels and masks go to files of the attacker
UNGUARDED = "from minidock.rootfs import mounts; mounts.check_target = lambda *a, **k: None"


def test_volumes_over_proc(daemon: Daemon, tmp_path: Path) -> None:
    for target in ("/proc", "/proc/self", "/proc/sys/kernel"):
        done = daemon.docker("run", "--rm", "-v", f"{tmp_path}:{target}", "busybox", "true")
        assert done.returncode != 0 and "cannot be mounted because it is" in done.stderr, done


def test_a_volume_would_cover_proc(mutant: Callable[[str], Daemon], tmp_path: Path) -> None:
    (tmp_path / "core_pattern").write_text("mine")
    volume = f"{tmp_path}:/proc/sys/kernel"
    out = mutant(UNGUARDED).ok(
        "run", "--rm", "-v", volume, "busybox", "cat", "/proc/sys/kernel/core_pattern"
    )
    assert out == "mine"


# %% CVE-2025-31133: /dev/null is swapped for a link before it covers what is to be masked
SWAP_NULL = """
import os
from minidock.rootfs import hiding
hide = hiding.hide
def attack(*arguments):
    os.unlink('/dev/null')
    os.symlink('/proc/sys/kernel/hostname', '/dev/null')
    hide(*arguments)
hiding.hide = attack
"""
TRUST_NULL = """
hiding._open = lambda source, readonly: hiding.open_tree(source, recursive=readonly)
"""
MASKED = ["run", "--rm", "--hostname", "swapped", "busybox", "cat", "/proc/timer_list"]


def test_a_swapped_null_device(mutant: Callable[[str], Daemon]) -> None:
    assert "is not the null device" in mutant(SWAP_NULL).docker(*MASKED).stderr


def test_a_swapped_null_device_would_be_mounted(mutant: Callable[[str], Daemon]) -> None:
    assert mutant(SWAP_NULL + TRUST_NULL).ok(*MASKED) == "swapped\n"


# %% CVE-2025-52565: /dev/console is a link before the terminal is bound to it
SWAP_CONSOLE = """
import os
from minidock import terminal
open_pair = terminal.open_pair
def attack(*arguments):
    pair = open_pair(*arguments)
    open('/target', 'w').close()
    os.symlink('/target', '/dev/console')
    return pair
terminal.open_pair = attack
"""
FOLLOW = """
from minidock.linux import syscalls
from minidock.runtime import init
init._be_console = lambda slave: syscalls.mount(f'/proc/self/fd/{slave}', '/dev/console', flags=4096)
"""
TERMINAL = ["run", "--rm", "-t", "busybox", "stat", "-c", "%F", "/target"]


def test_a_console_that_is_a_link(mutant: Callable[[str], Daemon]) -> None:
    done = mutant(SWAP_CONSOLE).docker(*TERMINAL)
    assert done.returncode != 0 and "Too many levels of symbolic links" in done.stderr, done


def test_a_link_would_take_the_console_elsewhere(mutant: Callable[[str], Daemon]) -> None:
    assert "character special" in mutant(SWAP_CONSOLE + FOLLOW).ok(*TERMINAL)


# %% CVE-2025-52881: one file of /proc lies over another when the runtime writes to it
REDIRECT = """
from minidock.linux import syscalls
from minidock.runtime import init
set_names = init._set_names
def attack(spec):
    set_names(spec)
    syscalls.mount('/proc/sys/kernel/hostname', '/proc/sys/net/core/somaxconn', flags=4096)
init._set_names = attack
"""
TRUST_PROC = """
from minidock.linux import procfs
def write(path, text):
    with open('/proc/' + path, 'w') as file:
        file.write(text)
procfs.write = write
"""
SYSCTL = ["run", "--rm", "--sysctl", "net.core.somaxconn=77", "busybox", "hostname"]


def test_a_redirected_write(mutant: Callable[[str], Daemon]) -> None:
    done = mutant(REDIRECT).docker(*SYSCTL)
    assert done.returncode != 0 and "sysctl net.core.somaxconn=77" in done.stderr, done


def test_a_redirected_write_would_hit_another_file(mutant: Callable[[str], Daemon]) -> None:
    assert mutant(REDIRECT + TRUST_PROC).ok(*SYSCTL) == "77\n"
