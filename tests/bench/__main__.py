"""``nox -s bench``: how long, how much memory, and against Docker.

Machines are noisy, so nothing here is compared with a number from another
day: each round does the same with Docker and with MiniDock, one after the
other, and what counts is the ratio of the medians. Docker's daemon runs with
directories of its own and in a network namespace of its own, so that its
firewall rules stay out of the host's; without ``dockerd`` installed, only
MiniDock's own figures are shown.

Run it as root: ``python -m tests.bench [ROUNDS]``; ``python -m tests.bench.loading`` for the loading
of images alone.
"""

import compileall
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from minidock.images import bootstrap
from tests.bench import loading
from tests.bench.sides import Side, docker, minidock

TARGETS = {
    "run --rm busybox true (bridge)": 0.35,
    "run --rm busybox true (none)": 0.35,
    "exec true": 1.0,
    "commit of one changed file (Debian)": 0.5,
}
DAEMON_PSS, MONITOR_PSS = 60.0, 2.9  # MB


# %% Measuring
def timed(action: Callable[[], object]) -> float:
    """Seconds that ``action`` takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def compare(
    title: str,
    rounds: int,
    sides: list[Side],
    action: Callable[[Side], object],
    prepare: Callable[[Side], object] = lambda side: None,
) -> bool:
    """Do ``action`` with each side in turn, ``rounds`` times; print medians and their ratio.

    ``prepare`` comes before each, and is not timed.
    """
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        prepare(side)
        action(side)  # warm
    for _ in range(rounds):
        for side, kept in zip(sides, times, strict=True):
            prepare(side)
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


def _compare_all(rounds: int, sides: list[Side], archives: dict[str, Path]) -> bool:
    good = loading.compare(sides, archives["debian:bookworm"])
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
    return good & committing(rounds, sides, archives["debian:bookworm"])


def committing(rounds: int, sides: list[Side], archive: Path) -> bool:
    """One file of a running container is changed, and committed, each time another."""
    for side in sides:
        side.run("load", "-i", str(archive))
        side.run("run", "-d", "--name", "bench", "debian:bookworm", "sleep", "100000")
    title, numbers = "commit of one changed file (Debian)", itertools.count()

    def commit(side: Side) -> None:
        side.run("commit", "bench", "bench:committed")

    def change(side: Side) -> None:
        side.run("exec", "bench", "sh", "-c", f"echo {next(numbers)} >/etc/motd")

    good = compare(title, rounds, sides, commit, change)
    for side in sides:
        side.run("rm", "-f", "bench")
        side.run("image", "prune", "-f")
    return good


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 15))
