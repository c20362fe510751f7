"""The drivers, each on a file system that it can work on; those that this kernel lacks are skipped."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minidock.unionfs.choice import load
from tests.integration.unionfs.stacks import DRIVERS, Stack, open_driver

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# %% A file system with subvolumes
@pytest.fixture(scope="session")
def btrfs_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """btrfs in a file, mounted by way of a loop device, for all tests of the session."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("mkfs.btrfs is not installed (apt-get install btrfs-progs)")
    top = tmp_path_factory.mktemp("btrfs")
    image, place = top / "image", top / "mounted"
    place.mkdir()
    with open(image, "xb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"btrfs cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)
    image.unlink()


# %% Stacks
@pytest.fixture
def new_stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Stack]]:
    """A function that makes an empty stack with the driver of a name, or skips the test."""
    made: list[Stack] = []
    places: list[Path] = []

    def make(name: str) -> Stack:
        parent = request.getfixturevalue("btrfs_root") if name == "btrfs" else tmp_path
        place = parent / secrets.token_hex(4)
        place.mkdir()
        places.append(place)
        if lack := load(name).lacks(place):
            pytest.skip(f"{name}: {lack}")
        made.append(Stack(open_driver(name, place / "layers"), place / "container"))
        return made[-1]

    yield make
    for stack in made:
        stack.driver.remove(stack.container)
        for chain in stack.driver.layers():
            stack.driver.remove_layer(chain)
        stack.driver.close()
    mounts = Path("/proc/self/mountinfo").read_text()
    for place in places:
        assert str(place) not in mounts
        shutil.rmtree(place)


@pytest.fixture(params=DRIVERS)
def stack(request: pytest.FixtureRequest, new_stack: Callable[[str], Stack]) -> Stack:
    return new_stack(request.param)
