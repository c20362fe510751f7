"""Archives out of a tree, and into one that is not to be trusted. Needs no root: our own files do."""

import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidock.errors import Forbidden, InvalidParameter
from minidock.transfer import PATH, pack, unpack

OWNER = os.getuid(), os.getgid()


def archive(*members: tuple[str, Any]) -> io.BytesIO:
    """Pairs of a name and content: bytes, None for a directory, or (type, link)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o750
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, tuple):
                info.type, info.linkname = content
            else:
                info.size = len(content)
            made.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    file.seek(0)
    return file


def put(directory: Path, made: io.BytesIO, where: str = "/", **more: Any) -> None:
    root = os.open(directory, PATH)
    try:
        unpack(made, root, where, owners=lambda *_: OWNER, **more)
    finally:
        os.close(root)


def packed(path: Path) -> io.BytesIO:
    fd = os.open(path, PATH | os.O_NOFOLLOW)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w|") as made:
        pack(made, fd, path.name, {})
    os.close(fd)
    file.seek(0)
    return file


NAMES = st.sampled_from(["a", "b", "c d", "é", "-x"])
TREES = st.recursive(
    st.binary(max_size=300), lambda below: st.dictionaries(NAMES, below, max_size=3), max_leaves=8
)


def build(path: Path, tree: Any) -> None:
    if isinstance(tree, bytes):
        path.write_bytes(tree)
        return
    path.mkdir()
    for name, below in tree.items():
        build(path / name, below)


def look(path: Path) -> Any:
    if path.is_symlink():
        return "->" + os.readlink(path)
    if path.is_dir():
        return {one.name: look(one) for one in path.iterdir()}
    return path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(TREES)
def test_what_is_packed_comes_out_the_same(tree: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        build(Path(name) / "top", tree)
        (Path(name) / "other").mkdir()
        put(Path(name) / "other", packed(Path(name) / "top"))
        assert look(Path(name) / "other" / "top") == tree


def test_modes_times_links_and_hard_links(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "file").write_text("x")
    (top / "file").chmod(0o4711)
    os.utime(top / "file", (1000, 1000))
    os.link(top / "file", top / "second")
    (top / "link").symlink_to("../anywhere")
    os.mkfifo(top / "fifo", 0o640)
    (tmp_path / "new").mkdir()
    put(tmp_path / "new", packed(top))
    made = tmp_path / "new" / "top"
    status = (made / "file").stat()
    assert (status.st_mode & 0o7777, status.st_mtime, status.st_nlink) == (0o4711, 1000, 2)
    assert (made / "second").stat().st_ino == status.st_ino
    assert os.readlink(made / "link") == "../anywhere"
    assert (made / "fifo").is_fifo()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "a/.."])
def test_names_do_not_climb(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(Forbidden):
        put(tmp_path / "in", archive((name, b"evil")))
    assert look(tmp_path) == {"in": {}}


def test_absolute_names_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    put(tmp_path / "in", archive((f"{tmp_path}/x", b"tame")))
    assert look(tmp_path / "in" / str(tmp_path).lstrip("/")) == {"x": b"tame"}
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("target", ["{out}", "../out", "../../../../../../../../{out}"])
def test_a_link_of_the_archive_itself_does_not_lead_out(tmp_path: Path, target: str) -> None:
    out, inside = tmp_path / "out", tmp_path / "in"
    out.mkdir()
    inside.mkdir()
    link = target.format(out=out)
    with pytest.raises((OSError, Forbidden)):
        put(inside, archive(("link", (tarfile.SYMTYPE, link)), ("link/evil", b"evil")))
    assert look(out) == {}


def test_a_link_that_is_there_leads_where_it_leads_inside(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "link").symlink_to("/etc")
    put(tmp_path, archive(("x", b"1")), where="/link")
    assert look(tmp_path / "etc") == {"x": b"1"}


def test_hard_links_do_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    for target in ("../secret", "up/secret"):
        with pytest.raises((OSError, Forbidden)):
            put(tmp_path / "in", archive(("got", (tarfile.LNKTYPE, target))))
    assert not (tmp_path / "in" / "got").exists()


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "name").symlink_to("/victim")
    put(tmp_path / "in", archive(("name", b"new")))
    assert (tmp_path / "in" / "name").read_bytes() == b"new"
    assert not (tmp_path / "in" / "name").is_symlink()
    assert (tmp_path / "victim").read_text() == "untouched"


def test_directories_are_merged_and_kinds_kept_if_wanted(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_text("o")
    put(tmp_path, archive(("d", None), ("d/new", b"n")), keep_kind=True)
    assert look(tmp_path / "d") == {"old": b"o", "new": b"n"}
    with pytest.raises(InvalidParameter, match="cannot overwrite directory 'd' with non-directory"):
        put(tmp_path, archive(("d", b"file")), keep_kind=True)
    with pytest.raises(InvalidParameter, match="cannot overwrite non-directory 'old'"):
        put(tmp_path, archive(("d/old", None)), keep_kind=True)
    put(tmp_path, archive(("d", b"file")))
    assert look(tmp_path) == {"d": b"file"}


def test_devices_are_refused_and_so_is_what_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="devices are not copied"):
        put(tmp_path, archive(("null", (tarfile.CHRTYPE, ""))))
    with pytest.raises(InvalidParameter, match="not a tar archive"):
        put(tmp_path, io.BytesIO(b"nonsense" * 200))
    whole = archive(("f", b"x" * 5000)).getvalue()
    with pytest.raises(InvalidParameter, match="not a tar archive"):
        put(tmp_path, io.BytesIO(whole[:2000]))


def test_rename(tmp_path: Path) -> None:
    made = archive(("top", None), ("top/a", b"1"), ("top/b", (tarfile.LNKTYPE, "top/a")))
    put(tmp_path, made, rename=lambda parts: ["other", *parts[1:]])
    assert look(tmp_path) == {"other": {"a": b"1", "b": b"1"}}


def test_a_file_that_shrinks_while_it_is_packed_does_not_spoil_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    real = os.fstat
    monkeypatch.setattr(
        "minidock.transfer.os.fstat",
        lambda fd: _longer(real(fd)),
    )
    with tarfile.open(fileobj=packed(tmp_path / "file")) as made:
        file = made.extractfile("file")
        assert file is not None and file.read() == b"x" * 1000 + b"\0" * 24


def _longer(status: os.stat_result) -> os.stat_result:
    values = list(status)
    values[6] += 24
    return os.stat_result(values)
