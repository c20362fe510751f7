"""Layers on the real kernel: both drivers, hostile archives, whiteouts, round trips."""

import io
import os
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidock.errors import (
    Conflict,
    HostileArchive,
    InvalidParameter,
    NotFound,
    NotSupported,
    Unavailable,
)
from minidock.unionfs.archive import Whiteouts, extract
from minidock.unionfs.choice import backing, choose, examine
from minidock.unionfs.options import Limits
from minidock.unionfs.pack import pack
from tests.integration.unionfs.stacks import (
    BLOCK,
    CHAR,
    DIR,
    DRIVERS,
    FIFO,
    FILE,
    HARD,
    LINK,
    Stack,
    attributes,
    new_chain,
    open_driver,
    tar,
    tree,
)
from tests.speed import SLOWNESS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# %% Hostile archives
def header(size: int) -> bytes:
    """The beginning of a pax header that says it is so long."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, size
    return member.tobuf(tarfile.GNU_FORMAT)


def pax() -> bytes:
    """An extended header about nothing."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 12
    return member.tobuf(tarfile.GNU_FORMAT) + b"12 comment=x".ljust(512, b"\0")


def sparse(*pieces: tuple[int, int]) -> bytes:
    """A file with holes, in GNU's oldest format."""
    member = tarfile.TarInfo("holes")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, sum(length for _, length in pieces)
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    for number, (start, length) in enumerate(pieces):
        block[386 + 24 * number : 410 + 24 * number] = b"%011o\0%011o\0" % (start, length)
    block[483:495] = b"%011o\0" % (1 << 20)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + b"x" * member.size + bytes(1024)


