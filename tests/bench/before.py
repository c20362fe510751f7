"""This engine beside an earlier checkout of itself: is it slower than it was?

The two take turns, and the order changes from round to round, so what
disturbs the machine disturbs both. Each side has directories, a bridge and
a daemon of its own, and its modules are compiled first.

The trap: a daemon is Python, too, and an old one looks for its modules in
the current directory first. So everything starts in ``/``.

Run it as root::

    git worktree add /tmp/before 56e73f4
    python -m tests.bench.before /tmp/before [ROUNDS [CASE…]]
"""

import compileall
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from minidock.images import bootstrap
from tests.bench.__main__ import timed
from tests.bench.sides import Side, minidock

HERE = Path(__file__).parents[2]
TARGET = 1.0  # times the earlier median

CASES = {
    "run --rm (none)": ("run", "--rm", "--network", "none", "busybox", "true"),
    "run --rm (bridge)": ("run", "--rm", "busybox", "true"),
    "exec": ("exec", "stays", "true"),
    "run -d (none)": ("run", "-d", "--network", "none", "busybox", "true"),
}


# %% A side for each checkout
def script(checkout: Path, directory: Path) -> list[str]:
    """A starter as ``./setup`` writes it, for the modules of ``checkout``."""
    compileall.compile_dir(str(checkout / "minidock"), quiet=1)
    program = directory / "starter"
    program.write_text(
        "#!/usr/bin/python3 -IS\nimport sys\n"
        f'sys.path.insert(0, "{checkout}")\n'
        "from minidock.__main__ import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    return [str(program)]


def run(side: Side, words: tuple[str, ...]) -> None:
    """One command; nothing of it is shown."""
    subprocess.run(
        [*side.command, *words],
        env=side.environment,
        cwd="/",
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


# %% The benchmark
def compare(title: str, rounds: int, before: Side, now: Side) -> bool:
    """Print minima and medians, and their ratios; False if the median is above the target."""
    times: dict[Side, list[float]] = {before: [], now: []}
    for number in range(rounds):
        for side in (before, now) if number % 2 else (now, before):
            times[side].append(timed(lambda side=side: run(side, CASES[title])) * 1000)  # type: ignore[misc]
    words = [f"{title:20}"]
    ratio = 0.0
    for name, figure in (("least", min), ("median", statistics.median)):
        earlier, today = figure(times[before]), figure(times[now])
        ratio = today / earlier
        words.append(f"{name} {earlier:7.1f} -> {today:7.1f} ms ({ratio:.3f})")
    print("   ".join([*words, "ok" if ratio <= TARGET else "SLOWER"]), flush=True)
    return ratio <= TARGET


def main(checkout: Path, rounds: int, cases: list[str]) -> int:
    """Compare ``checkout`` with the tree that this file is in; 1 if anything has become slower."""
    with (
        tempfile.TemporaryDirectory(prefix="md-bench-", dir="/var/lib") as name,
        ExitStack() as stack,
    ):
        image = Path(name) / "busybox.tar"
        bootstrap.make("busybox", image)
        sides = []
        for tree in (checkout.resolve(), HERE):
            directory = Path(name) / secrets.token_hex(2)
            directory.mkdir()
            side = stack.enter_context(minidock(directory, script(tree, directory)))
            run(side, ("load", "-i", str(image)))
            run(side, ("run", "-d", "--name", "stays", "busybox", "sleep", "100000"))
            sides.append(side)
        results = []
        for title in cases:
            time.sleep(1)
            results.append(compare(title, rounds, *sides))
    return 0 if all(results) else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m tests.bench.before CHECKOUT [ROUNDS [CASE…]]")
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    raise SystemExit(main(Path(sys.argv[1]), number, sys.argv[3:] or list(CASES)))
