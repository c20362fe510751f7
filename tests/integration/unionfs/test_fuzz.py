"""Archives that nobody has thought of: made of entries that mean harm, and then damaged.

Whatever the archive, it is extracted or refused, and all drivers say the same; what is refused
leaves nothing; and nothing outside the layer is ever touched. A short run belongs to the tests;
``nox -s fuzz`` goes on for minutes (``$MINIDOCK_FUZZ_MINUTES``).
"""

import contextlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from minidock.errors import HostileArchive, InvalidParameter
from minidock.unionfs.choice import load
from tests.integration.unionfs.stacks import (
    DIR,
    FILE,
    LINK,
    Stack,
    describe_tree,
    open_driver,
    tree,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MINUTES = float(os.environ.get("MINIDOCK_FUZZ_MINUTES", "0.03"))

# %% Entries that mean harm
OUTSIDE = "{outside}"  # replaced by the path of a directory that must not change

PARTS = st.sampled_from(
    ["a", "a", "b", "b", "c", "d", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..wh.x", ".wh...", "..", ".",
     "", "é", "\udcff", "x" * 256, "a\0b", OUTSIDE]
)  # fmt: skip
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
USUAL, UNUSUAL = "0000055552221111", "34678LKSxgDV"
KINDS = st.sampled_from(USUAL + UNUSUAL).map(str.encode)
NUMBERS = st.one_of(
    st.integers(0, 100_000),
    st.sampled_from([-1, -(1 << 40), 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62, 1 << 70]),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["path", "linkpath", "size", "uid", "gid", "mtime", "GNU.sparse.major", "GNU.sparse.minor",
         "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.name", "hdrcharset",
         "SCHILY.xattr.user.x", "SCHILY.xattr.trusted.overlay.opaque", "SCHILY.xattr.", "comment"]
    ),
    st.sampled_from(["a", "../a", "1", "0", "-1", "1,2,3", "0,5,10,0", "nan", "inf", "1e400", "9" * 30,
                     "1.5", "BINARY", OUTSIDE, "x" * 3000]),
    max_size=3,
)  # fmt: skip
ENTRIES = st.fixed_dictionaries(
    {
        "name": NAMES,
        "type": KINDS,
        "linkname": NAMES,
        "mode": st.integers(0, 0o7777),
        "data": st.binary(max_size=40),
        "harm": st.one_of(
            st.just({}),
            st.just({}),
            st.dictionaries(
                st.sampled_from(["uid", "gid", "mtime", "size", "devmajor", "devminor"]), NUMBERS
            ),
        ),
        "pax_headers": st.one_of(st.just({}), st.just({}), HEADERS),
    }
)
DAMAGE = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from(["flip", "cut", "repeat", "digits"]), st.integers(0, 255)
    ),
    max_size=3,
)