WHOLE = tar(("a", FILE, {"data": b"x" * 512}), ("b", FILE, {"data": b"y" * 512}))
HOSTILE: dict[str, bytes] = {
    "climbs": tar(("../x", FILE, {})),
    "climbs in the middle": tar(("a/../../x", FILE, {})),
    "climbs by a directory": tar(("..", DIR, {})),
    "through a link out": tar(("a", LINK, {"linkname": "/etc"}), ("a/x", FILE, {})),
    "through a link up": tar(("a", LINK, {"linkname": "../.."}), ("a/x", FILE, {})),
    "through two links": tar(
        ("a", LINK, {"linkname": "b"}), ("b", LINK, {"linkname": "/etc"}), ("a/x/y", FILE, {})
    ),
    "hard link out": tar(("a", HARD, {"linkname": "../../etc/passwd"})),
    "hard link through a link": tar(
        ("s", LINK, {"linkname": "/etc"}), ("a", HARD, {"linkname": "s/passwd"})
    ),
    "hard link to nothing": tar(("a", HARD, {"linkname": "b"})),
    "whiteout of the parent": tar(("d/.wh...", FILE, {})),
    "whiteout of the parent of the top": tar((".wh...", FILE, {})),
    "whiteout of itself": tar(("d/.wh..", FILE, {})),
    "whiteout of nothing": tar((".wh.", FILE, {})),
    "forged whiteout": tar(("a", CHAR, {"devmajor": 0, "devminor": 0})),
    "memory": tar(("a", CHAR, {"devmajor": 1, "devminor": 1})),
    "disk": tar(("a", BLOCK, {"devmajor": 8, "devminor": 0})),
    "overlay attribute, file": tar(("a", FILE, attributes("trusted.overlay.redirect"))),
    "overlay attribute, directory": tar(("a", DIR, attributes("trusted.overlay.opaque"))),
    "overlay attribute, top": tar(("./", DIR, attributes("trusted.overlay.opaque"))),
    "overlay attribute, link": tar(("a", LINK, attributes("trusted.overlay.x"))),
    "overlay attribute, fifo": tar(("a", FIFO, attributes("trusted.overlay.x"))),
    "zero in a name": tar(("a", FILE, {"pax_headers": {"path": "a\0b"}})),
    "name too long": tar(("x" * 300, FILE, {})),
    "ends within a header": WHOLE[:1100],
    "ends within a file": WHOLE[:1700],
    "damaged header": WHOLE[:1024] + b"\1" * 512 + WHOLE[1536:],
    "a header without end": header(1 << 40),
    "a header larger than Go's": header(2 << 20) + bytes(2 << 20),
    "negative size": WHOLE[:124] + b"\xff" * 12 + WHOLE[136:],
    "owner too large": tar(("a", FILE, {"uid": 1 << 33})),
    "owner below zero": tar(("a", FILE, {"pax_headers": {"uid": "-1"}})),
    "size below zero, in words": tar(("a", FILE, {"pax_headers": {"size": "-5"}})),
    "hard link to a whiteout": tar((".wh.d", FILE, {}), ("a", HARD, {"linkname": "d"})),
    "hard link to a whiteout's name": tar((".wh.d", FILE, {}), ("a", HARD, {"linkname": ".wh.d"})),
    "hard link to the layer below": tar(("a", HARD, {"linkname": "d/precious"})),
    "hard link to a directory": tar(("x", DIR, {}), ("a", HARD, {"linkname": "x"})),
    "hard link to itself": tar(("a", HARD, {"linkname": "a"})),
    "whiteout of a whiteout": tar(("d/.wh..wh.x", FILE, {})),
    "in a whiteout": tar((".wh.x/a", FILE, {})),
    "zero in a link": tar(("a", LINK, {"pax_headers": {"linkpath": "a\0b"}})),
    "a link put in the way": tar(
        ("a", DIR, {}), ("a/x", FILE, {}), ("a", LINK, {"linkname": "/etc"}), ("a/y", FILE, {})
    ),
    "too deep": tar(("a/" * 1100, DIR, {})),
    "extended headers without end": pax() * 2000,
    "a sparse map that goes back": sparse((4096, 512), (0, 512)),
    "a sparse map that goes beyond": sparse((1 << 40, 512)),
    "fuse-overlayfs' attribute": tar(("a", DIR, attributes("user.fuseoverlayfs.opaque"))),
    "no archive": b"this is not a tar" * 100,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_no_trace(stack: Stack, kind: str) -> None:
    stack.add(("d", DIR, {}), ("d/precious", FILE, {"data": b"p"}))
    before = tree(stack.driver.root.parent.parent)
    with pytest.raises(HostileArchive) as refused:
        stack.add(raw=HOSTILE[kind])
    assert "\n" not in str(refused.value)
    assert tree(stack.driver.root.parent.parent) == before


def test_an_archive_may_end_without_its_blocks_of_zeros(stack: Stack) -> None:
    stack.add(raw=WHOLE[:1024])
    stack.add(raw=WHOLE[:2048])
    stack.add(raw=WHOLE[:2560])  # one block of zeros instead of two
    assert tree(stack.mount()) == ["a", "b"]


def test_an_archive_may_be_nothing_at_all(stack: Stack) -> None:
    """Docker takes it, too: a layer of no bytes."""
    stack.add(("a", FILE, {}))
    stack.add(raw=b"")
    stack.add(raw=bytes(1024))
    assert tree(stack.mount()) == ["a"]


def test_a_later_entry_replaces_an_earlier(stack: Stack) -> None:
    stack.add(
        ("a", DIR, {"mode": 0o700}),
        ("a/x", FILE, {}),
        ("a", LINK, {"linkname": "/etc"}),
        ("b", FILE, {}),
        ("b", DIR, {"mode": 0o700}),
        ("b", DIR, {"mode": 0o711}),
        ("c", LINK, {"linkname": "/etc/passwd"}),
        ("c", FILE, {"data": b"mine"}),
    )
    root = stack.mount()
    assert os.readlink(root / "a") == "/etc"
    assert stat.S_IMODE((root / "b").stat().st_mode) == 0o711
    assert (root / "c").read_bytes() == b"mine"
    assert not (root / "c").is_symlink()


def test_directories_that_a_layer_only_implies_are_its_own(stack: Stack) -> None:
    """Found by the fuzzer: where the layers below are in the same tree, they were taken away."""
    stack.add(("d/old", FILE, {}), ("e", DIR, {}), ("e/e", FILE, {}))
    stack.add(("d/d/d/new", FILE, {}), ("e/e/e", FILE, {}), (".wh.e", FILE, {}))
    stack.add(("d/d/d/d/newer", FILE, {}), ("e/e/f", FILE, {}), (".wh..wh..opq", FILE, {}))
    assert tree(stack.mount()) == [
        "d", "d/d", "d/d/d", "d/d/d/d", "d/d/d/d/newer", "e", "e/e", "e/e/f"
    ]  # fmt: skip


# %% Everything that tar can hold
def test_what_a_layer_keeps(stack: Stack) -> None:
    more = {"uid": 12, "gid": 34, "mode": 0o4755, "mtime": 1_000_000_000}
    stack.add(
        ("d", DIR, {"mode": 0o1777, "uid": 5, "mtime": 86400}),
        ("d/setuid", FILE, {**more, "data": b"hello", **attributes("user.note")}),
        ("d/hard", HARD, {"linkname": "d/setuid"}),
        ("d/soft", LINK, {"linkname": "/no/where", "uid": 7}),
        ("d/fifo", FIFO, {"mode": 0o620}),
        ("d/null", CHAR, {"devmajor": 1, "devminor": 3, "mode": 0o666}),
        ("sg", DIR, {"mode": 0o2775, "gid": 50}),
    )
    stack.add(("sg/x", FILE, {"gid": 0}))
    root = stack.mount()
    file = (root / "d/setuid").stat()
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (12, 34, 0o4755)
    assert (file.st_mtime_ns, file.st_nlink) == (10**18, 2)
    assert (root / "d/hard").stat().st_ino == file.st_ino
    assert os.getxattr(root / "d/setuid", "user.note") == b"y"
    assert os.readlink(root / "d/soft") == "/no/where"
    assert (root / "d/soft").lstat().st_uid == 7
    assert stat.S_ISFIFO((root / "d/fifo").stat().st_mode)
    assert (root / "d/null").stat().st_rdev == os.makedev(1, 3)
    top = (root / "d").stat()
    assert (stat.S_IMODE(top.st_mode), top.st_uid, top.st_mtime) == (0o1777, 5, 86400)
    assert (root / "sg/x").stat().st_gid == 0


def test_a_sparse_file_of_gnu_tar(stack: Stack, tmp_path: Path) -> None:
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"island")
    out = subprocess.run(
        ["tar", "--sparse", "-cf", "-", "-C", tmp_path, "holes"], check=True, capture_output=True
    ).stdout
    assert len(out) < 1 << 20
    stack.add(raw=out)
    assert (stack.mount() / "holes").read_bytes() == (tmp_path / "holes").read_bytes()


