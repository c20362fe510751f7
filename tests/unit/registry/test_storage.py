"""Blobs, uploads and indexes on disk, without HTTP."""

import errno
import hashlib
import io
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidock.registry import storage as storage_module
from minidock.registry.codes import RegistryError
from minidock.registry.storage import Repository, Storage, check_digest, check_name, check_tag
from minidock.registry.storage_manifests import Manifests, inspect
from minidock.registry.storage_uploads import Uploads


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    made = Storage(tmp_path, lease=100)
    made.prepare()
    return made


def put(storage: Storage, repository: Repository, data: bytes) -> str:
    upload = Uploads(storage).start(repository)
    upload.append(io.BytesIO(data), None)  # type: ignore[arg-type]
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    upload.finish(digest)
    return digest


def manifest(**more: object) -> bytes:
    empty = {"digest": f"sha256:{'0' * 64}", "size": 0}
    return json.dumps({"schemaVersion": 2, "config": empty, "layers": [], **more}).encode()


# %% Names
@given(st.text(max_size=300))
def test_what_is_let_in_as_a_name_can_be_a_directory(text: str) -> None:
    for check in (check_name, check_tag, check_digest):
        try:
            accepted = check(text)
        except RegistryError:
            continue
        assert "\0" not in accepted and ".." not in accepted.split("/")
        assert accepted.isascii() and not accepted.startswith((".", "/", "-"))


@given(st.from_regex(storage_module._NAME, fullmatch=True))
def test_names_and_directories_are_one_to_one(name: str) -> None:
    if len(name) <= storage_module.LONGEST_NAME:
        directory = Storage(Path("/x")).repository(check_name(name)).directory
        assert directory.parent == Path("/x/repositories")
        assert directory.name.replace("+", "/") == name


def test_a_repository_may_be_called_as_a_directory_of_another(storage: Storage) -> None:
    for name in ("a", "a/blobs", "a/blobs/sha256", "a/index.json"):
        put(storage, storage.repository(name), b"x")
    assert storage.names() == ["a", "a/blobs", "a/blobs/sha256", "a/index.json"]


# %% Blobs
def test_a_blob_is_stored_once(storage: Storage) -> None:
    one, two = storage.repository("one"), storage.repository("two")
    digest = put(storage, one, b"data")
    assert two.size(digest) is None
    assert put(storage, two, b"data") == digest
    status = one.path(digest).stat()
    assert status.st_ino == two.path(digest).stat().st_ino == storage.pooled(digest).stat().st_ino
    assert (status.st_nlink, status.st_mode & 0o777) == (3, 0o444)
    assert one.remove(digest)
    assert not one.remove(digest)
    assert two.path(digest).read_bytes() == b"data"


