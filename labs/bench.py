"""What a check has in hand: the student's engine, and eyes for what the kernel says.

A check is a function ``(bench) -> None`` that raises :class:`Wrong` with
what was expected and what the kernel said. Nothing here uses the engine's
modules: they may be the student's. The kernel is asked directly, in
``/proc`` and ``/sys``.

The trap is time. A slow laptop must not fail a right answer, and a wrong
one must not hang for ever: what should happen is waited for, up to
:data:`PATIENCE` seconds; what should not happen is never waited for.

**Interface:** :class:`Bench`, :class:`Box`, :class:`Wrong`, :func:`expect`, :func:`in_child`.
"""

import json
import os
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

PATIENCE = float(os.environ.get("MINIDOCK_LAB_PATIENCE", "20"))

T = TypeVar("T")


# %% What is wrong
class Wrong(Exception):
    """An expectation that was not met: ``expected`` and what the kernel (or the engine) ``said``."""

    def __init__(self, expected: str, said: str) -> None:
        super().__init__(f"expected {expected}; {said}")
        self.expected = expected
        self.said = said


def expect(met: bool, expected: str, said: str) -> None:
    """Raise :class:`Wrong` unless ``met``."""
    if not met:
        raise Wrong(expected, said)


def wait_for(look: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether ``look`` becomes true in time."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# %% The student's engine
@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line it said, as people quote it; not the advice that follows an error."""
        said = (self.err or self.out).splitlines()
        lines = [line for line in said if line.strip() and not line.startswith("Run '")]
        return lines[-1].strip() if lines else f"nothing (status {self.status})"


def command(*words: str, seconds: float = max(120.0, 3 * PATIENCE)) -> Done:
    """Run a command to its end."""
    try:
        done = subprocess.run(
            words, capture_output=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        raise Wrong(f"`{' '.join(words)}` to end", f"it still runs after {seconds:.0f} s") from None
    except FileNotFoundError:
        raise Wrong(
            f"`{words[0]}` to be there as before",
            "it is not: the engine has pulled the file system from under the sandbox",
        ) from None
    return Done(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


class Bench:
    """A sandbox with the student's engine in it; ``place`` is the work copy."""

    def __init__(self, place: Path, archive: str) -> None:
        self.place = place
        self._archive = archive
        self._loaded = False

    def attempt(self, *words: str) -> Done:
        """``minidock …``, whatever comes of it."""
        if not self._loaded:
            self._loaded = True
            self.minidock("load", "-q", "-i", self._archive)
        return command("minidock", *words)

    def minidock(self, *words: str) -> str:
        """What ``minidock …`` prints; :class:`Wrong` if it fails."""
        done = self.attempt(*words)
        expect(done.status == 0, f"`minidock {' '.join(words)}` to work", f"it says: {done.last}")
        return done.out.strip()

    def box(self, *options: str, run: Sequence[str] = ("sleep", "1000000")) -> "Box":
        """A container of busybox that runs in the background."""
        identity = self.minidock("run", "-d", *options, "busybox", *run)
        return Box(self, identity)

    def clear(self) -> bool:
        """Remove all containers, so that the next check begins with none; whether that was possible."""
        try:
            for identity in command("minidock", "ps", "-aq").out.split():
                command("minidock", "rm", "-f", identity)
        except Wrong:
            return False
        return True


# %% A container
class Box:
    """A container: ``id``, ``pid`` of its first process as the sandbox numbers it."""

    def __init__(self, bench: Bench, identity: str) -> None:
        self.bench = bench
        self.id = identity
        self.pid = int(self.inspect()["State"]["Pid"])

    def inspect(self) -> dict[str, Any]:
        """What the engine tells of it."""
        found: dict[str, Any] = json.loads(self.bench.minidock("inspect", self.id))[0]
        return found

    def exec(self, *words: str) -> str:
        """What a command prints in it; :class:`Wrong` if it fails."""
        return self.bench.minidock("exec", self.id, *words)

    def shell(self, line: str) -> Done:
        """A line for its shell, whatever comes of it."""
        return self.bench.attempt("exec", self.id, "sh", "-c", line)

    def namespace(self, kind: str) -> str:
        """Which one its first process is in: ``pid:[4026532…]``."""
        return os.readlink(f"/proc/{self.pid}/ns/{kind}")

    def mounts(self) -> list[list[str]]:
        """Its lines of ``mountinfo``, as words."""
        return mounts(self.pid)


def mounts(pid: int | str = "self") -> list[list[str]]:
    """The lines of a process's ``mountinfo``, as words (proc_pid_mountinfo(5))."""
    return [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]


# %% A function of the student's, called directly
def in_child(function: Callable[[], T]) -> T:
    """Call ``function`` in a child process and return its (JSON) result; what it raises becomes :class:`Wrong`.

    For what changes the process that does it: its namespaces, its root.
    """
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer: dict[str, Any] = {"result": function()}
        except Wrong as wrong:
            answer = {"expected": wrong.expected, "said": wrong.said}
        except BaseException as error:  # noqa: BLE001 (the parent says it)
            answer = {"expected": "no error", "said": describe(error)}
        os.write(writes, json.dumps(answer).encode())
        os._exit(0)
    os.close(writes)
    with open(reads, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    expect(bool(data), "the function to return", "its process died")
    answer = json.loads(data)
    if "expected" in answer:
        raise Wrong(answer["expected"], answer["said"])
    result: T = answer["result"]
    return result


def describe(error: BaseException) -> str:
    """An exception in one line, with the place in the student's file that it came from."""
    text = f"{type(error).__name__}: {error}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if "minidock" in path.parts and not path.is_symlink() and "labs" not in path.parts[-3:]:
            return f"{text} ({path.name}, line {frame.lineno})"
    return text
