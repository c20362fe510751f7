"""The log of a container: what it wrote, byte for byte, and an index beside it.

Docker's default log is one JSON object per line of output, which costs an
encoding per line and makes the file half again as big. Here ``log`` holds
just the bytes, in the order in which they came, and ``log.index`` one
record of sixteen bytes per read: when, how many, from which stream. Whole
buffers go to disk as they are.

The trap is a crash between the two writes: bytes without a record. The
index is the truth; whoever opens the journal to write cuts the bytes that
no record speaks of. A reader that follows must not read past the index.

**Interface:** :class:`Writer`, :func:`read`, :class:`Chunk`.
"""

import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# %% The two files
LOG, INDEX = "log", "log.index"

_RECORD = struct.Struct("<QIB3x")  # time in nanoseconds, length in bytes, stream

STDOUT, STDERR = 1, 2


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one read gave: ``stream`` is 1 (stdout) or 2 (stderr), ``time`` in nanoseconds."""

    time: int
    stream: int
    data: bytes


# %% Writing
def open_files(directory: Path) -> tuple[int, int]:
    """Descriptors of log and index in ``directory``, in order for :class:`Writer`."""
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    log = os.open(directory / LOG, flags, 0o640)
    index = os.open(directory / INDEX, flags, 0o640)
    _repair(log, index)
    return log, index


def _repair(log: int, index: int) -> None:
    """Cut half a record, and bytes without a record: what a crash may have left."""
    size = os.fstat(index).st_size // _RECORD.size * _RECORD.size
    os.ftruncate(index, size)
    records = os.pread(index, size, 0)
    os.ftruncate(log, sum(length for _, length, _ in _RECORD.iter_unpack(records)))


class Writer:
    """Appends to a journal whose files are open."""

    def __init__(self, log: int, index: int) -> None:
        self._log = log
        self._index = index

    def write(self, stream: int, data: bytes) -> None:
        """Append ``data``, which came from ``stream`` just now."""
        _write_all(self._log, data)
        _write_all(self._index, _RECORD.pack(time.time_ns(), len(data), stream))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# %% Reading
class Reader:
    """Reads the journal in ``directory`` from its beginning, as far as the index goes.

    Call :meth:`chunks` again when the file has grown: it goes on where it was.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._records = 0
        self._offset = 0

    def chunks(self) -> Iterator[Chunk]:
        """What has been written since the last call; nothing if there is no log yet."""
        try:
            index = open(self.directory / INDEX, "rb")  # noqa: SIM115 (two files, one with)
            log = open(self.directory / LOG, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return
        with index, log:
            index.seek(self._records * _RECORD.size)
            log.seek(self._offset)
            while len(record := index.read(_RECORD.size)) == _RECORD.size:
                moment, length, stream = _RECORD.unpack(record)
                self._records += 1
                self._offset += length
                yield Chunk(moment, stream, log.read(length))
