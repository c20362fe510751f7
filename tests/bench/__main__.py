"""``nox -s bench``: how long, how much memory, and against Docker.

Machines are noisy, so nothing here is compared with a number from another
day: each round does the same with Docker and with MiniDock, one after the
other, and what counts is the ratio of the medians. Docker's daemon runs with
directories of its own and in a network namespace of its own, so that its
firewall rules stay out of the host's; without ``dockerd`` installed, only
MiniDock's own figures are shown.

Run it as root: ``python -m tests.bench [ROUNDS]``.
"""

import compileall
import contextlib
import gzip
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from minidock.images import bootstrap

TARGETS = {
    "run --rm busybox true (bridge)": 0.35,
    "run --rm busybox true (none)": 0.35,
    "exec true": 1.0,
    "load debian": 0.6,
}
DAEMON_PSS, MONITOR_PSS = 60.0, 2.9  # MB


# %% The two sides
class Side:
    """One engine: how to call its command line, and with what environment."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.command = command
        self.environment = {**os.environ, **environment}

    def run(self, *arguments: str) -> str:
        """Run a command; raises when it fails."""
        done = subprocess.run(
            [*self.command, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.command[0]} {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()


@contextlib.contextmanager
def minidock(directory: Path) -> Iterator[Side]:
    """A daemon of ours, with its own directories, bridge and subnet."""
    token = secrets.token_hex(3)
    side = Side(
        [sys.executable, "-m", "minidock"],
        {
            "MINIDOCK_ROOT": str(directory / "minidock"),
            "MINIDOCK_RUN": str(directory / "run"),
            "MINIDOCK_BRIDGE": f"mdb{token}",
            "MINIDOCK_SUBNET": f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.0/24",
        },
    )
    script = shutil.which("minidock", path=str(Path(sys.executable).parent))
    if script:
        side.command = [script]
    try:
        side.run("version")  # starts the daemon
        yield side
    finally:
        for container in side.run("ps", "-aq").split():
            side.run("rm", "-f", container)
        pid = int((directory / "run" / "minidock.pid").read_text())
        os.kill(pid, 15)
        _wait(lambda: not Path(f"/proc/{pid}").exists())


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Side | None]:
    """A dockerd with its own directories and network namespace; None where there is none."""
    dockerd = shutil.which("dockerd")
    if dockerd is None:
        yield None
        return
    netns = f"mdbench{secrets.token_hex(3)}"
    socket = directory / "docker.sock"
    subprocess.run(["ip", "netns", "add", netns], check=True)
    subprocess.run(["ip", "-n", netns, "link", "set", "lo", "up"], check=True)
    with open(directory / "dockerd.log", "w") as log:
        daemon = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{netns}", dockerd, "-H", f"unix://{socket}"]
            + [
                "--data-root",
                str(directory / "docker"),
                "--exec-root",
                str(directory / "exec"),
            ]
            + ["--pidfile", str(directory / "docker.pid")],
            stdout=log,
            stderr=log,
        )
    try:
        side = Side(["docker", "-H", f"unix://{socket}"], {})
        _wait(lambda: socket.exists())
        _wait(lambda: _answers(side))
        yield side
    finally:
        for container in side.run("ps", "-aq").split():
            side.run("rm", "-f", container)
        daemon.terminate()
        daemon.wait(30)
        subprocess.run(["ip", "netns", "delete", netns], check=True)


def _answers(side: Side) -> bool:
    with contextlib.suppress(RuntimeError):
        side.run("version")
        return True
    return False


def _wait(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited too long")
        time.sleep(0.02)


# %% Measuring
def timed(action: Callable[[], object]) -> float:
    """Seconds that ``action`` takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def compare(title: str, rounds: int, sides: list[Side], action: Callable[[Side], object]) -> bool:
    """Do ``action`` with each side in turn, ``rounds`` times; print medians and their ratio."""
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        action(side)  # warm
    for _ in range(rounds):
        for side, kept in zip(sides, times, strict=True):
            kept.append(timed(lambda side=side: action(side)))  # type: ignore[misc]
    medians = [statistics.median(kept) * 1000 for kept in times]
    target = TARGETS.get(title)
    if len(medians) < 2:
        print(f"{title:36} {medians[0]:9.1f} ms")
        return True
    ratio = medians[0] / medians[1]
    good = target is None or ratio <= target
    wanted = "" if target is None else f"(at most {target}) {'ok' if good else 'TOO SLOW'}"
    print(f"{title:36} {medians[0]:9.1f} ms {medians[1]:9.1f} ms   ratio {ratio:5.2f} {wanted}")
    return good


