"""Compression: which kind it is, by the first bytes, and a file that inflates.

**Interface:** :func:`inflated`.

The standard library knows gzip, bzip2 and xz; for zstd the program of that
name does it. The trap is a stream that cannot be rewound: the first bytes
have been read to look at them, and must be given back.

**See:** RFC 1952 (gzip), RFC 8878 (zstd).
"""

import bz2
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from threading import Thread
from typing import Any, BinaryIO, cast

from minidock.errors import HostileArchive, Unavailable

PIECE = 256 * 1024

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


# %% A file whose beginning has been looked at
class Peeked:
    """``beginning``, then the rest of ``file``."""

    def __init__(self, beginning: bytes, file: Any) -> None:
        self._beginning = beginning
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes or fewer; fewer only at the end or once, after the beginning."""
        if not self._beginning:
            data: bytes = self._file.read(size)
            return data
        if size < 0:
            head, self._beginning = self._beginning, b""
            return head + bytes(self._file.read())
        head, self._beginning = self._beginning[:size], self._beginning[size:]
        return head + (self._file.read(size - len(head)) if size > len(head) else b"")

    def readable(self) -> bool:
        """Yes."""
        return True


class Plain:
    """What is inside; ``suffix`` is what OCI adds to the media type of a layer of this kind."""

    def __init__(self, file: Any, suffix: str) -> None:
        self._file = file
        self.suffix = suffix

    def read(self, size: int = -1) -> bytes:
        """Inflated bytes. Raises :class:`HostileArchive` for damaged ones."""
        try:
            data: bytes = self._file.read(size)
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise HostileArchive(f"damaged archive: {error}") from None
        return data


# %% Inflating
@contextmanager
def inflated(file: Any) -> Iterator[Plain]:
    """``file`` without its compression, if it has one."""
    beginning = b""
    while len(beginning) < 6 and (more := file.read(6 - len(beginning))):
        beginning += more
    kind = next((name for magic, name in MAGIC.items() if beginning.startswith(magic)), "")
    peeked = Peeked(beginning, file)
    if kind == "gzip":
        yield Plain(Gunzip(peeked), "+gzip")
    elif kind == "bzip2":
        with bz2.BZ2File(cast(BinaryIO, peeked)) as plain2:
            yield Plain(plain2, "+bzip2")
    elif kind == "xz":
        with lzma.LZMAFile(cast(BinaryIO, peeked)) as plain3:
            yield Plain(plain3, "+xz")
    elif kind == "zstd":
        with _zstd(peeked) as plain4:
            yield Plain(plain4, "+zstd")
    else:
        yield Plain(peeked, "")


class Gunzip:
    """gzip in large pieces: the standard library's module asks for 8 KiB at a time.

    A file may consist of several parts, one after the other (RFC 1952, 2.2).
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(wbits=31)
        self._waiting = b""

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, but some unless it is the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(PIECE), b""))
        while True:
            data = self._waiting or self._file.read(PIECE)
            if self._inflater.eof:
                if not data:
                    return b""
                self._inflater = zlib.decompressobj(wbits=31)
            elif not data:
                raise HostileArchive("damaged archive: the compressed data end too early")
            plain = self._inflater.decompress(data, size)
            self._waiting = self._inflater.unconsumed_tail or self._inflater.unused_data
            if plain:
                return plain


# %% Reading ahead
class Ahead:
    """A file that a thread reads ahead: inflating and hashing on one core, extracting on another."""

    def __init__(self, file: Any, depth: int = 16) -> None:
        self._file = file
        self._queue: Queue[bytes | BaseException] = Queue(depth)
        self._data = memoryview(b"")
        self._over = False
        self._stop = False
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        data: bytes | BaseException = b"?"
        while data and not isinstance(data, BaseException) and not self._stop:
            try:
                data = self._file.read(PIECE)
            except BaseException as error:  # noqa: BLE001 (raised again in the reading thread)
                data = error
            self._queue.put(data)

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes, or fewer at the end."""
        pieces = []
        while size and (self._data or self._fetch()):
            piece = self._data if size < 0 else self._data[:size]
            self._data = self._data[len(piece) :]
            pieces.append(bytes(piece))
            size -= len(piece) if size > 0 else 0
        return b"".join(pieces)

    def _fetch(self) -> bool:
        if not self._over:
            data = self._queue.get()
            if isinstance(data, BaseException):
                self._over = True
                raise data
            self._over = not data
            self._data = memoryview(data)
        return not self._over

    def close(self) -> None:
        """Let the thread end, whatever it is at."""
        self._stop = True
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.01)
            except Empty:
                continue


# %% zstd, which another program knows
@contextmanager
def _zstd(source: Any) -> Iterator[BinaryIO]:
    """zstd(1) as a filter; a thread feeds it."""
    if shutil.which("zstd") is None:
        raise Unavailable("the archive is compressed by zstd: apt-get install zstd")
    process = subprocess.Popen(
        ["zstd", "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None and process.stdout is not None

    def feed() -> None:
        assert process.stdin is not None
        try:
            shutil.copyfileobj(source, process.stdin, 1 << 20)
            process.stdin.close()
        except BrokenPipeError:
            pass  # zstd has seen enough, and says why by its status

    feeder = Thread(target=feed, daemon=True)
    feeder.start()
    try:
        yield _Checked(process)  # type: ignore[misc]
    finally:
        process.kill()
        process.wait()
        feeder.join()
        process.stdout.close()


class _Checked:
    """The output of a process that must end well."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def read(self, size: int = -1) -> bytes:
        """Its output."""
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if not data and size != 0 and self._process.wait() != 0:
            raise HostileArchive("damaged archive: zstd cannot inflate it")
        return data
