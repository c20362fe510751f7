"""What is still arriving: a file for each upload, under a name that nobody can guess.

A client may send a blob in one piece or in many, stop in the middle, ask
how far it got, and go on tomorrow. All that has to be remembered is how
many bytes came: the size of a file. Whoever writes holds a lock on it, so
two cannot write at once, and when it was last written says how old it is.

The trap is the digest. It is computed while the bytes come, so that the
blob need not be read again at its end; but the state of a hash function is
in the memory of this process, and after a restart it is gone. Then the file
is read once more.

**Interface:** :class:`Uploads`, :class:`Upload`.

**See:** OCI distribution specification, "Pushing blobs"; flock(2).
"""

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import Any

from minidock.registry.codes import RegistryError
from minidock.registry.storage import ALGORITHMS, Repository, Storage, check_digest

PIECE = 1 << 20


# %% How far a digest is
@dataclass(slots=True)
class Progress:
    """How far a hash function has come in a file."""

    hashed: int
    state: Any


# %% All uploads
class Uploads:
    """All uploads of a registry, and the digests of those that this process has seen."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.progress: dict[tuple[str, str], Progress] = {}

    def start(self, repository: Repository, algorithm: str = "sha256") -> "Upload":
        """A new upload; ``algorithm`` is that of the digest that will be asked for."""
        if algorithm not in ALGORITHMS:
            known = ", ".join(ALGORITHMS)
            raise RegistryError("DIGEST_INVALID", f"unknown digest algorithm: want one of {known}")
        upload = Upload(self, repository, str(uuid.uuid4()))
        upload.path.parent.mkdir(exist_ok=True)
        upload.path.touch(mode=0o600, exist_ok=False)
        self.progress[upload.uuid, algorithm] = Progress(0, hashlib.new(algorithm))
        return upload

    def find(self, repository: Repository, text: str) -> "Upload":
        """The upload ``text`` of this repository, or BLOB_UPLOAD_UNKNOWN."""
        try:
            upload = Upload(self, repository, str(uuid.UUID(text)))
        except ValueError:
            raise RegistryError(
                "BLOB_UPLOAD_UNKNOWN", "no such upload", {"uuid": text[:80]}
            ) from None
        upload.size()
        return upload

    def forget(self, name: str) -> None:
        """Its hash functions are not needed any more."""
        for algorithm in ALGORITHMS:
            self.progress.pop((name, algorithm), None)

    def expire(self, seconds: float) -> int:
        """Throw away what nobody has written to for so long; returns how many."""
        count = 0
        for path in [*self.storage.uploads.glob("*/*"), *self.storage.uploads.glob(".*")]:
            try:
                if time.time() - path.stat().st_mtime < seconds:
                    continue  # its writer must not meet a lock of ours
                with open(path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if time.time() - path.stat().st_mtime > seconds:
                        path.unlink()
                        self.forget(path.name)
                        count += 1
            except (FileNotFoundError, BlockingIOError):
                continue  # it was finished, or is being written to, at this moment
        return count


# %% One upload
@dataclass(frozen=True, slots=True)
class Upload:
    """A file that grows, one request at a time."""

    uploads: Uploads = field(repr=False)
    repository: Repository
    uuid: str

    @property
    def path(self) -> Path:
        """Where it is."""
        directory = self.repository.name.replace("/", "+")
        return self.repository.storage.uploads / directory / self.uuid

    def size(self) -> int:
        """How many bytes have come; BLOB_UPLOAD_UNKNOWN when it is over."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            raise RegistryError(
                "BLOB_UPLOAD_UNKNOWN", "no such upload", {"uuid": self.uuid}
            ) from None

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """The file, open for writing, and nobody else writing."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            raise RegistryError(
                "BLOB_UPLOAD_UNKNOWN", "no such upload", {"uuid": self.uuid}
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:
                raise RegistryError(
                    "BLOB_UPLOAD_UNKNOWN", "the upload is over", {"uuid": self.uuid}
                )
            yield descriptor
        except BlockingIOError:
            message = "another request is writing to this upload"
            raise RegistryError("BLOB_UPLOAD_INVALID", message, status=409) from None
        finally:
            os.close(descriptor)

    # %% Receiving
    def append(self, body: RawIOBase, span: range | None) -> int:
        """Write what comes; returns the new size.

        ``span`` is what the sender says that it is. What does not begin where
        we are is out of order: 416. A body that breaks off is kept as far as
        it came, for the sender will ask how far that is.
        """
        with self._alone() as file:
            size = os.fstat(file).st_size
            if span is not None and span.start != size:
                message = f"out of order: the next byte is {size}, this begins with {span.start}"
                raise RegistryError("BLOB_UPLOAD_INVALID", message, status=416)
            count = self._receive(file, size, body)
            if span is not None and count != len(span):
                os.ftruncate(file, size)
                message = f"Content-Range is of {len(span)} bytes, {count} came"
                raise RegistryError("SIZE_INVALID", message)
            return size + count

    def _receive(self, file: int, size: int, body: RawIOBase) -> int:
        running = [
            progress
            for algorithm in ALGORITHMS
            if (progress := self.uploads.progress.get((self.uuid, algorithm))) is not None
        ]
        buffer, total = memoryview(bytearray(PIECE)), 0
        while count := body.readinto(buffer):
            view = buffer[:count]
            while view:
                view = view[os.write(file, view) :]
            for progress in running:
                if progress.hashed == size + total:
                    progress.state.update(buffer[:count])
                    progress.hashed += count
            total += count
        return total

    # %% Finishing
    def finish(self, digest: str) -> None:
        """Make it a blob of the repository. DIGEST_INVALID, and it is over, if it is another."""
        algorithm = check_digest(digest).partition(":")[0]
        with self._alone() as file:
            found = f"{algorithm}:{self._digest(file, algorithm)}"
            if found == digest:
                os.fchmod(file, 0o444)  # the same file in every repository: nobody may change it
                os.fsync(file)
                self.repository.take(self.path, digest)
            self.path.unlink()
            self.uploads.forget(self.uuid)
        if found != digest:
            message = "the digest is not that of what was sent"
            raise RegistryError("DIGEST_INVALID", message, {"expected": digest, "found": found})

    def _digest(self, file: int, algorithm: str) -> str:
        size = os.fstat(file).st_size
        progress = self.uploads.progress.get((self.uuid, algorithm))
        if progress is None or progress.hashed != size:
            with open(self.path, "rb") as again:
                return hashlib.file_digest(again, algorithm).hexdigest()
        return str(progress.state.hexdigest())

    def cancel(self) -> None:
        """Throw it away."""
        with self._alone():
            self.path.unlink()
            self.uploads.forget(self.uuid)
