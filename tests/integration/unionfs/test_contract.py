"""What all drivers promise, on the real kernel: the same acts give the same layer with each of them."""

import io
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidock import steps
from minidock.errors import HostileArchive
from minidock.unionfs import Driver
from tests.integration.unionfs.stacks import (
    DIR,
    DRIVERS,
    FILE,
    HARD,
    LINK,
    SMALL_POOL,
    Stack,
    attributes,
    describe_tree,
    new_chain,
    open_driver,
    tar,
    tree,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NewStack = Callable[[str], Stack]

# %% The same acts
IMAGE = (
    ("d", DIR, {"mtime": 1000}),
    ("d/kept", FILE, {"data": b"old"}),
    ("d/gone", FILE, {}),
    ("d/mode", FILE, {"data": b"mode"}),
    ("d/sub", DIR, {}),
    ("d/sub/deep", FILE, {"data": b"deep"}),
    ("same", FILE, {"data": b"same"}),
    ("whole", DIR, {}),
    ("whole/x", FILE, {}),
    ("whole/y", DIR, {}),
    ("whole/y/z", FILE, {}),
    ("again", DIR, {}),
    ("again/one", FILE, {"data": b"1"}),
    ("again/two", DIR, {}),
    ("again/two/three", FILE, {}),
    ("dir2file", DIR, {}),
    ("dir2file/inner", FILE, {}),
    ("file2dir", FILE, {}),
    ("dir2link", DIR, {}),
    ("dir2link/passwd", FILE, {}),
    ("link2dir", LINK, {"linkname": "/etc"}),
)


def acts(root: Path) -> None:
    """Everything that can happen to a tree; what is made new gets a time that is told, not taken."""
    (root / "d/kept").write_text("changed")
    (root / "d/gone").unlink()
    (root / "d/mode").chmod(0o4711)
    (root / "d/sub/deep").write_text("deeper")
    shutil.rmtree(root / "whole")
    shutil.rmtree(root / "again")
    (root / "again").mkdir()
    (root / "again/new").write_text("n")
    for name in ("dir2file", "dir2link"):
        shutil.rmtree(root / name)
    (root / "dir2file").write_text("now a file")
    (root / "file2dir").unlink()
    (root / "file2dir").mkdir()
    (root / "file2dir/inner").write_text("i")
    (root / "dir2link").symlink_to("/etc")
    (root / "link2dir").unlink()
    (root / "link2dir").mkdir()
    (root / "link2dir/passwd").write_text("mine")
    (root / "new").mkdir(0o2750)
    (root / "new/file").write_text("new")
    os.chown(root / "new/file", 4_000_000_000, 100_000)
    os.link(root / "new/file", root / "new/hard")
    (root / "new/soft").symlink_to("file")
    os.mkfifo(root / "new/fifo", 0o600)
    os.mknod(root / "new/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as one:
        here = os.open(root / "new", os.O_PATH)
        one.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    (root / ("n" * 251)).write_text("long")  # fuse-overlayfs must have room for a whiteout's name
    for path in sorted(root.rglob("*"), reverse=True):
        if path.name not in ("same",):
            os.utime(path, ns=(10**18 + 5, 10**18 + 5), follow_symlinks=False)


def entries(archive: bytes) -> list[tuple[Any, ...]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        return [
            (one.name, one.type, one.mode, one.uid, one.gid, one.size, one.linkname, one.mtime)
            for one in source
        ]


def after_the_acts(new_stack: NewStack, name: str) -> Stack:
    stack = new_stack(name)
    stack.add(*IMAGE)
    acts(stack.mount())
    return stack


@pytest.mark.parametrize("name", [name for name in DRIVERS if name != "overlay"])
def test_the_same_acts_give_the_same_layer(new_stack: NewStack, name: str) -> None:
    one, other = after_the_acts(new_stack, "overlay"), after_the_acts(new_stack, name)
    assert other.changes() == one.changes()
    assert entries(other.pack()) == entries(one.pack())
    assert other.pack() == one.pack()
    assert {("D", "/again/one"), ("D", "/again/two"), ("C", "/dir2file")} <= one.changes()
    assert ("D", "/dir2file/inner") not in one.changes()
    assert ("A", "/link2dir/passwd") in one.changes()


@pytest.mark.parametrize("target", DRIVERS)
def test_a_committed_layer_gives_the_same_tree_everywhere(
    new_stack: NewStack, stack: Stack, target: str
) -> None:
    """As ``commit`` does it: pack with one driver, extract with another over the same image."""
    stack.add(*IMAGE)
    root = stack.mount()
    acts(root)
    (root / "new/socket").unlink()  # a layer cannot hold it
    again = new_stack(target)
    again.add(*IMAGE)
    again.add(raw=stack.pack())
    assert describe_tree(again.mount()) == describe_tree(root)
    assert again.changes() == set()


# %% Layers, one on the other
def test_opaque_directories(stack: Stack) -> None:
    stack.add(("d", DIR, {}), ("d/a", FILE, {}), ("d/s", DIR, {}), ("d/s/b", FILE, {}))
    stack.add(("d", DIR, {}), ("d/s", DIR, {}), ("d/s/c", FILE, {}), ("d/.wh..wh..opq", FILE, {}))
    assert tree(stack.mount()) == ["d", "d/s", "d/s/c"]


def test_a_layer_that_hides_all_below_it(stack: Stack) -> None:
    stack.add(("a", FILE, {}), ("b", FILE, {}))
    stack.add((".wh..wh..opq", FILE, {}), ("c", FILE, {}), ("b", FILE, {}))
    root = stack.mount()
    assert tree(root) == ["b", "c"]
    (root / "a").write_text("new")
    assert stack.changes() == {("A", "/a")}


def test_a_new_directory_does_not_bring_the_old_ones_content_back(stack: Stack) -> None:
    stack.add(("d", DIR, {}), ("d/a", FILE, {}), ("e", DIR, {}), ("e/a", FILE, {}))
    stack.add((".wh.d", FILE, {}), ("d", DIR, {}), ("e", FILE, {}), ("e", DIR, {}))
    assert tree(stack.mount()) == ["d", "e"]


def test_a_whiteout_does_not_touch_its_own_layer(stack: Stack) -> None:
    stack.add(("d", DIR, {}), ("d/a", FILE, {}))
    stack.add(("d/a", FILE, {"data": b"new"}), ("d/.wh.a", FILE, {}))
    assert (stack.mount() / "d/a").read_bytes() == b"new"


def test_files_over_directories_and_links(stack: Stack) -> None:
    stack.add(("run", DIR, {}), ("run/x", FILE, {}), ("var", LINK, {"linkname": "/run"}))
    stack.add(("run", FILE, {"data": b"f"}), ("var/y", FILE, {}))
    root = stack.mount()
    assert tree(root) == ["run", "var", "var/y"]
    assert (root / "run").read_bytes() == b"f"


def test_notes_of_aufs_are_left_out(stack: Stack) -> None:
    stack.add((".wh..wh.plnk", DIR, {}), (".wh..wh.plnk/1.2", FILE, {}), ("a", FILE, {}))
    assert tree(stack.mount()) == ["a"]


def test_many_layers(stack: Stack) -> None:
    for number in range(127 if stack.driver.alone else 40):
        stack.add((f"f{number:03}", FILE, {}), ("x", FILE, {"data": b"%d" % number}))
    root = stack.mount()
    assert len(tree(root)) == len(stack.chains) + 1
    assert int((root / "x").read_bytes()) == len(stack.chains) - 1


# %% What is kept
def test_times_owners_and_modes(stack: Stack) -> None:
    moment = "1600000000.123456789"
    stack.add(
        ("fine", FILE, {"pax_headers": {"mtime": moment}}),
        ("old", FILE, {"mtime": -5}),
        ("never", FILE, {"pax_headers": {"mtime": "nan"}}),
        ("late", FILE, {"pax_headers": {"mtime": "99999999999999"}}),
        ("large", FILE, {"uid": 4_294_967_294, "gid": 3_000_000_000, "mode": 0o6755}),
        ("n" * 255, FILE, {}),
    )
    root = stack.mount()
    assert (root / "fine").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert [(root / name).stat().st_mtime_ns for name in ("old", "never", "late")] == [0, 0, 0]
    large = (root / "large").stat()
    assert (large.st_uid, large.st_gid) == (4_294_967_294, 3_000_000_000)
    assert stat.S_IMODE(large.st_mode) == 0o6755
    assert (root / ("n" * 255)).exists()


def test_holes_stay_holes(stack: Stack, tmp_path: Path) -> None:
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"island")
    for version in ("0.0", "0.1", "1.0"):
        raw = subprocess.run(
            [
                "tar",
                "-S",
                f"--sparse-version={version}",
                "--format=pax",
                "-cf-",
                "-C",
                tmp_path,
                "holes",
            ],
            check=True,
            capture_output=True,
        ).stdout
        chain = stack.add(raw=raw)
        with stack.driver.layer_tree(chain) as top:
            found = (top / "holes").stat()
            assert (found.st_size, found.st_blocks < 1000) == (64 << 20, True), version
            with open(top / "holes", "rb") as file:
                file.seek(32 << 20)
                assert file.read(7) == b"island\0"


def test_hard_links_across_copy_up(stack: Stack) -> None:
    """overlayfs breaks them, a snapshot does not; either way others see what the container saw."""
    stack.add(("a", FILE, {"data": b"old"}), ("b", HARD, {"linkname": "a"}))
    root = stack.mount()
    os.link(root / "a", root / "c")
    (root / "a").write_text("new")
    stack.driver.unmount(stack.container)
    seen = describe_tree(stack.mount())
    assert (root / "c").read_text() == "new"
    packed = stack.pack()
    stack.add(raw=packed)
    stack.driver.remove(stack.container)
    found = describe_tree(stack.mount())
    assert {name: line[3] for name, line in found.items()} == {
        name: line[3] for name, line in seen.items()
    }


def test_attributes_and_capabilities_of_a_change(stack: Stack) -> None:
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    stack.add(("a", FILE, {"data": b"x", **attributes("user.note")}))
    root = stack.mount()
    os.setxattr(root / "a", "security.capability", value)
    assert stack.changes() == {("C", "/a")}
    with tarfile.open(fileobj=io.BytesIO(stack.pack())) as archive:
        headers = archive.getmember("a").pax_headers
    assert headers["SCHILY.xattr.user.note"] == "y"
    assert headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == value
    assert [key for key in headers if "overlay" in key] == []


def test_a_name_that_looks_like_a_whiteout_does_not_become_one(stack: Stack) -> None:
    stack.add(("a", FILE, {}), ("b", FILE, {}))
    (stack.mount() / "new").write_text("")
    try:
        (stack.container / "rootfs/.wh.a").write_text("")
        (stack.container / "rootfs/.wh.d/d").mkdir(parents=True)
    except OSError:
        assert stack.driver.name == "fuse-overlayfs"  # which lets nobody make such a name
    with tarfile.open(fileobj=io.BytesIO(stack.pack())) as archive:
        assert archive.getnames() == ["new"]


# %% Limits
def test_limits(new_stack: NewStack, stack: Stack) -> None:
    options = ["layer.size=1k", "layer.entries=3"]
    driver = open_driver(stack.driver.name, stack.driver.root.parent, options)
    before = tree(driver.root)
    with pytest.raises(HostileArchive, match=r"more than 1024 bytes, with 'b'.*layer.size"):
        big = tar(("a", FILE, {"data": b"x" * 1000}), ("b", FILE, {"data": b"x" * 1000}))
        driver.create_layer(new_chain(), None, io.BytesIO(big))
    with pytest.raises(HostileArchive, match=r"more than 3 entries.*layer.entries"):
        many = tar(*((name, FILE, {}) for name in "abcd"))
        driver.create_layer(new_chain(), None, io.BytesIO(many))
    assert tree(driver.root) == before


# %% Crashes and faults
CRASH = """
import io, os, signal, sys
from pathlib import Path
from minidock.unionfs.choice import choose
root, name, when, chain = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
driver = choose(name, root, sys.argv[5:])
class Deadly(io.BytesIO):
    def read(self, size=-1):
        if self.tell() >= 512:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(size)
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if when == "settling":
    import minidock.unionfs
    minidock.unionfs.write_json = die
elif when == "removing":
    type(driver)._discard = die
    driver.remove_layer(chain)
data = open(sys.stdin.fileno(), "rb").read()
driver.create_layer("sha256:" + "77" * 32, chain, Deadly(data) if when == "extracting" else io.BytesIO(data))
"""


def crash(driver: Driver, when: str, chain: str) -> None:
    pool = SMALL_POOL if driver.name == "devicemapper" else ()
    done = subprocess.run(
        [sys.executable, "-c", CRASH, driver.root.parent, driver.name, when, chain, *pool],
        input=tar(("new", FILE, {"data": b"x" * 5000})),
        check=False,
    )
    assert done.returncode == -9


@pytest.mark.parametrize("when", ["extracting", "settling", "removing"])
def test_who_is_killed_leaves_nothing_that_is_not_swept(stack: Stack, when: str) -> None:
    kept, other = stack.add(("a", FILE, {})), new_chain()
    stack.driver.create_layer(other, None, io.BytesIO(tar(("b", FILE, {}))))
    before = tree(stack.driver.root)
    crash(stack.driver, when, other if when == "removing" else kept)
    assert tree(stack.driver.root) != before
    again = open_driver(stack.driver.name, stack.driver.root.parent)
    left = [kept] if when == "removing" else [kept, other]
    assert sorted(again.layers()) == sorted(left)
    gone = stack.driver.directory(other)
    wanted = [n for n in before if when != "removing" or not n.startswith(gone)]
    assert tree(again.root) == wanted
    again.create_layer("sha256:" + "77" * 32, kept, io.BytesIO(tar(("new", FILE, {}))))


def records_of(act: Callable[[], object]) -> list[str]:
    heard: list[steps.Record] = []
    with steps.listening(heard.append):
        act()
    return [record.title for record in heard]


def test_each_step_of_a_mount_fails_once_and_leaves_no_mount(stack: Stack) -> None:
    stack.add(("a", FILE, {}))
    titles = records_of(stack.mount)
    stack.driver.remove(stack.container)
    assert titles
    for title in titles:
        with (
            pytest.raises(steps.InjectedFault),
            steps.listening(lambda record: None, fault=steps.Fault(title, "fail")),
            steps.transaction(),
        ):
            stack.mount()
        assert str(stack.container) not in Path("/proc/self/mountinfo").read_text()
        stack.driver.remove(stack.container)
        assert list(stack.container.iterdir()) == []
    assert tree(stack.mount()) == ["a"]


# %% At the same time
def test_many_at_once(stack: Stack, new_stack: NewStack) -> None:
    base = stack.add(("base", FILE, {"data": b"b"}))
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            chain = new_chain()
            stack.driver.create_layer(chain, base, io.BytesIO(tar((f"f{number}", FILE, {}))))
            container = stack.container.parent / f"c{number}"
            container.mkdir()
            root = stack.driver.mount([base, chain], container)
            (root / "mine").write_text(str(number))
            assert tree(root) == ["base", f"f{number}", "mine"]
            changes = stack.driver.changes([base, chain], container)
            assert [(change.kind, change.path) for change in changes] == [("A", "/mine")]
            stack.driver.remove(container)
            stack.driver.remove_layer(chain)
        except BaseException as error:  # noqa: BLE001 (told to the test)
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stack.driver.layers() == [base]


# %% What is special about one of them
def test_a_container_may_have_subvolumes_of_its_own(new_stack: NewStack) -> None:
    stack = new_stack("btrfs")
    stack.add(("a", FILE, {}))
    root = stack.mount()
    subprocess.run(["btrfs", "-q", "subvolume", "create", root / "own"], check=True)
    (root / "own/file").write_text("x")
    stack.driver.remove(stack.container)
    assert list(stack.container.iterdir()) == []


def test_the_program_of_fuse_overlayfs_ends_with_its_mount(new_stack: NewStack) -> None:
    stack = new_stack("fuse-overlayfs")
    stack.add(("a", FILE, {}))

    def running() -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            if words.startswith(b"fuse-overlayfs\0") and str(stack.container).encode() in words:
                found.append(path.parent.name)
        return found

    code = (
        "import sys; from pathlib import Path; from minidock.unionfs.choice import choose;"
        "choose('fuse-overlayfs', Path(sys.argv[1])).mount(sys.argv[3:], Path(sys.argv[2]))"
    )
    arguments = [stack.driver.root.parent, stack.container, *stack.chains]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    assert len(running()) == 1  # who started it is gone
    assert tree(stack.container / "rootfs") == ["a"]
    stack.driver.unmount(stack.container)
    for _ in range(100):
        if not running():
            break
        time.sleep(0.02)
    assert running() == []


def test_a_pool_outlives_its_daemon_and_comes_back(new_stack: NewStack) -> None:
    stack = new_stack("devicemapper")
    stack.add(("a", FILE, {"data": b"x"}))
    (stack.mount() / "mine").write_text("m")
    open_driver("devicemapper", stack.driver.root.parent)  # another daemon, while it runs
    stack.driver.unmount(stack.container)
    stack.driver.close()
    again = open_driver("devicemapper", stack.driver.root.parent)
    root = again.mount(stack.chains, stack.container)
    assert tree(root) == ["a", "mine"]
    assert dict(again.status())["Pool Name"].startswith("minidock-")
