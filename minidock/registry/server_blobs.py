"""Blobs: the way out and the way in.

Out: a file, or a part of it, copied by the kernel to the socket. In: an
*upload* is begun by POST, which answers with an address; PATCH adds to it,
in one piece or in many; PUT ends it and says what the digest should be. One
POST can do it all, or none of it, if another repository has the blob.

The traps. Parts have to come in order, and who has lost count may ask (GET).
A range that ends before it begins is not satisfiable. A blob may be taken
from another repository only by who may read that one, and even the answer
that it is there would tell something. And a manifest is stored as a blob,
but must not be deleted as one: its index would go on naming it.

**Interface:** the handlers.

**See:** OCI distribution specification, "Pulling blobs", "Pushing blobs";
RFC 9110, section 14 (ranges).
"""

import hashlib
import os
import re

from minidock.registry.codes import RegistryError
from minidock.registry.server_call import Call, created, unchanged
from minidock.registry.storage import ALGORITHMS, check_digest
from minidock.registry.storage_uploads import Upload
from minidock.server import Request, Response

OCTETS = "application/octet-stream"
EMPTY = {f"{algorithm}:{hashlib.new(algorithm).hexdigest()}" for algorithm in ALGORITHMS}


# %% Ranges
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/(?:\d+|\*))?", re.ASCII)


def asked(header: str, size: int) -> range | None:
    """The part that ``Range`` asks for of ``size`` bytes; None for all of it.

    Several parts at once are answered with all of it, as RFC 9110 allows.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first:
        part = range(int(first), min(int(last), size - 1) + 1 if last else size)
    else:
        part = range(max(0, size - int(last)), size)
    if not part or part.start >= size:
        headers = {"Content-Range": f"bytes */{size}"}
        message = f"no such range: there are {size} bytes"
        raise RegistryError("SIZE_INVALID", message, status=416, headers=headers)
    return part


def sent(request: Request) -> range | None:
    """The part that ``Content-Range`` says is sent; None when it says nothing."""
    header = request.headers.get("content-range")
    if header is None:
        return None
    match = _CONTENT_RANGE.fullmatch(header)
    if match is None or int(match[2]) < int(match[1]):
        message = f"bad Content-Range: {header[:80]}: want FIRST-LAST"
        raise RegistryError("BLOB_UPLOAD_INVALID", message)
    span = range(int(match[1]), int(match[2]) + 1)
    length = request.headers.get("content-length")
    if length is not None and int(length) != len(span):
        message = f"Content-Range is of {len(span)} bytes, Content-Length of {length}"
        raise RegistryError("SIZE_INVALID", message)
    return span


# %% Out
def get(call: Call, name: str, digest: str) -> Response:
    """GET and HEAD: the blob. Who asks by HEAD may be about to count on it."""
    path = call.repository(name).path(digest)
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed when it has been sent)
    except FileNotFoundError:
        raise RegistryError(
            "BLOB_UNKNOWN", "blob unknown to registry", {"digest": digest}
        ) from None
    headers = {
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000, immutable",
    }
    whole = range(os.fstat(file.fileno()).st_size)
    try:
        known = unchanged(call.request, digest)
        part = asked(call.request.headers.get("range", ""), len(whole)) if known is None else None
    except RegistryError:
        file.close()
        raise
    if known is not None:
        file.close()
        return known
    if part is None:
        return Response(200, file=file, part=whole, content_type=OCTETS, headers=headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(whole)}"
    return Response(206, file=file, part=part, content_type=OCTETS, headers=headers)


def head(call: Call, name: str, digest: str) -> Response:
    """HEAD: whether the blob is here; if so, it will be for a while."""
    if not call.stores.read_only:
        call.repository(name).renew(digest)
    return get(call, name, digest)


def delete(call: Call, name: str, digest: str) -> Response:
    """DELETE: this repository has it no more."""
    repository = call.repository(name)
    if digest in call.stores.manifests.index(repository).digests:
        message = "this is a manifest: delete it as one"
        raise RegistryError("UNSUPPORTED", message, {"digest": digest})
    if not repository.remove(digest):
        raise RegistryError("BLOB_UNKNOWN", "blob unknown to registry", {"digest": digest})
    return Response(202)


# %% In
def start(call: Call, name: str) -> Response:
    """POST: begin an upload; with ``digest`` and a body, do all of it; with ``mount``, perhaps nothing."""
    query, request = call.request.query, call.request
    repository = call.repository(name)
    if "mount" in query and _mount(call, name, query["mount"], query.get("from")):
        return created(f"/v2/{name}/blobs/{query['mount']}", query["mount"])
    digest = query.get("digest")
    algorithm = query.get("digest-algorithm", "sha256")
    if digest is None:
        return _status(call.stores.uploads.start(repository, algorithm), 202)
    upload = call.stores.uploads.start(repository, check_digest(digest).partition(":")[0])
    if not upload.append(request.body, None) and digest not in EMPTY:
        return _status(upload, 202)  # nothing came: it will be sent by PUT
    return _finish(upload, digest)


def _mount(call: Call, name: str, digest: str, source: str | None) -> bool:
    """Whether the blob could be had from ``source``, or, without one, from any that may be read."""
    check_digest(digest)
    storage = call.stores.storage
    for other in [source] if source else storage.names():
        if call.may_read(other):
            path = storage.repository(other).path(digest)
            if path.exists() and storage.repository(name).link(path, digest):
                return True
    return False


# %% Uploads, request by request
def append(call: Call, name: str, uuid: str) -> Response:
    """PATCH: the next part."""
    upload = call.stores.uploads.find(call.repository(name), uuid)
    _append(call, upload)
    return _status(upload, 202)


def _append(call: Call, upload: Upload) -> None:
    try:
        upload.append(call.request.body, sent(call.request))
    except RegistryError as refused:
        if refused.status == 416:  # so that the client knows where we are
            refused.headers |= _headers(upload)
        raise


def finish(call: Call, name: str, uuid: str) -> Response:
    """PUT: the last part, if any, and the digest of the whole."""
    upload = call.stores.uploads.find(call.repository(name), uuid)
    digest = check_digest(call.request.query.get("digest", ""))
    _append(call, upload)
    return _finish(upload, digest)


def _finish(upload: Upload, digest: str) -> Response:
    upload.finish(digest)
    return created(f"/v2/{upload.repository.name}/blobs/{digest}", digest)


def status(call: Call, name: str, uuid: str) -> Response:
    """GET: how far the upload is."""
    return _status(call.stores.uploads.find(call.repository(name), uuid), 204)


def _status(upload: Upload, status: int) -> Response:
    return Response(status, headers=_headers(upload))


def _headers(upload: Upload) -> dict[str, str]:
    """Where to go on, and the last byte that came: 0 also if none did, which no number can say."""
    return {
        "Location": f"/v2/{upload.repository.name}/blobs/uploads/{upload.uuid}",
        "Range": f"0-{max(0, upload.size() - 1)}",
        "Docker-Upload-UUID": upload.uuid,
    }


def cancel(call: Call, name: str, uuid: str) -> Response:
    """DELETE: forget the upload."""
    call.stores.uploads.find(call.repository(name), uuid).cancel()
    return Response(204)
