"""Trees as deep as a program in a container can make them: deeper than calls nest, longer than a path."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from minidock.errors import HostileArchive, InvalidParameter, Unavailable
from minidock.paths import remove_tree
from minidock.transfer import PATH
from minidock.transfer import pack as pack_for_cp
from minidock.unionfs.pack import pack
from tests.integration.unionfs.stacks import DIR, DRIVERS, FILE, Stack, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DEEP, BEYOND = 1000, 3000  # levels; the kernel takes no path of more than 4,095 bytes


def dig(top: Path, levels: int) -> None:
    """``d/d/d/…`` and a file in the last, as somebody does it who goes down as he digs."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
    os.close(fd)


BOTTOM = "d/" * DEEP + "bottom"


# %% As deep as a layer may be
def test_a_layer_a_change_and_a_pack(stack: Stack) -> None:
    stack.add((BOTTOM, FILE, {"data": b"old"}), (f"{'d/' * DEEP}other", FILE, {}))
    root = stack.mount()
    (root / BOTTOM).write_bytes(b"new")
    (root / "d" / "other").write_bytes(b"x")
    changes = stack.changes()
    assert ("C", f"/{BOTTOM}") in changes
    assert ("A", "/d/other") in changes
    assert len(changes) == DEEP + 2
    with tarfile.open(fileobj=io.BytesIO(stack.pack())) as archive:
        names = archive.getnames()
    assert names[-2:] == [BOTTOM, "d/other"]
    stack.add(raw=stack.pack())
    stack.driver.remove(stack.container)
    assert (stack.mount() / BOTTOM).read_bytes() == b"new"


def test_a_layer_that_hides_a_deep_tree(stack: Stack) -> None:
    stack.add((BOTTOM, FILE, {"data": b"old"}))
    stack.add(("d", DIR, {}), ("d/.wh..wh..opq", FILE, {}), ("d/new", FILE, {}))
    assert os.listdir(stack.mount() / "d") == ["new"]
    stack.driver.remove(stack.container)
    stack.add((BOTTOM, FILE, {"data": b"again"}), (".wh..wh..opq", FILE, {}))
    root = stack.mount()
    assert os.listdir(root / "d") == ["d"]
    assert (root / BOTTOM).read_bytes() == b"again"
    stack.driver.remove(stack.container)
    stack.add(("d", FILE, {"data": b"no directory any more"}))
    assert (stack.mount() / "d").is_file()


# %% Deeper than that
def test_deeper_than_a_layer_may_be(stack: Stack) -> None:
    stack.add(("a", FILE, {}))
    dig(stack.mount(), 1500)
    assert len(stack.changes()) == 1501
    with pytest.raises(HostileArchive, match="more than 1024 directories deep"):
        stack.add(raw=stack.pack())


@pytest.mark.parametrize("name", [name for name in DRIVERS if name != "fuse-overlayfs"])
def test_longer_than_any_path(new_stack: Callable[[str], Stack], name: str) -> None:
    """Fuse-overlayfs lets nobody dig so deep."""
    stack = new_stack(name)
    stack.add(("a", FILE, {}))
    dig(stack.mount(), BEYOND)
    for look in (stack.changes, stack.pack):
        with pytest.raises(Unavailable, match="/d/d/d.*bytes: file name too long") as refused:
            look()
        assert len(str(refused.value)) < 200
    stack.driver.remove(stack.container)
    assert os.listdir(stack.container) == []


def test_an_archive_with_names_longer_than_any_path(stack: Stack) -> None:
    name = ("x" * 250 + "/") * 17 + "file"
    with pytest.raises(HostileArchive, match="cannot extract 'xxx.*File name too long") as refused:
        stack.add(raw=tar((name, FILE, {})))
    assert len(str(refused.value)) < 200


# %% The same by the other ways in and out
@pytest.mark.parametrize("levels", [DEEP, BEYOND])
def test_export_and_cp(tmp_path: Path, levels: int) -> None:
    dig(tmp_path, levels)
    out = io.BytesIO()
    top = os.open(tmp_path, PATH)
    try:
        if levels == DEEP:
            pack(tmp_path, out)
            copied = io.BytesIO()
            with tarfile.open(fileobj=copied, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                pack_for_cp(archive, top, "top", {})
            for made, bottom in ((out, BOTTOM), (copied, f"top/{BOTTOM}")):
                made.seek(0)
                with tarfile.open(fileobj=made) as archive:
                    assert archive.getnames()[-1] == bottom
            return
        with pytest.raises(Unavailable, match="file name too long"):
            pack(tmp_path, out)
        with (
            tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive,
            pytest.raises(InvalidParameter, match="top/d/d.*file name too long"),
        ):
            pack_for_cp(archive, top, "top", {})
    finally:
        os.close(top)
        remove_tree(tmp_path / "d")
        assert os.listdir(tmp_path) == []
