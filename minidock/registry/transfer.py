"""Moving one blob, in either direction, over a line that may break.

Between the network and what is done with the data lies a file that grows:
one thread writes it, another reads behind it. So a layer is extracted while
it still comes down, and sent while it is still being compressed; memory does
not grow with its size; and whatever happens to the line, the file is what we
have, and the next try goes on from there.

The traps. The end of the data and the end of the line look the same: only
the size and the digest tell. A reader must not learn that a blob is over
before its digest was right. And a server that cannot take up in the middle
sends it all again.

**Interface:** :class:`Growing`, :func:`download`, :func:`upload`.

**See:** RFC 9110, 14 (range requests); OCI distribution specification,
"Pushing a blob in chunks".
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Condition

from minidock import steps
from minidock.errors import HostileArchive, MiniDockError
from minidock.registry.client import Repository
from minidock.registry.transport import ATTEMPTS, BUSY, Cancelled, Unreachable, backoff, pause
from minidock.registry.words import Refused
from minidock.spec.image import Descriptor

PIECE = 256 * 1024

Told = Callable[[int], object]  # how many bytes there are now


# %% A file that grows
class Growing:
    """One thread appends and at last says whether it is good; others read behind it."""

    def __init__(self, path: Path) -> None:
        """``path`` may be there already, with what an earlier try has left."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.path = path
        self.size = os.fstat(self._file).st_size
        self.over = False  # all of it is here, and good
        self._abandoned = False
        self._error: BaseException | None = None
        self._more = Condition()

    def write(self, data: bytes) -> int:
        """Append."""
        if self._abandoned:
            raise Cancelled("what came was of no use")
        rest = memoryview(data)
        while rest:
            rest = rest[os.pwrite(self._file, rest, self.size + len(data) - len(rest)) :]
        with self._more:
            self.size += len(data)
            self._more.notify_all()
        return len(data)

    def finish(self, error: BaseException | None = None) -> None:
        """No more will come; ``error`` is raised in whoever reads."""
        with self._more:
            self.over, self._error = True, error
            self._more.notify_all()

    def abandon(self) -> None:
        """Nobody reads any more: the next piece that is written raises."""
        self._abandoned = True

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def wait(self, position: int) -> int:
        """How many bytes there are behind ``position``; waits for one, 0 at the end."""
        with self._more:
            self._more.wait_for(lambda: self.size > position or self.over)
            if self._error is not None:
                raise self._error
            return self.size - position

    def read_at(self, position: int, size: int) -> bytes:
        """What is there."""
        return os.pread(self._file, size, position)


class Reader:
    """A file object that reads behind the writer of a :class:`Growing`, and tells how far it is."""

    def __init__(self, file: Growing, told: Told, position: int = 0) -> None:
        self._file = file
        self._told = told
        self._position = position

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, at least one but at the end."""
        there = self._file.wait(self._position)
        data = self._file.read_at(self._position, there if size < 0 else min(size, there))
        self._position += len(data)
        self._told(self._position)
        return data

    def pieces(self) -> Iterator[bytes]:
        """All of it, in pieces."""
        while data := self.read(PIECE):
            yield data


# %% Down
def download(repository: Repository, blob: Descriptor, file: Growing, told: Told) -> None:
    """Fetch ``blob`` into ``file``, behind what it has already; then compare the digest.

    What makes no sense raises :class:`HostileArchive`, and the file is of no
    more use. Tells the readers of the file how it ended.
    """
    try:
        with steps.step("download a blob", call="GET", chapter="registry", digest=blob.digest[:19]):
            _download(repository, blob, file, told)
    except BaseException as error:
        file.finish(error)
        raise
    file.finish()


def _download(repository: Repository, blob: Descriptor, file: Growing, told: Told) -> None:
    algorithm, _, expected = blob.digest.partition(":")
    digest = hashlib.new(algorithm)
    for data in _written(file, min(file.size, blob.size)):
        digest.update(data)
    attempt = 0
    while file.size < blob.size:
        before = file.size
        try:
            for data in _rest(repository, blob, file.size):
                file.write(data)
                digest.update(data)
                told(file.size)
            broken = Unreachable(f"{blob.digest}: unexpected EOF after {file.size} bytes")
        except Unreachable as error:
            broken = error
        if file.size < blob.size:
            attempt = 1 if file.size > before else attempt + 1  # a line that moves may break
            if attempt >= ATTEMPTS:
                raise broken
            pause(backoff(attempt), repository.cancel)
    if file.size != blob.size or digest.hexdigest() != expected:
        raise HostileArchive(f"filesystem layer verification failed for digest {blob.digest}")


def _written(file: Growing, size: int) -> Iterator[bytes]:
    position = 0
    while position < size:
        data = file.read_at(position, min(PIECE, size - position))
        position += len(data)
        yield data


def _rest(repository: Repository, blob: Descriptor, start: int) -> Iterator[bytes]:
    """The blob from byte ``start`` on, as far as the line holds; not a byte more than announced."""
    with repository.blob(blob.digest, start) as answer:
        skip = start if answer.status == 200 else 0
        left = blob.size - start + 1  # one more, to see that it is too long
        while left > 0:
            repository.cancel.check()
            data = answer.piece(min(PIECE, left + skip))
            if not data:
                return
            if skip:
                skipped = min(skip, len(data))
                data, skip = data[skipped:], skip - skipped
            left -= len(data)
            if data:
                yield data


# %% Up
def upload(repository: Repository, file: Growing, digest: Callable[[], str], told: Told) -> None:
    """Send what is and will be in ``file``; ``digest`` is asked for at the end.

    A line that breaks is taken up where the server says it is; an upload that
    the server no longer knows begins anew.
    """
    place, start, attempt, best = repository.begin_upload(), 0, 0, 0
    with steps.step("upload a blob", call="PATCH PUT", chapter="registry") as step:
        while True:
            repository.cancel.check()
            try:
                pieces = Reader(file, told, start).pieces()
                place = repository.send_piece(place, start, None, pieces)
                repository.end_upload(place, digest())
                step.details["digest"] = digest()[:19]
                return
            except (Unreachable, Refused) as error:
                if isinstance(error, Refused) and not _passes(error):
                    raise
                attempt += 1
                if attempt >= ATTEMPTS:
                    raise
                pause(backoff(attempt), repository.cancel)
                place, start = _take_up(repository, place)
                attempt = 1 if start > best else attempt
                best = max(best, start)


def _passes(error: Refused) -> bool:
    """Busy, a token that has run out, an upload that was forgotten or is further than we thought."""
    return error.status in (*BUSY, 401, 404, 416) and "DIGEST_INVALID" not in error.codes


def _take_up(repository: Repository, place: str) -> tuple[str, int]:
    try:
        return repository.received(place)
    except MiniDockError as error:
        if isinstance(error, Refused) and error.status in (400, 404, 410):
            return repository.begin_upload(), 0
        raise
