"""Manifests and tags: the index of each repository.

A manifest is a blob that names other blobs. What makes it one is an entry in
the repository's ``index.json``, with its media type, and with a tag if it
has one: exactly an OCI image layout. A tag is the only thing in a registry
that changes its meaning; everything else is called by what it is.

The traps. What a manifest names must be there when it is let in, and stay
there: so the look and the entry happen under the lock that the garbage
collector takes. The bytes are kept as they came, for any other would have
another digest. Deleting a tag leaves the manifest, deleting the manifest
takes its tags. And a manifest may have a *subject*, which it is about (a
signature, a list of contents); who asks for the subject's *referrers* wants
all of them, also those pushed before the subject was.

**Interface:** :func:`inspect`, :class:`Manifests`.

**See:** OCI image specification, manifest.md, image-index.md; OCI
distribution specification, "Pushing Manifests", "Listing Referrers".
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidock.errors import MiniDockError
from minidock.paths import read_json, write_json
from minidock.registry.codes import RegistryError
from minidock.registry.storage import INDEX, Repository, check_digest, check_tag, locked
from minidock.spec import image

LARGEST_MANIFEST = 4 << 20  # bytes, as the specification wants at least
ANNOTATION = image.REF_NAME
KNOWN = sorted(image.MANIFESTS | image.INDEXES)
ELSEWHERE = ("nondistributable", "foreign")  # layers that are fetched from their "urls"


# %% What a manifest says
@dataclass(frozen=True, slots=True)
class Manifest:
    """The blobs and the manifests that it names, with their sizes, and its subject's digest.

    ``elsewhere`` are layers that need not be here, as they are fetched from another place.
    """

    media_type: str
    blobs: dict[str, int]
    children: dict[str, int]
    elsewhere: frozenset[str]
    subject: str | None


def inspect(data: bytes, media_type: str = "") -> Manifest:
    """What the manifest ``data`` says; MANIFEST_INVALID for what is none, or of another type."""
    try:
        value = json.loads(data)
        if not isinstance(value, dict) or value.get("schemaVersion") != 2:
            raise _invalid("want a JSON object with schemaVersion 2")
        kind = str(value.get("mediaType") or media_type or _guess(value))
        if kind not in KNOWN:
            raise _invalid(f"unknown media type {kind!r}: want one of {', '.join(KNOWN)}")
        if media_type and media_type != kind:
            raise _invalid(f"Content-Type is {media_type}, but its mediaType {kind}")
        index = kind in image.INDEXES
        named = value["manifests"] if index else [value["config"], *value["layers"]]
        found = dict(_described(one) for one in named if not _is_elsewhere(one))
        away = frozenset(_described(one)[0] for one in named if _is_elsewhere(one))
        subject = value.get("subject")
        about = None if subject is None else _described(subject)[0]
    except RegistryError as refused:
        raise _invalid(str(refused)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _invalid(f"{type(error).__name__}: {error}") from None
    return Manifest(kind, {} if index else found, found if index else {}, away, about)


def _invalid(why: str) -> RegistryError:
    return RegistryError("MANIFEST_INVALID", f"manifest invalid: {why}")


def _guess(value: dict[str, Any]) -> str:
    return image.INDEX if "manifests" in value else image.MANIFEST


def _described(descriptor: Any) -> tuple[str, int]:
    """A descriptor's digest and size."""
    size = descriptor["size"]
    if not isinstance(size, int) or size < 0:
        raise ValueError(f"bad size in a descriptor: {size!r}")
    return check_digest(str(descriptor["digest"])), size


def _is_elsewhere(descriptor: Any) -> bool:
    kind = str(descriptor.get("mediaType", ""))
    return bool(descriptor.get("urls")) or any(word in kind for word in ELSEWHERE)


# %% The index of a repository
@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest in an index."""

    media_type: str
    digest: str
    size: int

    def as_json(self, tag: str | None = None) -> dict[str, Any]:
        """A descriptor; with the annotation that is a name."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        return value if tag is None else {**value, "annotations": {ANNOTATION: tag}}


@dataclass(frozen=True, slots=True)
class Index:
    """All manifests by digest, and those with tags by tag."""

    digests: dict[str, Entry]
    tags: dict[str, Entry]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Index":
        """From an OCI image layout's index; a name in it that can be no tag is passed over."""
        index = cls({}, {})
        for one in value["manifests"]:
            entry = Entry(str(one["mediaType"]), check_digest(str(one["digest"])), int(one["size"]))
            index.digests[entry.digest] = entry
            tag = one.get("annotations", {}).get(ANNOTATION)
            if tag is not None:
                index.tags[tag] = entry
        return index

    def as_json(self) -> dict[str, Any]:
        """As an OCI image layout has it: an entry for each tag, one for what has none."""
        tagged = {entry.digest for entry in self.tags.values()}
        entries = [entry.as_json(tag) for tag, entry in sorted(self.tags.items())]
        entries += [one.as_json() for one in self.digests.values() if one.digest not in tagged]
        return {"schemaVersion": 2, "mediaType": image.INDEX, "manifests": entries}

    def find(self, reference: str) -> Entry | None:
        """By digest or tag."""
        return self.digests.get(reference) if ":" in reference else self.tags.get(reference)