def archive_of(entries: list[dict[str, Any]], outside: str) -> bytes:
    out = bytearray()
    for entry in entries:
        member = tarfile.TarInfo(entry["name"].replace(OUTSIDE, outside))
        member.type, member.mode = entry["type"], entry["mode"]
        member.linkname = entry["linkname"].replace(OUTSIDE, outside)
        member.size = len(entry["data"])
        for key, value in entry["harm"].items():
            setattr(member, key, value)
        member.pax_headers = {
            key: value.replace(OUTSIDE, outside) for key, value in entry["pax_headers"].items()
        }
        for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            try:
                out += member.tobuf(format, "utf-8", "surrogateescape")
                break
            except (ValueError, OverflowError):  # a number for which the format has no room
                continue
        out += entry["data"].ljust(-(-len(entry["data"]) // 512) * 512, b"\0")
    return bytes(out + bytes(1024))


def damaged(data: bytes, damage: list[tuple[float, str, int]]) -> bytes:
    raw = bytearray(data)
    for where, how, value in damage:
        place = int(where * (len(raw) - 1)) if raw else 0
        if how == "flip" and raw:
            raw[place] ^= value
        elif how == "cut":
            del raw[place:]
        elif how == "repeat":
            raw[place:place] = raw[place - place % 512 : place - place % 512 + 512]
        elif how == "digits":
            raw[place : place + 8] = b"%08d" % value
        block = (
            place - place % 512
        )  # with a checksum that holds, so that it is not refused for that
        if len(raw) >= block + 512 and raw[block + 257 : block + 262] == b"ustar":
            raw[block + 148 : block + 156] = b" " * 8
            raw[block + 148 : block + 156] = b"%06o\0 " % sum(raw[block : block + 512])
    return bytes(raw)


# %% What must hold
BASE = (
    ("a", DIR, {}),
    ("a/a", FILE, {"data": b"base"}),
    ("a/b", DIR, {}),
    ("a/b/c", FILE, {}),
    ("b", FILE, {"data": b"base"}),
    ("c", LINK, {"linkname": "a"}),
    ("d", LINK, {"linkname": "/etc"}),
)


def attempt(stack: Stack, raw: bytes) -> dict[str, tuple[Any, ...]] | None:
    """The tree that a container sees; nothing if the archive was refused."""
    before = tree(stack.driver.root.parent)
    try:
        stack.add(raw=raw)
    except (HostileArchive, InvalidParameter) as error:
        assert tree(stack.driver.root.parent) == before
        assert "\n" not in str(error)
        return None
    try:
        found = describe_tree(stack.mount())
        return {name: line for name, line in found.items() if not line[0].startswith("0o4")} | {
            name: ("directory",) for name, line in found.items() if line[0].startswith("0o4")
        }
    finally:
        stack.driver.remove(stack.container)
        stack.driver.remove_layer(stack.chains.pop())


@dataclass(frozen=True)
class Place:
    """Where the drivers that work here keep their layers, with the base of all attempts in each."""

    top: Path
    stacks: dict[str, Stack]

    @property
    def outside(self) -> Path:
        """What no archive may touch."""
        return self.top / "outside"

    def hold(
        self, entries: list[dict[str, Any]], damage: list[tuple[float, str, int]], limit: int = 9
    ) -> None:
        """All say the same, refused or not, and nothing outside is touched."""
        before = describe_tree(self.outside)
        raw = damaged(archive_of(entries, str(self.outside)), damage)
        seen = {}
        for name, stack in [*self.stacks.items()][:limit]:
            seen[name] = attempt(stack, raw)
            assert describe_tree(self.outside) == before
            assert sorted(os.listdir(self.top)) == ["btrfs", "others", "outside"]
        first = next(iter(seen.values()))
        assert all(one == first for one in seen.values()), seen


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """overlay and vfs first: the short run asks only some of its questions of the slow ones."""
    with (
        tempfile.TemporaryDirectory(prefix="mdfuzz") as name,
        contextlib.ExitStack() as stack,
    ):
        top = Path(name)
        for part in ("others", "btrfs", "outside"):
            (top / part).mkdir()
        (top / "outside" / "a").write_text("precious")
        stacks = {}
        for driver in ("overlay", "vfs", "btrfs", "fuse-overlayfs", "devicemapper"):
            root = top / ("btrfs" if driver == "btrfs" else "others")
            if driver == "btrfs" and btrfs_at(root):
                stack.callback(subprocess.run, ["umount", root], check=True)
            root /= driver
            root.mkdir()
            if load(driver).lacks(root):
                continue
            options = ["layer.size=1m", "layer.entries=100"]
            opened = open_driver(driver, root / "layers", options)
            stack.callback(opened.close)
            stacks[driver] = Stack(opened, root / "container")
            stacks[driver].add(*BASE)
            stack.callback(opened.remove_layer, stacks[driver].chains[0])
        yield Place(top, stacks)


def btrfs_at(place: Path) -> bool:
    """Put a btrfs there, in a file; whether that can be done here."""
    if shutil.which("mkfs.btrfs") is None:
        return False
    with tempfile.NamedTemporaryFile(prefix="mdfuzz") as image:
        image.truncate(256 << 20)
        subprocess.run(["mkfs.btrfs", "-q", image.name], check=True, capture_output=True)
        mount = ["mount", "-o", "loop", image.name, place]  # the loop device keeps the file
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0


# %% A short run, and a long one
FIND = (Phase.generate,)  # to make a failure small takes minutes; the long run does it
CHECKS = [*HealthCheck]


@settings(max_examples=80, deadline=None, database=None, phases=FIND, suppress_health_check=CHECKS)
@given(st.lists(ENTRIES, min_size=1, max_size=6), DAMAGE)
def test_a_short_fuzz(
    place: Place, entries: list[dict[str, Any]], damage: list[tuple[float, str, int]]
) -> None:
    place.hold(entries, damage, 2)


@settings(max_examples=20, deadline=None, database=None, phases=FIND, suppress_health_check=CHECKS)
@given(st.lists(ENTRIES, min_size=1, max_size=6), DAMAGE)
def test_a_short_fuzz_with_all_drivers(
    place: Place, entries: list[dict[str, Any]], damage: list[tuple[float, str, int]]
) -> None:
    place.hold(entries, damage)


def test_a_long_fuzz(place: Place) -> None:
    end, done = time.monotonic() + 60 * MINUTES, 0

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=CHECKS)
    @given(st.lists(ENTRIES, min_size=1, max_size=8), DAMAGE)
    def some(entries: list[dict[str, Any]], damage: list[tuple[float, str, int]]) -> None:
        nonlocal done
        if time.monotonic() < end:
            place.hold(entries, damage)
            done += 1

    while time.monotonic() < end:
        some()
    print(f"{done} archives, {', '.join(place.stacks)}")
