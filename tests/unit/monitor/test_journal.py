"""The log and its index: whatever was written comes back, and a crash costs at most the last record."""

import os
import struct
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from minidock.monitor.journal import INDEX, LOG, Reader, Writer, open_files

PIECES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=200)), max_size=20)


def write(directory: Path, pieces: list[tuple[int, bytes]]) -> None:
    log, index = open_files(directory)
    writer = Writer(log, index)
    for stream, data in pieces:
        writer.write(stream, data)
    os.close(log)
    os.close(index)


def read(directory: Path) -> list[tuple[int, bytes]]:
    return [(chunk.stream, chunk.data) for chunk in Reader(directory).chunks()]


@given(PIECES)
def test_what_was_written_comes_back(pieces: list[tuple[int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), pieces)
        assert read(Path(name)) == pieces
        assert (Path(name) / LOG).read_bytes() == b"".join(data for _, data in pieces)


@given(PIECES, PIECES)
def test_a_reader_goes_on_where_it_was(
    first: list[tuple[int, bytes]], second: list[tuple[int, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        reader = Reader(Path(name))
        assert list(reader.chunks()) == []
        for pieces in (first, second):
            write(Path(name), pieces)
            assert [(c.stream, c.data) for c in reader.chunks()] == pieces


@given(PIECES, st.binary(max_size=50), st.integers(0, 15))
def test_half_a_record_and_bytes_without_one_are_cut_off(
    pieces: list[tuple[int, bytes]], garbage: bytes, half: int
) -> None:
    """A crash between the two writes, or within the second."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write(directory, pieces)
        with open(directory / LOG, "ab") as log, open(directory / INDEX, "ab") as index:
            log.write(garbage)
            index.write(struct.pack("<QIB3x", 1, 5, 1)[:half])
        assert read(directory) == pieces
        write(directory, [(1, b"after")])
        assert read(directory) == [*pieces, (1, b"after")]


def test_times_do_not_go_back() -> None:
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), [(1, b"a"), (2, b"b"), (1, b"c")])
        times = [chunk.time for chunk in Reader(Path(name)).chunks()]
        assert times == sorted(times) and times[0] > 10**18