def test_capabilities_of_a_file(stack: Stack, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!")
    # VFS_CAP_REVISION_2, effective; permitted CAP_NET_BIND_SERVICE: see capabilities(7).
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(program, "security.capability", value)
    out = subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "-cf", "-", "-C", tmp_path, "program"],
        check=True,
        capture_output=True,
    ).stdout
    stack.add(raw=out)
    root = stack.mount()
    assert os.getxattr(root / "program", "security.capability") == value


# %% Whiteouts
def test_whiteouts_hide_what_is_below(stack: Stack) -> None:
    names = ("d", "e", "e/f")
    stack.add(
        *((name, DIR, {}) for name in names),
        ("d/x", FILE, {}),
        ("d/y", FILE, {}),
        ("e/f/z", FILE, {}),
        ("e/g", FILE, {}),
    )
    stack.add(
        ("d/.wh.x", FILE, {}),
        ("d/.wh.nothing", FILE, {}),
        ("e/new", FILE, {}),
        ("e/.wh..wh..opq", FILE, {}),
    )
    assert tree(stack.mount()) == ["d", "d/y", "e", "e/new"]


def test_a_file_and_its_whiteout_in_one_layer(stack: Stack) -> None:
    stack.add(("a", DIR, {}), ("a/old", FILE, {}))
    stack.add((".wh.a", FILE, {}), ("a", FILE, {"data": b"new"}))
    assert (stack.mount() / "a").read_bytes() == b"new"


# %% What a container changes
def change_things(root: Path) -> None:
    (root / "d/kept").write_text("changed")
    (root / "d/gone").unlink()
    subprocess.run(["rm", "-r", root / "whole"], check=True)
    (root / "new").mkdir()
    (root / "new/file").write_text("new")
    os.link(root / "new/file", root / "new/hard")
    os.symlink("file", root / "new/soft")


@pytest.fixture
def changed(stack: Stack) -> Stack:
    stack.add(
        ("d", DIR, {}),
        ("d/kept", FILE, {"data": b"old"}),
        ("d/gone", FILE, {}),
        ("same", FILE, {}),
        ("whole", DIR, {}),
        ("whole/x", FILE, {}),
    )
    change_things(stack.mount())
    return stack


