"""The transcript runner: every ``console`` block of the book is a test.

A block of a chapter looks like a terminal::

    ```console
    $ echo hello
    hello
    ```

All commands of one chapter are given to one shell (bash, as root), in
order, and what they print is compared with what the chapter shows.
``…`` in a line stands for anything that changes from run to run; a line of
nothing but ``…`` for any number of lines. Identifiers (64 hexadecimal digits
or 12) need no such care: they are normalised.

A comment before a block says what it needs: ``% needs: cgroup-v2``. A block
whose need is not met is skipped, and said so.

Each chapter has a private daemon (its own directories and bridge), with those
of the images ``busybox`` and ``debian:bookworm`` that it speaks of.

``python -m tools.transcripts [--rewrite] [CHAPTER…]`` runs them;
``--rewrite`` puts what was really printed into the chapter.

**Interface:** :func:`blocks`, :func:`matches`, :func:`run_chapter`, :func:`skipped`.
"""

import contextlib
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHAPTERS = ROOT / "chapters"
TIMEOUT = 60.0 * max(1.0, float(os.environ.get("MINIDOCK_SLOWNESS", "1")) / 5)  # as tests/speed.py


# %% Blocks and commands
@dataclass(frozen=True, slots=True)
class Command:
    """What is typed (may have several lines) and what is shown; ``lines`` are places in the file."""

    text: str
    shown: list[str]
    first: int
    last: int
    needs: frozenset[str]


def blocks(text: str) -> list[Command]:
    """The commands of all console blocks of a chapter."""
    commands: list[Command] = []
    lines = text.splitlines()
    needs: frozenset[str] = frozenset()
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("% needs:"):
            needs = frozenset(line.partition(":")[2].split())
        elif line.startswith("```console"):
            end = next(n for n in range(number + 1, len(lines)) if lines[n].startswith("```"))
            commands += _commands(lines, number + 1, end, needs)
            number, needs = end, frozenset()
        number += 1
    return commands


def _commands(lines: list[str], start: int, end: int, needs: frozenset[str]) -> Iterator[Command]:
    """A prompt begins a command; ``> `` continues it."""
    at = start
    while at < end:
        if not lines[at].startswith(("$ ", "# ")):
            raise ValueError(f"line {at + 1}: a console block must begin with a prompt ($ or #)")
        typed = [lines[at][2:]]
        at += 1
        while at < end and lines[at].startswith("> "):
            typed.append(lines[at][2:])
            at += 1
        first = at
        while at < end and not lines[at].startswith(("$ ", "# ")):
            at += 1
        yield Command("\n".join(typed), lines[first:at], first, at, needs)


# %% Comparing
_IDS = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b")


def _normal(line: str) -> str:
    return _IDS.sub("<id>", line.rstrip())


def matches(shown: list[str], real: list[str]) -> bool:
    """Whether what was printed is what the chapter shows."""
    pattern = ""
    for line in shown:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in _normal(line).split("…")) + r"\n"
    return re.fullmatch(pattern, "".join(_normal(line) + "\n" for line in real)) is not None


