"""Lines from pieces, and what `docker logs` selects of them."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidock.engine.container import Container
from minidock.engine.logs import LONGEST_LINE, Lines, Selection, read
from minidock.monitor import journal
from minidock.monitor.journal import Chunk

TEXT = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"x\ny"]), max_size=6).map(b"".join)


@given(st.lists(st.tuples(st.sampled_from([1, 2]), TEXT), max_size=12))
def test_lines_lose_nothing_and_never_mix_streams(pieces: list[tuple[int, bytes]]) -> None:
    lines = Lines()
    found = [line for n, (s, d) in enumerate(pieces) for line in lines.of(Chunk(n, s, d))]
    left = lines.rest()
    assert all(line.data.endswith(b"\n") and line.data.count(b"\n") == 1 for line in found)
    assert all(b"\n" not in line.data for line in left)
    for stream in (1, 2):
        together = b"".join(line.data for line in [*found, *left] if line.stream == stream)
        assert together == b"".join(data for s, data in pieces if s == stream)


def test_a_line_has_the_time_of_its_beginning() -> None:
    lines = Lines()
    assert list(lines.of(Chunk(1, 1, b"be"))) == []
    done = list(lines.of(Chunk(2, 1, b"gun\nnext\nopen")))
    assert [(line.time, line.data) for line in done] == [(1, b"begun\n"), (2, b"next\n")]
    assert [(line.time, line.data) for line in lines.rest()] == [(2, b"open")]
    assert lines.rest() == []


def test_a_line_that_never_ends_is_given_out_in_time() -> None:
    lines = Lines()
    found = list(lines.of(Chunk(1, 1, b"x" * (LONGEST_LINE + 1))))
    assert len(found) == 1 and len(found[0].data) == LONGEST_LINE + 1


def container(
    directory: Path, pieces: list[tuple[int, bytes]], terminal: bool = False
) -> Container:
    log, index = journal.open_files(directory)
    writer = journal.Writer(log, index)
    for stream, data in pieces:
        writer.write(stream, data)
    record: dict[str, Any] = {"Id": "1" * 64, "Config": {"Tty": terminal}, "HostConfig": {}}
    return Container(directory, record, {"status": "exited"})


PIECES = [(1, b"one\ntw"), (2, b"err\n"), (1, b"o\nthree")]


def shown(made: Container, **wishes: Any) -> list[bytes]:
    return [piece[8:] for piece in read(made, Selection(**wishes)) if piece]


@pytest.mark.parametrize(
    ("wishes", "lines"),
    [
        ({}, [b"one\n", b"err\n", b"two\n", b"three"]),
        ({"tail": 0}, []),
        ({"tail": 1}, [b"three"]),
        ({"tail": 2}, [b"two\n", b"three"]),
        ({"tail": 99}, [b"one\n", b"err\n", b"two\n", b"three"]),
        ({"stderr": False}, [b"one\n", b"two\n", b"three"]),
        ({"stdout": False}, [b"err\n"]),
        ({"stderr": False, "tail": 2}, [b"two\n", b"three"]),
        ({"since": 4e9}, []),
        ({"until": 1.0}, []),
        ({"details": True, "tail": 1}, [b" three"]),
    ],
)
def test_selection(tmp_path: Path, wishes: dict[str, Any], lines: list[bytes]) -> None:
    assert shown(container(tmp_path, PIECES), **wishes) == lines


def test_frames_name_the_stream_and_a_terminal_has_none(tmp_path: Path) -> None:
    made = container(tmp_path, [(1, b"a\n"), (2, b"bc\n")])
    assert list(read(made, Selection())) == [b"\1\0\0\0\0\0\0\2a\n", b"\2\0\0\0\0\0\0\3bc\n"]
    made.record["Config"]["Tty"] = True
    assert b"".join(read(made, Selection())) == b"a\nbc\n"


def test_timestamps_come_before_each_line(tmp_path: Path) -> None:
    made = container(tmp_path, [(1, b"a\nb\n")])
    for line in shown(made, timestamps=True):
        stamp, _, text = line.partition(b" ")
        assert stamp.endswith(b"Z") and b"T" in stamp and text in (b"a\n", b"b\n")
