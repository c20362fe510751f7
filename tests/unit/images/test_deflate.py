"""Parallel gzip: what comes out is what went in, always by the same bytes, by either compressor."""

import gzip
import io
import os
import subprocess
import zlib
from collections.abc import Iterator

import pytest

from minidock.images.compression import inflated
from minidock.images.deflate import PIECE, deflate
from minidock.linux import libdeflate


@pytest.fixture(params=["libdeflate", "zlib"], autouse=True)
def compressor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """All of this with each."""
    if request.param == "zlib":
        monkeypatch.setattr(libdeflate, "available", lambda: False)
    elif not libdeflate.available():
        pytest.skip("needs Debian's package libdeflate0")
    yield request.param


class Slow(io.BytesIO):
    """Gives less than it is asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 70_001))


TEXT = b"".join(b"line %d of a text that repeats itself\n" % (n % 4000) for n in range(70_000))


@pytest.mark.parametrize("size", [0, 1, 32768, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, len(TEXT)])
def test_there_and_back(size: int) -> None:
    data = TEXT[:size]
    packed = b"".join(deflate(Slow(data)))
    assert gzip.decompress(packed) == data
    with inflated(io.BytesIO(packed)) as plain:
        assert b"".join(iter(lambda: plain.read(70_001), b"")) == data
    assert packed == b"".join(deflate(io.BytesIO(data)))


def test_gzip_itself_believes_it() -> None:
    packed = b"".join(deflate(io.BytesIO(TEXT)))
    assert subprocess.run(["gzip", "-t"], input=packed, check=False).returncode == 0


def test_the_cuts_cost_little() -> None:
    whole = len(zlib.compress(TEXT, 1))
    assert len(b"".join(deflate(io.BytesIO(TEXT)))) < whole * 1.03 + 100


def test_the_number_of_processors_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    many = b"".join(deflate(io.BytesIO(TEXT)))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert b"".join(deflate(io.BytesIO(TEXT))) == many


def test_which_compressor(compressor: str) -> None:
    """The fast one, where it is: the sixth and the last byte of a member's head differ."""
    head = next(iter(deflate(io.BytesIO(TEXT))))[:10]
    assert head[:4] == b"\x1f\x8b\x08\0"
    assert head[4:8] == bytes(4)  # no time, or the digest would change with it
    assert (head[9] == 255) == (compressor == "libdeflate")


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
