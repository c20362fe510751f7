"""Manifests, tags, and looking around.

**Interface:** the handlers.

**See:** OCI distribution specification, "Pulling manifests", "Pushing
Manifests", "Content Discovery", "Content Management".
"""

from minidock.registry.codes import RegistryError
from minidock.registry.server_call import Call, created, page, unchanged
from minidock.registry.storage import check_digest, check_tag
from minidock.registry.storage_manifests import LARGEST_MANIFEST
from minidock.server import Response
from minidock.spec import image

MOST = 1000  # names on a page where none is asked for


# %% Manifests
def get(call: Call, name: str, reference: str) -> Response:
    """GET and HEAD: by tag or digest, the bytes as they came."""
    repository = call.repository(name)
    entry = call.stores.manifests.find(repository, reference)
    known = unchanged(call.request, entry.digest)
    if known is not None:
        return known
    file = open(repository.path(entry.digest), "rb")  # noqa: SIM115 (closed when it has been sent)
    headers = {"Docker-Content-Digest": entry.digest, "ETag": f'"{entry.digest}"'}
    return Response(
        200, file=file, part=range(entry.size), content_type=entry.media_type, headers=headers
    )


def put(call: Call, name: str, reference: str) -> Response:
    """PUT: by tag, or by digest with as many ``tag`` as one likes."""
    by_digest = ":" in reference
    tags = call.request.values("tag") if by_digest else []
    for tag in tags if by_digest else [reference]:
        check_tag(tag)
    digest = check_digest(reference) if by_digest else ""
    length = call.request.headers.get("content-length", "0")
    data = b"" if int(length) > LARGEST_MANIFEST else call.request.body.read(LARGEST_MANIFEST + 1)
    if int(length) > LARGEST_MANIFEST or len(data) > LARGEST_MANIFEST:
        message = f"the manifest has more than {LARGEST_MANIFEST} bytes"
        raise RegistryError("SIZE_INVALID", message, status=413)
    kind = call.request.headers.get("content-type", "").partition(";")[0].strip()
    entry, manifest = call.stores.manifests.push(
        call.repository(name), data, kind, digest, tags or ([] if by_digest else [reference])
    )
    headers = {"OCI-Tag": ", ".join(tags)} if tags else {}
    if manifest.subject is not None:
        headers["OCI-Subject"] = manifest.subject
    return created(f"/v2/{name}/manifests/{entry.digest}", entry.digest, **headers)


def delete(call: Call, name: str, reference: str) -> Response:
    """DELETE: a tag, or a manifest with all its tags."""
    call.stores.manifests.delete(call.repository(name), reference)
    return Response(202)


# %% Looking around
def tags(call: Call, name: str) -> Response:
    """GET: the tags of a repository."""
    repository = call.repository(name)
    if not repository.exists():
        raise RegistryError("NAME_UNKNOWN", "repository name not known to registry", {"name": name})
    names, headers = page(call.request, sorted(call.stores.manifests.index(repository).tags))
    return Response(json={"name": name, "tags": list(names)}, headers=headers)


def referrers(call: Call, name: str, digest: str) -> Response:
    """GET: the manifests that are about this one, as an image index."""
    found = call.stores.manifests.referrers(call.repository(name), check_digest(digest))
    headers = {}
    kind = call.request.query.get("artifactType")
    if kind is not None:
        found = [one for one in found if one.get("artifactType") == kind]
        headers["OCI-Filters-Applied"] = "artifactType"
    shown, link = page(call.request, [one["digest"] for one in found], MOST)
    manifests = [one for one in found if one["digest"] in set(shown)]
    index = {"schemaVersion": 2, "mediaType": image.INDEX, "manifests": manifests}
    return Response(json=index, content_type=image.INDEX, headers={**headers, **link})


def catalog(call: Call) -> Response:
    """GET: the repositories that the caller may read. Docker's registry has it, the specification not."""
    names = [
        name
        for name in call.stores.storage.names()
        if call.may_read(name) and call.stores.manifests.index(call.repository(name)).digests
    ]
    shown, headers = page(call.request, names, MOST)
    return Response(json={"repositories": list(shown)}, headers=headers)
