"""How long it takes to load Debian's image, against Docker.

How fast files are made depends on the disk's recent past: an ext4 without a
journal is many times slower where thousands of files were deleted within
the last minutes. So there are two conditions: at rest, where each image is
a new one and nothing was deleted; and after a removal, where each side has
just removed the image that it loads again. ``sync`` before each load, and
the sides take turns at being first.

Run it alone, as root: ``python -m tests.bench.loading [ROUNDS [DIRECTORY]]``; the directory says on
which file system.
"""

import gzip
import os
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from minidock.images import bootstrap
from tests.bench.sides import Side, docker, minidock

TARGET = 0.6


# %% Both conditions
def compare(sides: list[Side], archive: Path, rounds: int = 5) -> bool:
    """Print the best and the median of both sides and their ratios; whether the medians are good."""
    variants = _variants(archive, rounds + 1)
    rest: list[list[float]] = [[] for _ in sides]
    removal: list[list[float]] = [[] for _ in sides]
    for number, variant in enumerate(variants):
        for index in _turns(len(sides), number):
            taken = _load(sides[index], variant)
            if number:  # the first round warms up
                rest[index].append(taken)
    for number in range(rounds):
        for side in sides:
            side.run("rmi", _name(0))
        for index in _turns(len(sides), number):
            removal[index].append(_load(sides[index], variants[0]))
    good = _report("load debian, at rest", rest)
    return _report("load debian, after a removal", removal) and good


def _turns(sides: int, number: int) -> list[int]:
    order = list(range(sides))
    return order if number % 2 else order[::-1]


def _load(side: Side, archive: Path) -> float:
    os.sync()
    begun = time.perf_counter()
    side.run("load", "-i", str(archive))
    return time.perf_counter() - begun


def _report(title: str, times: list[list[float]]) -> bool:
    medians = [statistics.median(kept) * 1000 for kept in times]
    best = [min(kept) * 1000 for kept in times]
    if len(times) < 2:
        print(f"{title:36} {medians[0]:9.1f} ms   (best {best[0]:.1f})")
        return True
    ratio = medians[0] / medians[1]
    good = ratio <= TARGET
    print(
        f"{title:36} {medians[0]:9.1f} ms {medians[1]:9.1f} ms   ratio {ratio:5.2f}"
        f" (at most {TARGET}) {'ok' if good else 'TOO SLOW'}"
        f"; best {best[0]:.0f} and {best[1]:.0f} ms, ratio {best[0] / best[1]:.2f}"
    )
    return good


# %% Images that nobody has yet
def _name(number: int) -> str:
    return f"debian:bench-{number}"


def rootfs(archive: Path) -> Path:
    """The tar in the only layer of ``archive``."""
    plain = archive.with_suffix(".rootfs")
    with tarfile.open(archive) as source:
        largest = max(source, key=lambda member: member.size)
        layer = source.extractfile(largest)
        assert layer is not None
        plain.write_bytes(gzip.decompress(layer.read()))
    return plain


def _variants(archive: Path, count: int) -> list[Path]:
    """Images like the one in ``archive``, each with a file more: every one must be extracted anew."""
    plain = rootfs(archive)
    made = []
    for number in range(count):
        with tarfile.open(plain, "a") as target:
            target.addfile(tarfile.TarInfo(f"variant-{number}"))
        out = archive.with_suffix(f".{number}.tar")
        bootstrap.write_archive(_name(number), plain, ["bash"], out)
        made.append(out)
    return made


def main(rounds: int = 5, place: str = "/var/lib") -> int:
    """Only this; 1 if the target is missed."""
    with tempfile.TemporaryDirectory(prefix="minidock-bench-", dir=place) as name:
        directory = Path(name)
        archive = directory / "debian.tar"
        bootstrap.make("debian", archive)
        with minidock(directory) as ours, docker(directory) as theirs:
            return (
                0 if compare([ours] if theirs is None else [ours, theirs], archive, rounds) else 1
            )


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:2]), *sys.argv[2:3]))