def test_when_a_file_has_all_its_links_there_is_a_second(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = storage.repository("one"), storage.repository("two")
    digest = put(storage, one, b"data")
    real = os.link

    def full(source: Path, target: Path) -> None:
        if target == two.path(digest):
            raise OSError(errno.EMLINK, "Too many links")
        real(source, target)

    monkeypatch.setattr(os, "link", full)
    assert two.link(one.path(digest), digest)
    assert two.path(digest).read_bytes() == b"data"
    assert two.path(digest).stat().st_ino != one.path(digest).stat().st_ino


def test_the_pool_may_lose_a_blob_while_it_is_taken(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector comes between ``the pool has it`` and the link to it."""
    old, new = storage.repository("old"), storage.repository("new")
    digest = put(storage, old, b"data")
    old.remove(digest)
    real, collected = os.link, []

    def collector(source: Path, target: Path) -> None:
        if source == storage.pooled(digest) and not collected:
            collected.append(source)
            source.unlink()
        real(source, target)

    monkeypatch.setattr(os, "link", collector)
    put(storage, new, b"data")
    assert collected
    assert new.path(digest).read_bytes() == b"data"


def test_a_lease_is_renewed_when_half_of_it_is_over(storage: Storage) -> None:
    repository = storage.repository("a")
    digest = put(storage, repository, b"data")
    first = repository.path(digest).stat().st_ctime_ns
    assert repository.renew(digest)
    assert repository.path(digest).stat().st_ctime_ns == first
    impatient = Storage(storage.root, lease=0.02).repository("a")
    time.sleep(0.05)
    assert impatient.renew(digest)
    assert repository.path(digest).stat().st_ctime_ns > first
    assert not repository.renew(f"sha256:{'1' * 64}")


# %% Uploads
def test_an_upload_survives_a_restart(storage: Storage) -> None:
    repository, uploads = storage.repository("a"), Uploads(storage)
    upload = uploads.start(repository)
    upload.append(io.BytesIO(b"he"), None)  # type: ignore[arg-type]
    again = Uploads(storage).find(repository, upload.uuid)
    assert again.append(io.BytesIO(b"llo"), range(2, 5)) == 5  # type: ignore[arg-type]
    digest = f"sha512:{hashlib.sha512(b'hello').hexdigest()}"
    again.finish(digest)
    assert repository.path(digest).read_bytes() == b"hello"
    with pytest.raises(RegistryError) as caught:
        upload.append(io.BytesIO(b"x"), None)  # type: ignore[arg-type]
    assert caught.value.code == "BLOB_UPLOAD_UNKNOWN"


def test_one_writer_at_a_time(storage: Storage) -> None:
    uploads = Uploads(storage)
    upload = uploads.start(storage.repository("a"))
    with upload._alone(), pytest.raises(RegistryError) as caught:
        upload.append(io.BytesIO(b"x"), None)  # type: ignore[arg-type]
    assert caught.value.status == 409


def test_uploads_expire_but_not_under_their_writer(storage: Storage) -> None:
    uploads = Uploads(storage)
    old, busy, young = (uploads.start(storage.repository("a")) for _ in range(3))
    for upload in (old, busy):
        os.utime(upload.path, (0, 0))
    (storage.uploads / ".left").write_bytes(b"by a killed push of a manifest")
    os.utime(storage.uploads / ".left", (0, 0))
    with busy._alone():
        assert uploads.expire(50) == 2
    assert not old.path.exists()
    assert busy.path.exists() and young.path.exists()


# %% Manifests
def test_the_index_is_read_again_when_another_process_has_changed_it(storage: Storage) -> None:
    repository = storage.repository("a")
    put(storage, repository, b"")
    mine, theirs = Manifests(), Manifests()
    config = {"digest": f"sha256:{hashlib.sha256(b'').hexdigest()}", "size": 0}
    for tag in ("one", "two"):
        entry, _ = theirs.push(
            repository, manifest(config=config, annotations={"t": tag}), "", "", [tag]
        )
        assert mine.find(repository, tag) == entry
    theirs.delete(repository, "one")
    with pytest.raises(RegistryError):
        mine.find(repository, "one")
    assert len(mine.index(repository).digests) == 2


def test_a_layout_that_somebody_else_made_is_served(storage: Storage) -> None:
    """skopeo and umoci write names with and without annotations, in any order."""
    repository = storage.repository("a")
    data = manifest()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "size": len(data),
    }
    repository.prepare()
    repository.path(digest).write_bytes(data)
    named = {**entry, "annotations": {"org.opencontainers.image.ref.name": "v1", "x": "y"}}
    (repository.directory / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [entry, named]})
    )
    assert Manifests().find(repository, "v1").digest == digest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "subject",
    "digest",
    "size",
]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values) | json_values)
def test_any_json_is_a_manifest_or_refused(value: object) -> None:
    try:
        inspect(json.dumps(value).encode())
    except RegistryError as error:
        assert error.code == "MANIFEST_INVALID"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_refused(data: bytes) -> None:
    with pytest.raises(RegistryError):
        inspect(data)