def pss(pids: list[int]) -> float:
    """Proportional set size of processes together, in MB."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def memory(side: Side, directory: Path) -> bool:
    """The idle daemon with its spawner; then what ten containers add."""
    daemon = int((directory / "run" / "minidock.pid").read_text())
    children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
    engine = [daemon, *map(int, children)]
    idle = pss(engine)
    print(f"{'daemon and spawner, idle':36} {idle:9.1f} MB PSS (at most {DAEMON_PSS})")
    names = [side.run("run", "-d", "busybox", "sleep", "1000") for _ in range(10)]
    time.sleep(1)
    records = [side.run("inspect", "-f", "{{.State.Pid}}", name) for name in names]
    monitors = [_parent(int(pid)) for pid in records]
    each = pss(monitors) / len(monitors)
    print(f"{'a monitor (of ten)':36} {each:9.2f} MB PSS (at most {MONITOR_PSS})")
    for name in names:
        side.run("rm", "-f", name)
    return idle <= DAEMON_PSS and each <= MONITOR_PSS


def _parent(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[1])


# %% The benchmarks
def main(rounds: int) -> int:
    """Run them all; 1 if a target is missed."""
    compileall.compile_dir("minidock", quiet=1)  # as an installation would be
    with tempfile.TemporaryDirectory(prefix="minidock-bench-", dir="/var/lib") as name:
        directory = Path(name)
        archives = {}
        for image in ("busybox", "debian:bookworm"):
            archives[image] = directory / f"{image.replace(':', '-')}.tar"
            bootstrap.make(image, archives[image])
        with minidock(directory) as ours, docker(directory) as theirs:
            sides = [ours] if theirs is None else [ours, theirs]
            print(f"{'':36} {'MiniDock':>12} {'Docker' if theirs else '':>12}")
            good = _compare_all(rounds, sides, archives)
            good &= memory(ours, directory)
    return 0 if good else 1


def _variants(archive: Path, count: int) -> list[Path]:
    """Images like the one in ``archive``, each with a file more: every one has to be extracted anew.

    Loading the same image again would do nothing, and removing it first would measure how
    slowly ext4 makes files where others were just deleted.
    """
    plain = archive.with_suffix(".rootfs")
    with tarfile.open(archive) as source:
        largest = max(source, key=lambda member: member.size)
        layer = source.extractfile(largest)
        assert layer is not None
        plain.write_bytes(gzip.decompress(layer.read()))
    made = []
    for number in range(count):
        with tarfile.open(plain, "a") as target:
            target.addfile(tarfile.TarInfo(f"variant-{number}"))
        out = archive.with_suffix(f".{number}.tar")
        bootstrap.write_archive(f"debian:bench-{number}", plain, ["bash"], out)
        made.append(out)
    return made


def _compare_all(rounds: int, sides: list[Side], archives: dict[str, Path]) -> bool:
    variants = _variants(archives["debian:bookworm"], 4)
    todo = {id(side): list(variants) for side in sides}

    def load(side: Side) -> None:
        side.run("load", "-i", str(todo[id(side)].pop()))

    good = compare("load debian", len(variants) - 1, sides, load)
    for side in sides:
        side.run("load", "-i", str(archives["busybox"]))
    bridge = ("run", "--rm", "busybox", "true")
    good &= compare("run --rm busybox true (bridge)", rounds, sides, lambda s: s.run(*bridge))
    none = ("run", "--rm", "--network", "none", "busybox", "true")
    good &= compare("run --rm busybox true (none)", rounds, sides, lambda s: s.run(*none))
    for side in sides:
        side.run("run", "-d", "--name", "bench", "busybox", "sleep", "1000")
    good &= compare("exec true", rounds, sides, lambda s: s.run("exec", "bench", "true"))
    for side in sides:
        side.run("rm", "-f", "bench")
    return good


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 15))