# %% A shell
class Shell:
    """One bash; each command's output is what it prints before a mark."""

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        self._mark = f"--{secrets.token_hex(8)}--"
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )

    def run(self, command: str) -> list[str]:
        """What ``command`` prints, both streams, line by line."""
        assert self._process.stdin is not None and self._process.stdout is not None
        text = f"{command}\n</dev/null echo; echo '{self._mark}'\n"
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()
        output, deadline = b"", time.monotonic() + TIMEOUT
        end = f"\n{self._mark}\n".encode()
        while not output.endswith(end):
            ready, _, _ = select.select([self._process.stdout], [], [], 0.5)
            if ready:
                data = os.read(self._process.stdout.fileno(), 65536)
                if not data:
                    raise RuntimeError(f"the shell ended within {command!r}")
                output += data
            elif time.monotonic() > deadline:
                raise TimeoutError(f"{command!r} takes longer than {TIMEOUT:.0f} s")
        return output[: -len(end)].decode(errors="replace").splitlines()

    def close(self) -> None:
        """End the shell, and what it has left running in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


# %% A chapter
@contextlib.contextmanager
def environment() -> Iterator[dict[str, str]]:
    """Variables for a private daemon; afterwards its containers and itself are gone."""
    with tempfile.TemporaryDirectory(prefix="mdbook") as name:
        own = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MINIDOCK_ROOT": f"{name}/root",
            "MINIDOCK_RUN": f"{name}/run",
            "MINIDOCK_BRIDGE": f"mdk{secrets.token_hex(3)}",
            "MINIDOCK_SUBNET": f"10.{secrets.randbelow(50) + 50}.{secrets.randbelow(250)}.0/24",
            "MINIDOCK_REGISTRY": "127.0.0.1:1",  # nobody: the book speaks to no registry but its own
            "DOCKER_CONFIG": f"{name}/docker",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
        }
        try:
            yield own
        finally:
            _end_daemon(Path(name), own)


def _end_daemon(directory: Path, own: dict[str, str]) -> None:
    pidfile = directory / "run" / "minidock.pid"
    if not pidfile.exists():
        return
    listed = subprocess.run(
        ["minidock", "ps", "-aq"], env=own, capture_output=True, text=True, check=False
    )
    for container in listed.stdout.split():
        subprocess.run(
            ["minidock", "rm", "-f", container], env=own, capture_output=True, check=False
        )
    pid = int(pidfile.read_text())
    os.kill(pid, signal.SIGTERM)
    for _ in range(200):
        if not pidfile.exists():
            return
        time.sleep(0.05)


def archive(image: str) -> Path:
    """The archive of a base image, made once for all tests."""
    from minidock.images import bootstrap

    cache = Path("/var/cache/minidock-tests")
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{image.replace(':', '-')}.tar"
    if not path.exists():
        bootstrap.make(image, path)
    return path


def capabilities() -> frozenset[str]:
    """What this machine has of what blocks may need."""
    has = {"root"} if os.geteuid() == 0 else set()
    has |= {"cgroup-v2"} if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else {"cgroup-v1"}
    has |= {"fuse-overlayfs"} if shutil.which("fuse-overlayfs") else set()
    has |= (
        {"btrfs"}
        if shutil.which("mkfs.btrfs") and "btrfs" in _words("/proc/filesystems")
        else set()
    )
    has |= {"device-mapper"} if "device-mapper" in _words("/proc/misc") else set()
    return frozenset(has)


def _words(path: str) -> list[str]:
    return Path(path).read_text().split()


def skipped(path: Path) -> list[str]:
    """The commands of a chapter that this machine cannot run, and why: one line for each need."""
    lacking: dict[str, list[int]] = {}
    for command in blocks(path.read_text()):
        missing = command.needs - capabilities()
        if missing:
            lacking.setdefault(" ".join(sorted(missing)), []).append(command.first)
    return [f"{len(lines)} commands need {need}" for need, lines in lacking.items()]


def _images(commands: list[Command]) -> list[str]:
    """Loading one takes an emulated machine half a minute: only what is typed or shown."""
    words = "\n".join("\n".join([command.text, *command.shown]) for command in commands)
    return [image for image in ("busybox", "debian:bookworm") if image.partition(":")[0] in words]


def run_chapter(path: Path, rewrite: bool = False) -> list[str]:
    """What differs, command by command; with ``rewrite`` the chapter is made to agree."""
    commands = blocks(path.read_text())
    problems: list[str] = []
    real: dict[int, list[str]] = {}
    with environment() as own, tempfile.TemporaryDirectory(prefix="mdbook") as place:
        for image in _images(commands):
            load = ["minidock", "load", "-i", str(archive(image))]
            subprocess.run(load, env=own, check=True, capture_output=True)
        shell = Shell(own, Path(place))
        try:
            for command in commands:
                if command.needs - capabilities():
                    continue
                printed = shell.run(command.text)
                if not matches(command.shown, printed):
                    real[command.first] = printed
                    problems.append(_difference(path, command, printed))
        finally:
            shell.close()
    if rewrite and real:
        _rewrite(path, commands, real)
    return problems


def _difference(path: Path, command: Command, printed: list[str]) -> str:
    shown = "\n    ".join(command.shown)
    got = "\n    ".join(printed)
    return (
        f"{path.name}:{command.first}: $ {command.text}\n  shows\n    {shown}\n  printed\n    {got}"
    )


def _rewrite(path: Path, commands: list[Command], real: dict[int, list[str]]) -> None:
    lines = path.read_text().splitlines()
    for command in reversed(commands):
        if command.first in real:
            lines[command.first : command.last] = real[command.first]
    path.write_text("\n".join(lines) + "\n")


# %% As a program
def main(arguments: list[str]) -> int:
    """Run the chapters named, or all."""
    rewrite = "--rewrite" in arguments
    names = [name for name in arguments if not name.startswith("--")]
    status = 0
    for path in sorted(CHAPTERS.glob("*.md")):
        if names and not any(name in path.name for name in names):
            continue
        for problem in run_chapter(path, rewrite):
            print(problem)
            status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