def test_changes(changed: Stack) -> None:
    wanted = {("C", "/d"), ("C", "/d/kept"), ("D", "/d/gone"), ("D", "/whole"), ("A", "/new")}
    wanted |= {("A", f"/new/{name}") for name in ("file", "hard", "soft")}
    assert changed.changes() == wanted


def test_no_changes(stack: Stack) -> None:
    stack.add(("d", DIR, {}), ("d/x", FILE, {"data": b"x"}))
    stack.mount()
    assert stack.changes() == set()


@pytest.mark.parametrize("other", ["overlay", "vfs"])
def test_what_is_packed_over_the_same_layers_gives_the_same_tree(
    changed: Stack, other: str, new_stack: Callable[[str], Stack]
) -> None:
    packed = changed.pack()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        names = archive.getnames()
    assert {"d/.wh.gone", ".wh.whole"} <= set(names)
    seen = tree(changed.container / "rootfs")
    again = new_stack(other)
    again.add(
        ("d", DIR, {}),
        ("d/kept", FILE, {"data": b"old"}),
        ("d/gone", FILE, {}),
        ("same", FILE, {}),
        ("whole", DIR, {}),
        ("whole/x", FILE, {}),
    )
    again.add(raw=packed)
    root = again.mount()
    try:
        assert tree(root) == seen
        assert (root / "d/kept").read_text() == "changed"
        assert (root / "new/file").stat().st_nlink == 2
    finally:
        again.driver.remove(again.container)


# %% Mounting
def test_what_was_written_survives_an_unmount(stack: Stack) -> None:
    stack.add(("a", FILE, {}))
    (stack.mount() / "mine").write_text("x")
    stack.driver.unmount(stack.container)
    stack.driver.unmount(stack.container)
    assert (stack.mount() / "mine").read_text() == "x"
    stack.driver.remove(stack.container)
    stack.driver.remove(stack.container)
    assert list(stack.container.iterdir()) == []


def test_many_layers_and_a_quick_mount(tmp_path: Path) -> None:
    stack = Stack(choose("overlay", tmp_path / "layers"), tmp_path / "container")
    for number in range(127):
        stack.add((f"f{number}", FILE, {}))
    here = os.getcwd()
    try:
        assert len(tree(stack.mount())) == 127
        times = []
        for _ in range(20):
            stack.driver.unmount(stack.container)
            begun = time.perf_counter()
            stack.mount()
            times.append(time.perf_counter() - begun)
        assert min(times) < 0.003 * SLOWNESS
        assert os.getcwd() == here
    finally:
        stack.driver.remove(stack.container)


def test_an_image_without_layers(stack: Stack) -> None:
    root = stack.mount()
    assert tree(root) == []
    (root / "mine").write_text("x")
    assert stack.changes() == {("A", "/mine")}
    with tarfile.open(fileobj=io.BytesIO(stack.pack())) as archive:
        assert archive.getnames() == ["mine"]
    stack.driver.unmount(stack.container)
    assert (stack.mount() / "mine").read_text() == "x"


# %% Names of directories
def test_chain_ids_that_begin_alike(stack: Stack) -> None:
    first = new_chain()
    second = first[:23] + new_chain()[23:]
    assert first[7:23] == second[7:23]
    add = stack.driver.create_layer
    add(first, None, io.BytesIO(tar(("first", FILE, {}))))
    assert not stack.driver.has_layer(second)
    with pytest.raises(NotFound):
        stack.driver.layer_size(second)
    stack.driver.remove_layer(second)
    assert stack.driver.has_layer(first)
    add(second, None, io.BytesIO(tar(("second", FILE, {}))))
    assert sorted(stack.driver.layers()) == sorted([first, second])
    again = open_driver(stack.driver.name, stack.driver.root.parent)
    for driver in (stack.driver, again):
        for chain, name in ((first, "first"), (second, "second")):
            with driver.layer_tree(chain) as top:
                assert os.listdir(top) == [name]
    again.remove_layer(first)
    assert again.has_layer(second)
    with again.layer_tree(second) as top:
        assert os.listdir(top) == ["second"]


def test_when_all_names_are_taken(stack: Stack) -> None:
    wanted = new_chain()
    for start in range(7, 71, 16):
        part = wanted[start : start + 16]
        stack.driver.create_layer(f"sha256:{part}{'0' * 48}", None, io.BytesIO(tar()))
    before = tree(stack.driver.root)
    with pytest.raises(Conflict, match="cannot be kept"):
        stack.driver.create_layer(wanted, None, io.BytesIO(tar(("x", FILE, {}))))
    assert tree(stack.driver.root) == before


