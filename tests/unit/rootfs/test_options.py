"""Mount options: what the kernel is asked for, word by word."""

import pytest

from minidock.linux.mountapi import Attribute
from minidock.linux.syscalls import Mount
from minidock.rootfs.options import Options


def test_flags_propagation_and_data() -> None:
    options = Options(["nosuid", "ro", "rw", "rprivate", "shared", "size=1k", "mode=755"])
    assert options.flags == Mount.NOSUID
    assert options.propagation == [Mount.PRIVATE | Mount.REC, Mount.SHARED]
    assert options.data == "size=1k,mode=755"


def test_what_is_not_spoken_of_stays() -> None:
    assert not Options(["bind"]).change
    assert (Options(["rw"]).change.on, Options(["rw"]).change.off) == (0, Attribute.RDONLY)


@pytest.mark.parametrize(
    ("words", "on", "off"),
    [
        (["ro"], Attribute.RDONLY, 0),
        (["ro", "rw"], 0, Attribute.RDONLY),
        (["rw", "ro"], Attribute.RDONLY, 0),
        (["noatime"], Attribute.NOATIME, Attribute.ATIME),
        (["noatime", "strictatime"], Attribute.STRICTATIME, Attribute.ATIME),
        (["noatime", "relatime"], 0, Attribute.ATIME),
    ],
)
def test_the_last_word_counts(words: list[str], on: int, off: int) -> None:
    change = Options(words).change
    assert change.on == on
    assert change.off & ~change.on == off & ~on


def test_recursive_words_are_kept_apart() -> None:
    options = Options(["rbind", "ro", "rnosuid", "ridmap"])
    assert options.recursive and options.idmap == "ridmap"
    assert options.change.on == Attribute.RDONLY
    assert options.everywhere.on == Attribute.NOSUID
