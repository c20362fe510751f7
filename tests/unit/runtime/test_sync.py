"""Errors that cross from one process to another as what they were; programs that can be found."""

import errno
import os
from pathlib import Path

import pytest

from minidock import errors
from minidock.errors import CommandNotExecutable, CommandNotFound, MiniDockError
from minidock.runtime.process import find_program, path_of
from minidock.runtime.sync import describe, pair, rebuild
from minidock.spec.runtime import Process

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MiniDockError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_as_itself(kind: type[MiniDockError]) -> None:
    back = rebuild(describe(kind("the words")))
    assert type(back) is kind and str(back) == "the words"


def test_an_os_error_keeps_its_number_and_its_words() -> None:
    back = rebuild(describe(OSError(errno.EBUSY, "mount(2) x: busy")))
    assert (
        isinstance(back, OSError) and back.errno == errno.EBUSY and "mount(2) x: busy" in str(back)
    )


def test_a_bug_is_told_too() -> None:
    assert "KeyError" in describe(KeyError())["message"]
    assert isinstance(rebuild(describe(ZeroDivisionError("oh"))), Exception)


def test_messages_stay_apart_and_descriptors_travel() -> None:
    ours, theirs = pair()
    reads, writes = os.pipe()
    ours.send({"n": 1}, [writes])
    ours.send({"n": 2})
    ours.close()
    os.close(writes)
    message, (received,) = theirs.receive()
    os.write(received, b"x")
    os.close(received)
    assert message == {"n": 1} and os.read(reads, 10) == b"x" and os.read(reads, 10) == b""
    assert theirs.receive() == ({"n": 2}, [])
    assert theirs.receive() == (None, [])
    theirs.close()
    os.close(reads)


# %% Finding the program
def test_find_program(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for directory in (first, second):
        directory.mkdir()
    (first / "prog").write_text("")
    (second / "prog").write_text("")
    (second / "prog").chmod(0o755)
    (first / "dir").mkdir()
    assert find_program("prog", f"{first}:{second}") == str(second / "prog")
    with pytest.raises(CommandNotFound, match='exec: "nope": executable file not found in \\$PATH'):
        find_program("nope", f"{first}:{second}")
    with pytest.raises(CommandNotFound, match="no such file or directory"):
        find_program(str(first / "nope"), "")
    with pytest.raises(CommandNotExecutable, match="permission denied"):
        find_program(str(first / "prog"), "")
    with pytest.raises(CommandNotExecutable, match="is a directory"):
        find_program(str(first / "dir"), "")


def test_the_last_path_counts() -> None:
    process = Process(cwd="/", args=("x",), env=("PATH=/a", "B=c", "PATH=/b"))
    assert path_of(process) == "/b"
    assert path_of(Process(cwd="/", args=("x",), env=())) == ""