def test_the_same_layer_twice_at_once(stack: Stack) -> None:
    """The second to be ready must not take the first one's directory away: it may be mounted."""
    chain = new_chain()

    class Interrupting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not stack.driver.has_layer(chain):
                stack.driver.create_layer(chain, None, io.BytesIO(tar(("a", FILE, {}))))
                inode.append((stack.driver.root / stack.driver.directory(chain)).stat().st_ino)
            return super().read(size)

    inode: list[int] = []
    stack.driver.create_layer(chain, None, Interrupting(tar(("a", FILE, {}))))
    assert [(stack.driver.root / stack.driver.directory(chain)).stat().st_ino] == inode
    assert len({path.name for path in stack.driver.root.iterdir()} - {"pool"}) == 2


@pytest.mark.parametrize("name", [name for name in DRIVERS if name != "btrfs"])
def test_ext4_is_told_to_spread_layers(new_stack: Callable[[str], Stack], name: str) -> None:
    stack = new_stack(name)
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", stack.driver.root], check=True, capture_output=True, text=True
    ).stdout.strip()
    if kind != "ext2/ext3":
        pytest.skip("not on ext4")
    out = subprocess.run(
        ["lsattr", "-d", stack.driver.root], check=True, capture_output=True, text=True
    ).stdout
    assert "T" in out.split()[0]


# %% Which driver
def test_choosing(tmp_path: Path) -> None:
    assert choose("overlay2", tmp_path).name == "overlay"
    assert choose("vfs", tmp_path).name == "vfs"
    assert choose(None, tmp_path).name == "overlay"
    with pytest.raises(InvalidParameter, match="unknown storage driver 'zfs'"):
        choose("zfs", tmp_path)
    with pytest.raises(NotSupported, match="aufs is gone.*overlay does the same"):
        choose("aufs", tmp_path)


def test_each_driver_says_what_it_lacks(tmp_path: Path) -> None:
    found = examine(tmp_path)
    assert set(found) == set(DRIVERS)
    assert found["overlay"] == found["vfs"] == ""
    if backing(tmp_path) != "btrfs":
        assert "not on btrfs" in found["btrfs"]
    if "device-mapper" not in Path("/proc/misc").read_text():
        assert "this kernel has no device mapper" in found["devicemapper"]
    for name, lack in found.items():
        if lack:
            with pytest.raises(Unavailable, match=f"storage driver {name} does not work here"):
                choose(name, tmp_path)


def test_options(tmp_path: Path) -> None:
    assert choose("vfs", tmp_path, ["layer.size=2k", "layer.entries=5"]).limits == Limits(2048, 5)
    for wrong in ("layer.colour=red", "layer.size=many", "layer.size=", "layer.size=-1", "x"):
        with pytest.raises(InvalidParameter, match=wrong.partition("=")[0]):
            choose("vfs", tmp_path, [wrong])


# %% Tree to tar to tree
NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1
).filter(
    lambda name: (
        name not in (".", "..") and not name.startswith(".wh.") and len(name.encode()) < 200
    )
)
MODES = st.integers(0, 0o7777)
LEAVES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=2000), MODES),
    st.tuples(st.just("link"), NAMES, MODES),
    st.tuples(st.just("fifo"), st.just(""), MODES),
)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)


def build(place: Path, what: Any) -> None:
    if isinstance(what, dict):
        place.mkdir()
        for name, inner in what.items():
            build(place / name, inner)
    else:
        kind, content, mode = what
        if kind == "link":
            os.symlink(content, place)
        else:
            place.write_bytes(content) if kind == "file" else os.mkfifo(place)
            os.chmod(place, mode)
    os.utime(place, (1, 10**9), follow_symlinks=False)


def describe(root: Path) -> dict[str, Any]:
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content: Any = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        content = os.readlink(path) if path.is_symlink() else content
        found[str(path.relative_to(root))] = (status.st_mode, status.st_mtime, content)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES, TREES, max_size=5))
def test_round_trip(content: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        one, two = Path(name) / "one", Path(name) / "two"
        build(one, content)
        two.mkdir()
        out = io.BytesIO()
        pack(one, out, lambda member, status, path: [member])
        out.seek(0)
        extract(out, two, Whiteouts())
        assert describe(two) == describe(one)
