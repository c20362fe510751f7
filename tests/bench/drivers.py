"""What each storage driver costs: as a table for chapter 7.

``python -m tests.bench.drivers [ROUNDS]``, as root: three layers of 500 files of 8 KiB each, the
lowest with a file of 100 MB; btrfs on a file system in a file. Times are medians in milliseconds;
"first byte" is what it costs to append one byte to the large file for the first time, and the room
that this takes on the disk.
"""

import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from minidock.unionfs import Driver
from minidock.unionfs.choice import DRIVERS, choose, load

COLUMNS = ("layer", "first start", "later start", "first byte", "diff", "remove")
MEGABYTES = 100


# %% What is measured
def archive(layer: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as target:
        for number in range(500):
            member = tarfile.TarInfo(f"dir{number % 20}/file{layer}-{number}")
            member.size = 8192
            target.addfile(member, io.BytesIO(os.urandom(8192)))
        if not layer:
            member = tarfile.TarInfo("large")
            member.size = MEGABYTES << 20
            target.addfile(member, io.BytesIO(os.urandom(1 << 20) * MEGABYTES))
    return out.getvalue()


def once(driver: Driver, container: Path) -> dict[str, float]:
    """One container's life."""
    took: dict[str, float] = {}

    def timed(what: str, act: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        result = act()
        took[what] = (time.perf_counter() - begun) * 1000
        return result

    chains: list[str] = []
    begun = time.perf_counter()
    spent = 0.0
    for layer in range(3):
        preparing = time.perf_counter()
        raw = archive(layer)
        spent += time.perf_counter() - preparing
        chains.append(f"sha256:{os.urandom(32).hex()}")
        driver.create_layer(chains[-1], chains[-2] if layer else None, io.BytesIO(raw))
    took["layer"] = (time.perf_counter() - begun - spent) * 1000 / 3
    container.mkdir()
    root = timed("first start", lambda: driver.mount(chains, container))
    driver.unmount(container)
    timed("later start", lambda: driver.mount(chains, container))

    def append() -> None:
        with open(root / "large", "ab") as file:
            file.write(b"x")

    timed("first byte", append)
    found = timed("diff", lambda: driver.changes(chains, container))
    assert [change.path for change in found] == ["/large"]
    timed("remove", lambda: driver.remove(container))
    for chain in reversed(chains):
        driver.remove_layer(chain)
    container.rmdir()
    return took


# %% Each in turn
def btrfs_place(stack: ExitStack, top: Path) -> Path:
    place, disk = top / "btrfs", top / "disk"
    place.mkdir()
    with open(disk, "xb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", disk, place], check=True)
    stack.callback(subprocess.run, ["umount", place], check=True)
    return place


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory(dir="/var/lib", prefix="minidock-drivers") as name:
        top = Path(name)
        with ExitStack() as stack:
            print(f"| driver | {' | '.join(COLUMNS)} |")
            print(f"|---|{'---|' * len(COLUMNS)}")
            for driver in DRIVERS:
                place = btrfs_place(stack, top) if driver == "btrfs" else top
                if lack := load(driver).lacks(place):
                    print(f"| `{driver}` | {lack} |")
                    continue
                one = choose(driver, place / "layers")
                lives = [once(one, place / "container") for _ in range(rounds)]
                one.close()
                medians = [statistics.median(life[what] for life in lives) for what in COLUMNS]
                print(f"| `{driver}` | {' | '.join(f'{median:.1f}' for median in medians)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