def _stamp(path: Path) -> tuple[int, int]:
    """Another whenever the file has been replaced."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino


# %% All manifests
class Manifests:
    """The manifests of all repositories; remembers indexes and subjects that it has read."""

    def __init__(self) -> None:
        self._indexes: dict[str, tuple[tuple[int, int], Index]] = {}
        self._subjects: dict[str, str | None] = {}

    def index(self, repository: Repository) -> Index:
        """The index as it is on disk; read again only when it has changed."""
        path = repository.directory / INDEX
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            return Index({}, {})
        known = self._indexes.get(repository.name)
        if known is None or known[0] != stamp:
            try:
                known = (stamp, Index.from_json(read_json(path)))
            except (RegistryError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise MiniDockError(f"{path}: damaged: {error!r}") from None
            self._indexes[repository.name] = known
        return known[1]

    @contextmanager
    def changing(self, repository: Repository) -> Iterator[Index]:
        """The index, to be changed, alone with it; written when the block ends well."""
        repository.prepare()
        with locked(repository.lock):
            old = self.index(repository)
            index = Index(dict(old.digests), dict(old.tags))
            yield index
            if index != old:
                path = repository.directory / INDEX
                write_json(path, index.as_json())
                self._indexes[repository.name] = (_stamp(path), index)

    def find(self, repository: Repository, reference: str) -> Entry:
        """By digest or tag; MANIFEST_UNKNOWN."""
        if ":" in reference:
            check_digest(reference)
        entry = self.index(repository).find(reference)
        if entry is None:
            detail = {"name": repository.name, "reference": reference[:140]}
            raise RegistryError("MANIFEST_UNKNOWN", "manifest unknown", detail)
        return entry

    # %% Pushing
    def push(
        self, repository: Repository, data: bytes, media_type: str, digest: str, tags: list[str]
    ) -> tuple[Entry, Manifest]:
        """Let the manifest ``data`` in, under ``digest`` (sha256 if that is empty) and ``tags``."""
        algorithm = check_digest(digest).partition(":")[0] if digest else "sha256"
        found = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if digest and digest != found:
            detail = {"expected": digest, "found": found}
            raise RegistryError("DIGEST_INVALID", "the digest is not that of the manifest", detail)
        manifest = inspect(data, media_type)
        entry = Entry(manifest.media_type, found, len(data))
        self._check(repository, self.index(repository), manifest)
        self._store(repository, data, found)
        with self.changing(repository) as index:
            self._check(repository, index, manifest)
            index.digests[found] = entry
            index.tags.update((check_tag(tag), entry) for tag in tags)
        return entry, manifest

    def _check(self, repository: Repository, index: Index, manifest: Manifest) -> None:
        """All that it names must be here, and as large as it says; else one error tells of all."""
        sizes = {digest: repository.size(digest) for digest in manifest.blobs}
        sizes |= {
            digest: index.digests[digest].size if digest in index.digests else None
            for digest in manifest.children
        }
        missing = [digest for digest, size in sizes.items() if size is None]
        if missing:
            message = f"the manifest names what is not here: {', '.join(missing)}"
            raise RegistryError("MANIFEST_BLOB_UNKNOWN", message, {"digests": missing})
        for digest, announced in {**manifest.blobs, **manifest.children}.items():
            if sizes[digest] != announced:
                message = f"{digest} has {sizes[digest]} bytes, the manifest says {announced}"
                raise RegistryError("SIZE_INVALID", message)

    def _store(self, repository: Repository, data: bytes, digest: str) -> None:
        """The bytes, as they came, are a blob like any other."""
        new = repository.storage.uploads / f".{secrets.token_hex(8)}"
        try:
            with open(new, "xb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            repository.take(new, digest)
        finally:
            new.unlink(missing_ok=True)

    # %% Deleting
    def delete(self, repository: Repository, reference: str) -> None:
        """A tag, and the manifest stays; or a manifest, and all its tags go with it."""
        self.find(repository, reference)
        with self.changing(repository) as index:
            if ":" not in reference:
                index.tags.pop(reference, None)
                return
            index.digests.pop(reference, None)
            for tag in [tag for tag, one in index.tags.items() if one.digest == reference]:
                del index.tags[tag]

    # %% Referrers
    def referrers(self, repository: Repository, subject: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests that are about ``subject``, in the order of their digests."""
        found = []
        for digest, entry in sorted(self.index(repository).digests.items()):
            if self.subject(repository, digest) == check_digest(subject):
                found.append(_referrer(entry, read_json(repository.path(digest))))
        return found

    def subject(self, repository: Repository, digest: str) -> str | None:
        """What the manifest is about. A digest cannot change its mind: asked once."""
        if digest not in self._subjects:
            if len(self._subjects) > 100_000:
                self._subjects.clear()
            value = read_json(repository.path(digest)).get("subject")
            self._subjects[digest] = None if value is None else str(value["digest"])
        return self._subjects[digest]


def _referrer(entry: Entry, manifest: dict[str, Any]) -> dict[str, Any]:
    """Its descriptor, with what the specification wants to know beforehand."""
    kind = manifest.get("artifactType") or manifest.get("config", {}).get("mediaType")
    value = entry.as_json()
    if kind:
        value["artifactType"] = kind
    if manifest.get("annotations"):
        value["annotations"] = manifest["annotations"]
    return value
