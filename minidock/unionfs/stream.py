"""Reading a tar that may be damaged, or made by an enemy.

tarfile was written for archives that one has made oneself. It takes a
damaged header for the end; reads a header as a whole, however long it says
it is; lets numbers be negative; and calls itself once for each extended
header, so that a thousand of them in a row exhaust the interpreter's stack.

The trap: an archive that was cut off must be told from one that its writer
ended without the two blocks of zeros, as some do: the one ends within an
entry, the other between two.

**Interface:** :func:`reading`, :func:`write_content`, :class:`Header`, :class:`Forward`.

**See:** tar(5); moby ``vendor/archive/tar`` for what Docker accepts.
"""

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from minidock.errors import HostileArchive

LARGEST_READ = 1 << 20  # also what Go's archive/tar takes for a header


# %% Opening
@contextmanager
def reading(archive: BinaryIO) -> Iterator[tarfile.TarFile]:
    """The archive, open; whatever tarfile stumbles over is a :class:`HostileArchive`."""
    stream = cast(Any, Forward(archive))
    try:
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=Header) as source:
            yield source
    except (tarfile.TarError, EOFError, ValueError, ArithmeticError, LookupError) as error:
        raise HostileArchive(f"damaged archive: {error}") from None
    except RecursionError:
        raise HostileArchive("damaged archive: one extended header after the other") from None


# %% Where an archive ends
class Header(tarfile.TarInfo):
    """A header that must be whole: tarfile takes a damaged one, or half of one, for the archive's end."""

    @classmethod
    def fromtarfile(cls, source: tarfile.TarFile) -> "Header":
        """As tarfile does it; only a block of zeros, or nothing at all, is an end."""
        try:
            header = super().fromtarfile(source)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise HostileArchive(f"damaged archive: {error}") from None
        if header.size < 0:
            raise HostileArchive(f"damaged archive: {header.name!r} has {header.size} bytes")
        return header


class Forward:
    """A stream that tarfile may treat as a file: where it wants to seek is always ahead.

    tarfile has a mode for streams, which reads in blocks of 10 KiB and copies
    what is left of one for every header; this saves a third of its time.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._place = 0

    def tell(self) -> int:
        """How much has been read."""
        return self._place

    def read(self, size: int) -> bytes:
        """``size`` bytes, or fewer at the end. Raises :class:`HostileArchive` for a header too large.

        tarfile reads a header as a whole, however long it says it is.
        """
        if not 0 <= size <= LARGEST_READ:
            raise HostileArchive(f"damaged archive: a header of {size} bytes")
        data: bytes = self._stream.read(size)
        while len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        if not data and self._place == 0:  # no byte at all: Docker takes it for an empty archive
            data = bytes(size)
        self._place += len(data)
        return data

    def seek(self, place: int) -> None:
        """Go forward to ``place``. Raises :class:`HostileArchive` if the stream ends before it."""
        while self._place < place:
            if not self.read(min(place - self._place, LARGEST_READ)):
                raise HostileArchive("damaged archive: it ends within an entry")


# %% The content of a file
def write_content(source: tarfile.TarFile, member: tarfile.TarInfo, fd: int) -> None:
    """What comes next in the stream, to the open file ``fd``; holes stay holes."""
    stream = source.fileobj
    assert stream is not None
    for start, length in _pieces(member):
        if start:
            os.lseek(fd, start, os.SEEK_SET)
        while length:
            data = stream.read(min(length, LARGEST_READ))
            if not data:
                raise HostileArchive(f"damaged archive: it ends within {member.name!r}")
            length -= len(data)
            while data:  # write(2) may take less, on a disk that is nearly full
                data = data[os.write(fd, data) :]
    if member.issparse():
        os.ftruncate(fd, member.size)


def _pieces(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Where in the file its data goes: all of it in one piece, or as the map of a sparse file says."""
    if not member.issparse():
        return [(0, member.size)]
    pieces = [piece for piece in cast("list[tuple[int, int]]", member.sparse) if piece[1]]
    end = 0
    for start, length in pieces:
        if length < 0 or start < end or start + length > member.size:
            raise HostileArchive(f"damaged archive: the map of {member.name!r} makes no sense")
        end = start + length
    return pieces
