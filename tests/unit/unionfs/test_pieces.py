"""The pieces of the union file systems that need no root: options, times, maps, comparing, choosing."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from minidock.errors import HostileArchive, InvalidParameter, NotSupported
from minidock.unionfs.choice import BEST_FIRST, DRIVERS, backing, choose, load
from minidock.unionfs.dress import check, times
from minidock.unionfs.options import Limits, limits, read_options, size_of
from minidock.unionfs.pack import order
from minidock.unionfs.stream import Forward, reading
from minidock.unionfs.whole import compare


# %% Options
@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("4k", 4096), ("2GB", 2 << 30), (" 1t ", 1 << 40), ("3M", 3 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text, "x") == size


@pytest.mark.parametrize("text", ["", "0", "k", "-1", "1.5g", "²", "1x", "g1"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid storage option 'layer.size="):
        size_of(text, f"layer.size={text}")


def test_limits_are_those_that_were_set_and_the_standard_else() -> None:
    found = read_options(["layer.entries=7"], frozenset({"layer.entries"}))
    assert limits(found) == Limits(entries=7)
    with pytest.raises(
        InvalidParameter, match=r"unknown storage option 'dm.x' \(this driver has: a, b\)"
    ):
        read_options(["dm.x=1"], frozenset("ab"))


# %% Times and owners
def entry(**what: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo("x")
    for key, value in what.items():
        setattr(member, key, value)
    return member


@pytest.mark.parametrize(
    ("header", "plain", "moment"),
    [
        ("", 12, 12 * 10**9),
        ("1.000000001", 1.000000001, 10**9 + 1),
        ("1700000000.123456789123", 0, 1700000000123456789),
        ("5.", 0, 5 * 10**9),
        ("nan", float("nan"), 0),
        ("inf", float("inf"), 0),
        ("-3", -3, 0),
        ("", -3, 0),
        ("", 1 << 70, 0),
    ],
)
def test_times(header: str, plain: float, moment: int) -> None:
    member = entry(mtime=plain, pax_headers={"mtime": header} if header else {})
    assert times(member) == (moment, moment)


@pytest.mark.parametrize("what", [{"uid": -1}, {"gid": (1 << 32) - 1}, {"size": -1},
                                  {"pax_headers": {"SCHILY.xattr.trusted.x": "y"}}])  # fmt: skip
def test_what_no_entry_may_say(what: dict[str, object]) -> None:
    check(entry(uid=(1 << 32) - 2, pax_headers={"SCHILY.xattr.user.x": "y"}))
    with pytest.raises(HostileArchive, match="entry 'x'"):
        check(entry(**what))


# %% Reading
def test_whatever_tarfile_stumbles_over_is_a_hostile_archive() -> None:
    for error in (ValueError("v"), OverflowError("o"), KeyError("k"), EOFError(), RecursionError()):
        with (
            pytest.raises(HostileArchive, match="damaged archive"),
            reading(io.BytesIO(bytes(1024))),
        ):
            raise error


def test_a_stream_goes_only_forward() -> None:
    stream = Forward(io.BytesIO(b"0123456789"))
    assert stream.read(2) == b"01"
    stream.seek(5)
    assert (stream.tell(), stream.read(100)) == (5, b"56789")
    with pytest.raises(HostileArchive, match="ends within an entry"):
        stream.seek(11)
    with pytest.raises(HostileArchive, match="a header of"):
        stream.read(1 << 21)


# %% Comparing
def test_names_are_sorted_so_that_a_directory_is_followed_by_its_content() -> None:
    assert sorted(["a.b", "a/x", "a", "b"], key=order) == ["a", "a/x", "a.b", "b"]


def test_comparing_does_not_follow_links_out_of_the_tree(tmp_path: Path) -> None:
    layer, own, host = tmp_path / "layer", tmp_path / "own", tmp_path / "host"
    for place in (layer / "d" / "sub", own, host / "sub"):
        place.mkdir(parents=True)
    (layer / "d/sub/x").write_text("")
    (own / "d").symlink_to(host)
    assert [(one.kind, one.path) for one in compare(layer, own)] == [("C", "/d")]
    (own / "d").unlink()
    (own / "d/sub").mkdir(parents=True)
    (own / "d/.wh.x").write_text("no layer can hold this name")
    for name in ("d/sub", "d"):
        os.utime(own / name, ns=(1, (layer / name).stat().st_mtime_ns))
    assert [(one.kind, one.path) for one in compare(layer, own)] == [
        ("C", "/d"), ("C", "/d/sub"), ("D", "/d/sub/x"),
    ]  # fmt: skip


# %% Choosing
def test_every_driver_has_the_name_by_which_it_is_chosen() -> None:
    assert {name: load(name).name for name in DRIVERS} == {name: name for name in DRIVERS}
    assert set(BEST_FIRST) == set(DRIVERS) - {"devicemapper"}


def test_drivers_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="aufs"):
        choose("aufs", tmp_path)
    with pytest.raises(InvalidParameter, match="'nfs'"):
        choose("nfs", tmp_path)


def test_the_file_system_below(tmp_path: Path) -> None:
    assert backing(Path("/proc")) == "proc"
    assert backing(tmp_path) not in ("", "<unknown>", "proc")
