"""``nox -s suites -- PATH…``: other people's test suites of OCI runtimes, on ours and on theirs.

No code of a suite is here: it takes the path of a checkout in which the
suite has been built, finds out which it is, runs it with one runtime after
the other and counts. Two are known:

* *runtime-tools*, the validation suite of the Open Container Initiative:
  programs ``validation/*/*.t`` that print TAP (build them by ``make
  runtimetest validation-executables``);
* *runc's* own integration tests, ``tests/integration/*.bats`` (build their
  helpers, and put images where ``get-images.sh`` looks for them).

The traps. Both name their containers alike, so two runs at a time disturb
each other. runc's tests want a terminal. And they look for the name "runc"
in what is printed, so ours is called through a link of that name.

Run it as root: ``python -m tests.conformance.suites PATH [--runtime NAME] [--only WORD]``.
"""

import argparse
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parents[2]
PATIENCE = 300  # seconds without a word
PROGRAM = f"""\
#!/usr/bin/python3 -IS
import sys
sys.path.insert(0, "{HERE}")
from minidock.cli.runtime.__main__ import main
sys.exit(main())
"""


# %% Counting
@dataclass(slots=True)
class Count:
    """What the lines of TAP say: ``skipped`` are those that are ok because they were not tried."""

    ok: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, lines: Iterable[str], where: str = "") -> None:
        """Count the lines that are results; the others explain them."""
        for line in lines:
            match = re.match(r"\s*(not )?ok\b(?: \d+)?(?: -)?\s*(.*)", line)
            if match is None:
                continue
            if match[1]:
                self.failed.append(f"{where}{match[2]}".strip())
            else:
                self.ok += 1
                self.skipped += bool(re.search(r"#\s*skip", match[2], re.IGNORECASE))

    def __str__(self) -> str:
        total = self.ok + len(self.failed)
        return f"{len(self.failed)} not ok of {total} ({self.skipped} skipped)"


# %% The two suites
def validation(path: Path, runtime: str, only: str) -> Count:
    """runtime-tools: one program after the other; what it prints on stdout is TAP."""
    count = Count()
    for program in sorted(path.glob("validation/*/*.t")):
        if only not in program.stem:
            continue
        done = subprocess.run(
            ["timeout", "120", str(program)],
            cwd=path,
            env={**os.environ, "RUNTIME": runtime},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        count.add(done.stdout.splitlines(), f"{program.stem}: ")
    return count


def bats(path: Path, runtime: str, only: str) -> Count:
    """runc's tests: bats prints TAP; it runs on a terminal of its own."""
    count = Count()
    files = [str(f) for f in sorted(path.glob("tests/integration/*.bats")) if only in f.stem]
    for file in files:
        os.environ["RUNC"] = runtime
        count.add(_on_a_terminal(["bats", "-t", file], path), f"{Path(file).stem}: ")
    return count


def _on_a_terminal(command: list[str], directory: Path) -> list[str]:
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.execvp(command[0], command)
    said = bytearray()
    while True:
        if not select.select([master], [], [], PATIENCE)[0]:
            os.killpg(pid, signal.SIGKILL)  # something that it has left holds its output
            break
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the last one has closed the terminal
            break
        if not data:
            break
        said += data
    os.close(master)
    os.waitpid(pid, 0)
    return said.decode(errors="replace").replace("\r", "").splitlines()


# %% Which runtimes
@contextmanager
def runtimes(names: list[str]) -> Iterator[dict[str, str]]:
    """Name and program; ours is made on the spot, under the name that runc's tests look for."""
    with tempfile.TemporaryDirectory(prefix="md-suites-") as directory:
        ours = Path(directory) / "runc"
        ours.write_text(PROGRAM)
        ours.chmod(0o755)
        known = {"minidock": str(ours)}
        known |= {name: found for name in ("runc", "crun") if (found := shutil.which(name))}
        yield {name: known[name] for name in names or known}


# %% The program
def main(arguments: list[str]) -> int:
    """Run every suite with every runtime; 1 if ours fails more than runc, where both were run."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.suites")
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--runtime", action="append", default=[])
    parser.add_argument("--only", default="")
    given = parser.parse_args(arguments)
    worse = False
    with runtimes(given.runtime) as programs:
        for path in given.paths:
            suite = validation if (path / "validation").is_dir() else bats
            counts = {}
            for name, program in programs.items():
                counts[name] = suite(path, program, given.only)
                print(f"{path.name:16} {name:10} {counts[name]}", flush=True)
                for line in counts[name].failed:
                    print(f"    not ok: {line}")
            if {"minidock", "runc"} <= counts.keys():
                worse |= len(counts["minidock"].failed) > len(counts["runc"].failed)
    return int(worse)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
