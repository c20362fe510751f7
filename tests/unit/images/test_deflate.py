"""Parallel gzip: what comes out is what went in, always by the same bytes."""

import gzip
import io
import os
import subprocess
import zlib

import pytest

from minidock.images.deflate import PIECE, WINDOW, deflate


class Slow(io.BytesIO):
    """Gives less than it is asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 70_001))


TEXT = b"".join(b"line %d of a text that repeats itself\n" % (n % 4000) for n in range(70_000))


@pytest.mark.parametrize("size", [0, 1, WINDOW, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, len(TEXT)])
def test_there_and_back(size: int) -> None:
    data = TEXT[:size]
    packed = b"".join(deflate(Slow(data)))
    assert gzip.decompress(packed) == data
    assert packed == b"".join(deflate(io.BytesIO(data)))


def test_gzip_itself_believes_it() -> None:
    packed = b"".join(deflate(io.BytesIO(TEXT)))
    assert subprocess.run(["gzip", "-t"], input=packed, check=False).returncode == 0


def test_the_cuts_cost_little() -> None:
    whole = len(zlib.compress(TEXT, 1))
    assert len(b"".join(deflate(io.BytesIO(TEXT), 1))) < whole * 1.03 + 100


def test_memory_does_not_grow() -> None:
    """What is read ahead is bounded by the number of processors, not by the file."""

    class Counting(io.BytesIO):
        given = 0

        def read(self, size: int | None = -1) -> bytes:
            data = bytes(size or 0) if self.given < 200 * PIECE else b""
            self.given += len(data)
            return data

    source, taken = Counting(), 0
    for piece in deflate(source):
        taken += bool(piece)
        assert source.given // PIECE <= taken + 2 * (os.cpu_count() or 1) + 3
