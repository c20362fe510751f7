"""``python -m tests.bench.registry [ROUNDS]``: our registry beside Debian's docker-registry.

A blob of 66 MB, the size of Debian's layer, is pulled and pushed by curl, on one connection and by
four at once; every push is of another blob. What counts is the ratio of the medians in one run.
"""

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.registries import Registry, digest_of, docker_registry, ours, with_digest

SIZE = 66 << 20


# %% What is measured
def pull(registry: Registry, path: str, count: int = 1) -> None:
    """The whole blob, thrown away."""
    url = f"http://{registry.address}{path}"
    _all(["curl", "-sf", "-o", "/dev/null", url] for _ in range(count))


def push(registry: Registry, blob: Path, count: int = 1) -> None:
    """As docker does: POST, PATCH with the data in chunks, PUT with the digest."""
    commands, ends = [], []
    for number in range(count):
        data = os.urandom(16) + blob.read_bytes()[16:]
        file = blob.with_suffix(f".{number}")
        file.write_bytes(data)
        where = registry.call("POST", f"/v2/bench/{number}/blobs/uploads/").headers["Location"]
        url = where if where.startswith("http") else f"http://{registry.address}{where}"
        chunked = [
            "-H",
            "Transfer-Encoding: chunked",
            "-H",
            "Content-Type: application/octet-stream",
        ]
        commands.append(["curl", "-sfi", "-X", "PATCH", "-T", str(file), *chunked, url])
        ends.append(digest_of(data))
    begun = time.perf_counter()
    answers = _all(commands)
    for answer, digest in zip(answers, ends, strict=True):
        where = next(
            line.split()[1] for line in answer.splitlines() if line.lower().startswith("location:")
        )
        assert registry.call("PUT", with_digest(where, digest), b"").status == 201
    Timed.last = time.perf_counter() - begun


class Timed:
    """Of a push, only what the registry does counts, not making the data."""

    last = 0.0


def _all(commands: "list[list[str]] | object") -> list[str]:
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for command in commands  # type: ignore[attr-defined]
    ]
    answers = [process.communicate()[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    return answers


def small(registry: Registry) -> None:
    """Five hundred times: is this blob here?"""
    for _ in range(500):
        registry.call("HEAD", "/v2/bench/0/blobs/sha256:" + "0" * 64)


# %% Side by side
def compare(
    title: str, rounds: int, sides: list[Registry], action: Callable[[Registry], float]
) -> None:
    """Medians, and their ratio."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, kept in zip(sides, times, strict=True):
            kept.append(action(side) * 1000)
    medians = [statistics.median(kept) for kept in times]
    ratio = f"   ratio {medians[0] / medians[1]:5.2f}" if len(medians) > 1 else ""
    print(f"{title:28}" + "".join(f"{one:9.1f} ms" for one in medians) + ratio)


def timed(action: Callable[[Registry], None]) -> Callable[[Registry], float]:
    """Seconds that it takes."""

    def measured(registry: Registry) -> float:
        begun = time.perf_counter()
        action(registry)
        return time.perf_counter() - begun

    return measured


def main(rounds: int) -> None:
    """Run them all."""
    compileall.compile_dir("minidock", quiet=1)
    with tempfile.TemporaryDirectory(prefix="minidock-bench-", dir="/var/lib") as name:
        directory = Path(name)
        blob = directory / "blob"
        blob.write_bytes(os.urandom(SIZE))
        with ours(directory / "ours") as mine, docker_registry(directory / "theirs") as theirs:
            sides = [mine] if theirs is None else [mine, theirs]
            print(f"{'':28}{'MiniDock':>12}{'docker-registry' if theirs else '':>18}")
            paths = {
                id(one): f"/v2/bench/blobs/{one.push_blob('bench', blob.read_bytes())}"
                for one in sides
            }
            for count in (1, 4):
                compare(
                    f"pull 66 MB, {count} at once", rounds, sides,
                    timed(lambda one, n=count: pull(one, paths[id(one)], n)),
                )  # fmt: skip
            for count in (1, 4):

                def pushed(one: Registry, count: int = count) -> float:
                    push(one, blob, count)
                    return Timed.last

                compare(f"push 66 MB, {count} at once", rounds, sides, pushed)
            compare("500 HEADs of a blob", rounds, sides, timed(small))
            for side in sides:
                text = Path(f"/proc/{side.process.pid}/status").read_text()
                print(
                    f"{side.address}: {int(text.partition('VmHWM:')[2].split()[0]) / 1024:.1f} MB at most"
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
