"""The OCI distribution specification, requirement by requirement, against our registry.

Each case of the official conformance suite is here in our own words, so that they run everywhere;
the suite itself is run by test_distribution_suite.py where somebody has built it.
"""

import json
import os
import secrets
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest

from tests.registries import INDEX, MANIFEST, OCTETS, Answer, Registry, digest_of, image, ours

NAME, OTHER = "conformance/one", "conformance/two"
ALGORITHMS = ["sha256", "sha512"]
EMPTY_JSON = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One for all tests here: each takes names or digests of its own."""
    with ours(tmp_path_factory.mktemp("distribution")) as running:
        yield running


@pytest.fixture
def name() -> str:
    """A repository of the test's own."""
    return f"{NAME}-{secrets.token_hex(4)}"


def refused(answer: Answer, status: int, code: str) -> None:
    """The status, and one error of the specification's form."""
    assert answer.status == status, answer
    assert answer.codes == [code], answer
    assert answer.headers["Content-Type"] == "application/json"


# %% Determining support, and what is not there
def test_the_api_says_which_it_is(registry: Registry) -> None:
    answer = registry.call("GET", "/v2/")
    assert answer.status == 200
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_unknown_things_are_404(registry: Registry, name: str, method: str) -> None:
    missing = digest_of(os.urandom(9))
    for path in (f"blobs/{missing}", f"manifests/{missing}", "manifests/missing"):
        assert registry.call(method, f"/v2/{name}/{path}").status == 404, path
    refused(registry.call("GET", f"/v2/{name}/blobs/{missing}"), 404, "BLOB_UNKNOWN")
    refused(registry.call("GET", f"/v2/{name}/manifests/x"), 404, "MANIFEST_UNKNOWN")
    refused(registry.call("GET", f"/v2/{name}/tags/list"), 404, "NAME_UNKNOWN")
    refused(registry.call("GET", f"/v2/{name}/blobs/uploads/x"), 404, "BLOB_UPLOAD_UNKNOWN")


def test_bad_names_and_digests_are_refused(registry: Registry, name: str) -> None:
    for bad in ("UPPER", "a..b", "-a", "a-", "a//b", "a___b", "a" * 256, "ä"):
        path = f"/v2/{quote(bad)}/tags/list"
        refused(registry.call("GET", path), 400, "NAME_INVALID")
    for bad in (
        "sha256:totallywrong",
        "sha256:" + "A" * 64,
        "md5:" + "0" * 32,
        "sha256:" + "0" * 63,
    ):
        refused(registry.call("GET", f"/v2/{name}/blobs/{bad}"), 400, "DIGEST_INVALID")
        refused(registry.call("GET", f"/v2/{name}/manifests/{bad}"), 400, "DIGEST_INVALID")
        refused(registry.call("GET", f"/v2/{name}/referrers/{bad}"), 400, "DIGEST_INVALID")
        put = registry.call("PUT", f"/v2/{name}/manifests/{bad}", b"{}", {"Content-Type": MANIFEST})
        refused(put, 400, "DIGEST_INVALID")


def test_other_methods_are_405_and_other_paths_404(registry: Registry, name: str) -> None:
    refused(registry.call("PATCH", f"/v2/{name}/manifests/x"), 405, "UNSUPPORTED")
    refused(registry.call("GET", "/v3/"), 404, "UNSUPPORTED")


# %% Pushing and pulling blobs
def begin(registry: Registry, name: str, query: str = "") -> str:
    answer = registry.call(
        "POST", f"/v2/{name}/blobs/uploads/{query}", headers={"Content-Length": "0"}
    )
    assert answer.status == 202
    assert answer.headers["Range"].startswith("0-")
    return str(answer.headers["Location"])


def end(registry: Registry, where: str, digest: str, data: bytes = b"", **headers: str) -> Answer:
    return registry.call(
        "PUT", f"{where}?{urlencode({'digest': digest})}", data, {**OCTETS, **headers}
    )


def patch(registry: Registry, where: str, data: bytes, first: int | None = None) -> Answer:
    headers = dict(OCTETS)
    if first is not None:
        headers["Content-Range"] = f"{first}-{first + len(data) - 1}"
    return registry.call("PATCH", where, data, headers)


def pulled(registry: Registry, name: str, data: bytes, answer: Answer, algorithm: str) -> None:
    """What was pushed is there, where it says, and by HEAD and GET."""
    digest = digest_of(data, algorithm)
    assert answer.status == 201, answer
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Location"] == f"/v2/{name}/blobs/{digest}"
    got = registry.call("GET", answer.headers["Location"])
    assert (got.status, got.data) == (200, data)
    assert got.headers["Docker-Content-Digest"] == digest
    head = registry.call("HEAD", answer.headers["Location"])
    assert (head.status, head.data) == (200, b"")
    assert head.headers["Content-Length"] == str(len(data))
    assert head.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("data", [b"", b"{}", os.urandom(3000)], ids=["empty", "json", "random"])
def test_a_blob_by_every_way(registry: Registry, name: str, data: bytes, algorithm: str) -> None:
    digest = digest_of(data, algorithm)
    pulled(
        registry,
        f"{name}/put",
        data,
        end(registry, begin(registry, f"{name}/put"), digest, data),
        algorithm,
    )
    query = urlencode({"digest": digest})
    post = registry.call("POST", f"/v2/{name}/post/blobs/uploads/?{query}", data, OCTETS)
    pulled(registry, f"{name}/post", data, post, algorithm)
    where = begin(registry, f"{name}/stream", f"?digest-algorithm={algorithm}")
    streamed = registry.call("PATCH", where, iter([data[:7], data[7:]]) if data else b"", OCTETS)
    assert streamed.status == 202
    assert streamed.headers["Range"] == f"0-{max(0, len(data) - 1)}"
    pulled(
        registry,
        f"{name}/stream",
        data,
        end(registry, streamed.headers["Location"], digest),
        algorithm,
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("last", ["PATCH", "PUT"])
def test_chunks_in_order(registry: Registry, name: str, algorithm: str, last: str) -> None:
    data, where = os.urandom(3000), begin(registry, name)
    for first in (0, 1000):
        answer = patch(registry, where, data[first : first + 1000], first)
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{first + 999}")
        where = answer.headers["Location"]
    digest = digest_of(data, algorithm)
    if last == "PATCH":
        where = patch(registry, where, data[2000:], 2000).headers["Location"]
        done = end(registry, where, digest)
    else:
        done = end(registry, where, digest, data[2000:], **{"Content-Range": "2000-2999"})
    pulled(registry, name, data, done, algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_chunks_out_of_order_are_416_and_the_client_can_recover(
    registry: Registry, name: str, algorithm: str
) -> None:
    data, where = os.urandom(3000), begin(registry, name)
    refused(patch(registry, where, data[1000:2000], 1000), 416, "BLOB_UPLOAD_INVALID")
    assert patch(registry, where, data[:1000], 0).status == 202
    again = patch(registry, where, data[:1000], 0)
    refused(again, 416, "BLOB_UPLOAD_INVALID")
    assert again.headers["Range"] == "0-999"
    refused(
        end(
            registry,
            where,
            digest_of(data, algorithm),
            data[2000:],
            **{"Content-Range": "2000-2999"},
        ),
        416,
        "BLOB_UPLOAD_INVALID",
    )
    status = registry.call("GET", where)
    assert (status.status, status.headers["Range"], status.data) == (204, "0-999", b"")
    assert patch(registry, status.headers["Location"], data[1000:], 1000).status == 202
    pulled(registry, name, data, end(registry, where, digest_of(data, algorithm)), algorithm)


def test_a_chunk_that_lies_about_itself(registry: Registry, name: str) -> None:
    where = begin(registry, name)
    for bad in ("5", "a-b", "9-0", "-1-5", "0-" + "9" * 30):
        answer = registry.call("PATCH", where, b"12345", {**OCTETS, "Content-Range": bad})
        refused(answer, 400, "BLOB_UPLOAD_INVALID")
    answer = registry.call("PATCH", where, b"12345", {**OCTETS, "Content-Range": "0-9"})
    refused(answer, 400, "SIZE_INVALID")
    answer = registry.call("PATCH", where, iter([b"12345"]), {**OCTETS, "Content-Range": "0-9"})
    refused(answer, 400, "SIZE_INVALID")
    pulled(registry, name, b"1", end(registry, where, digest_of(b"1"), b"1"), "sha256")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_digest_ends_the_upload(registry: Registry, name: str, algorithm: str) -> None:
    wrong = digest_of(os.urandom(9), algorithm)
    where = begin(registry, name)
    refused(end(registry, where, wrong, b"data"), 400, "DIGEST_INVALID")
    refused(registry.call("GET", where), 404, "BLOB_UPLOAD_UNKNOWN")
    where = patch(registry, begin(registry, name), b"data").headers["Location"]
    refused(end(registry, where, wrong), 400, "DIGEST_INVALID")
    query = urlencode({"digest": wrong})
    refused(
        registry.call("POST", f"/v2/{name}/blobs/uploads/?{query}", b"data", OCTETS),
        400,
        "DIGEST_INVALID",
    )
    assert registry.call("GET", f"/v2/{name}/blobs/{wrong}").status == 404
    for bad in ("", "?digest=", "?digest=sha256:abc", "?digest=md5:" + "0" * 32):
        refused(
            registry.call("PUT", f"{begin(registry, name)}{bad}", b"data"), 400, "DIGEST_INVALID"
        )
    refused(
        registry.call("POST", f"/v2/{name}/blobs/uploads/?digest-algorithm=md5"),
        400,
        "DIGEST_INVALID",
    )


def test_an_upload_can_be_cancelled(registry: Registry, name: str) -> None:
    where = patch(registry, begin(registry, name), b"data").headers["Location"]
    assert registry.call("DELETE", where).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        refused(registry.call(method, where), 404, "BLOB_UPLOAD_UNKNOWN")
    other = begin(registry, name).replace(name, f"{name}/not-this")
    refused(registry.call("GET", other), 404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ranges(registry: Registry, name: str, algorithm: str) -> None:
    data = os.urandom(2048)
    digest = registry.push_blob(name, data, algorithm)
    parts = {
        "bytes=500-1499": (500, 1499),
        "bytes=500-": (500, 2047),
        "bytes=-500": (1548, 2047),
        "bytes=2000-5000": (2000, 2047),
        "bytes=0-0": (0, 0),
        "bytes=-9999": (0, 2047),
    }
    for header, (first, last) in parts.items():
        answer = registry.call("GET", f"/v2/{name}/blobs/{digest}", headers={"Range": header})
        assert (answer.status, answer.data) == (206, data[first : last + 1]), header
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/2048"
        assert answer.headers["Content-Length"] == str(last - first + 1)
    for header in ("bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0"):
        answer = registry.call("GET", f"/v2/{name}/blobs/{digest}", headers={"Range": header})
        refused(answer, 416, "SIZE_INVALID")
        assert answer.headers["Content-Range"] == "bytes */2048"
    for header in ("bytes=", "bytes=-", "lines=1-2", "bytes=0-1,4-5", "bytes=a-b"):
        answer = registry.call("GET", f"/v2/{name}/blobs/{digest}", headers={"Range": header})
        assert (answer.status, answer.data) == (200, data), header


def test_who_has_it_is_told_so(registry: Registry, name: str) -> None:
    digest = registry.push_blob(name, os.urandom(100))
    etag = registry.call("GET", f"/v2/{name}/blobs/{digest}").headers["ETag"]
    answer = registry.call("GET", f"/v2/{name}/blobs/{digest}", headers={"If-None-Match": etag})
    assert (answer.status, answer.data) == (304, b"")


# %% Mounting
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_mounting(registry: Registry, name: str, algorithm: str) -> None:
    data, other = os.urandom(500), f"{name}/other"
    digest = registry.push_blob(other, data, algorithm)
    for query in ({"mount": digest, "from": other}, {"mount": digest}):
        target = f"{name}/{len(query)}"
        answer = registry.call("POST", f"/v2/{target}/blobs/uploads/?{urlencode(query)}")
        pulled(registry, target, data, answer, algorithm)
    missing = digest_of(os.urandom(9), algorithm)
    for query in (
        {"mount": missing, "from": other},
        {"mount": missing},
        {"mount": digest, "from": "none"},
    ):
        answer = registry.call("POST", f"/v2/{name}/x/blobs/uploads/?{urlencode(query)}")
        assert answer.status == 202, query
    pulled(
        registry,
        f"{name}/x",
        data,
        end(registry, answer.headers["Location"], digest, data),
        algorithm,
    )


# %% Manifests
def test_manifests_are_kept_byte_for_byte(registry: Registry, name: str) -> None:
    config, layer = registry.push_blob(name, b"{}"), registry.push_blob(name, os.urandom(9))
    value = image(registry, name, config, [layer], unknown={"field": 1})
    data = json.dumps(value, indent=3).encode() + b"\n"
    digest = registry.push_manifest(name, "v1", data)
    for reference in ("v1", digest):
        for method in ("GET", "HEAD"):
            answer = registry.call(method, f"/v2/{name}/manifests/{reference}")
            assert answer.status == 200
            assert answer.data == (data if method == "GET" else b"")
            assert answer.headers["Content-Type"] == MANIFEST
            assert answer.headers["Content-Length"] == str(len(data))
            assert answer.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_by_digest_with_tags(registry: Registry, name: str, algorithm: str) -> None:
    config = registry.push_blob(name, b"{}", algorithm)
    data = json.dumps(image(registry, name, config, [])).encode()
    digest, tags = digest_of(data, algorithm), [f"v{n}" for n in range(10)]
    query = urlencode([("tag", tag) for tag in tags])
    answer = registry.call(
        "PUT", f"/v2/{name}/manifests/{digest}?{query}", data, {"Content-Type": MANIFEST}
    )
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v2/{name}/manifests/{digest}"
    assert answer.headers["OCI-Tag"].split(", ") == tags
    assert (
        registry.call("HEAD", f"/v2/{name}/manifests/v9").headers["Docker-Content-Digest"] == digest
    )
    data += b" "
    answer = registry.call(
        "PUT", f"/v2/{name}/manifests/{digest}", data, {"Content-Type": MANIFEST}
    )
    refused(answer, 400, "DIGEST_INVALID")


def test_what_a_manifest_names_must_be_there(registry: Registry, name: str) -> None:
    config, layer = registry.push_blob(name, b"{}"), registry.push_blob(name, os.urandom(9))
    good = image(registry, name, config, [layer])
    missing = digest_of(os.urandom(9))
    bad = {**good, "layers": [{**good["layers"][0], "digest": missing}]}
    answer = registry.call(
        "PUT", f"/v2/{name}/manifests/x", json.dumps(bad), {"Content-Type": MANIFEST}
    )
    refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")
    assert missing in str(answer.json())
    bad = {**good, "layers": [{**good["layers"][0], "size": 8}]}
    answer = registry.call(
        "PUT", f"/v2/{name}/manifests/x", json.dumps(bad), {"Content-Type": MANIFEST}
    )
    refused(answer, 400, "SIZE_INVALID")
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{"mediaType": MANIFEST, "digest": missing, "size": 5}],
    }
    answer = registry.call(
        "PUT", f"/v2/{name}/manifests/x", json.dumps(index), {"Content-Type": INDEX}
    )
    refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")
    assert registry.call("GET", f"/v2/{name}/manifests/x").status == 404


def test_layers_that_are_elsewhere_need_not_be_here(registry: Registry, name: str) -> None:
    config = registry.push_blob(name, b"{}")
    away = {
        "digest": digest_of(os.urandom(9)),
        "size": 123456,
        "urls": ["https://store.example.com/x"],
    }
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    value = {**image(registry, name, config, []), "layers": [{"mediaType": kind, **away}]}
    registry.push_manifest(name, "away", value)
    value["layers"].append(
        {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar", **away}
    )
    del value["layers"][1]["urls"]
    registry.push_manifest(name, "away", value)


def test_what_is_no_manifest(registry: Registry, name: str) -> None:
    config = registry.push_blob(name, b"{}")
    good = image(registry, name, config, [])
    cases = [
        b"",
        b"blablabla",
        b"[]",
        b'{"schemaVersion": 1}',
        b"[" * 100_000,
        b"\xff\xfe",
        json.dumps({**good, "config": None}).encode(),
        json.dumps({**good, "layers": {"a": 1}}).encode(),
        json.dumps({**good, "layers": [{"digest": "sha256:abc", "size": 1}]}).encode(),
        json.dumps({**good, "layers": [{"digest": config, "size": -1}]}).encode(),
        json.dumps({**good, "subject": {"digest": "../../x", "size": 1}}).encode(),
        json.dumps({**good, "mediaType": "text/plain"}).encode(),
        json.dumps({**good, "mediaType": INDEX}).encode(),
    ]
    for data in cases:
        answer = registry.call("PUT", f"/v2/{name}/manifests/x", data, {"Content-Type": MANIFEST})
        refused(answer, 400, "MANIFEST_INVALID")
    for tag in (".hidden", "-x", "a" * 129, "ä"):
        path = f"/v2/{name}/manifests/{quote(tag)}"
        answer = registry.call("PUT", path, json.dumps(good), {"Content-Type": MANIFEST})
        refused(answer, 400, "MANIFEST_INVALID")


def test_large_manifests_and_too_large_ones(registry: Registry, name: str) -> None:
    config = registry.push_blob(name, b"{}")
    notes = {f"note-{n}": "A" * 10_000 for n in range(390)}
    registry.push_manifest(name, "large", image(registry, name, config, [], annotations=notes))
    data = b" " * ((4 << 20) + 1)
    for body in (data, iter([data])):
        answer = registry.call("PUT", f"/v2/{name}/manifests/x", body, {"Content-Type": MANIFEST})
        refused(answer, 413, "SIZE_INVALID")


def test_indexes_of_images_and_of_indexes(registry: Registry, name: str) -> None:
    children = []
    for architecture in ("amd64", "arm64"):
        digest = registry.push_image(name, "")
        size = int(
            registry.call("HEAD", f"/v2/{name}/manifests/{digest}").headers["Content-Length"]
        )
        platform = {"os": "linux", "architecture": architecture}
        children.append(
            {"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform}
        )
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}
    inner = registry.push_manifest(name, "index", index, INDEX)
    entry = {"mediaType": INDEX, "digest": inner, "size": len(json.dumps(index))}
    registry.push_manifest(name, "outer", {**index, "manifests": [entry]}, INDEX)
    registry.push_manifest(name, "empty", {**index, "manifests": []}, INDEX)
    assert registry.call("GET", f"/v2/{name}/manifests/index").headers["Content-Type"] == INDEX


# %% Discovery
def test_tags_page_by_page(registry: Registry, name: str) -> None:
    digest = registry.push_image(name, "v0")
    data = registry.call("GET", f"/v2/{name}/manifests/{digest}").data
    tags = ["A", "Z", "_", "a", "b.1", "b1", "v0", "z"]
    for tag in tags:
        registry.push_manifest(name, tag, data)
    path = f"/v2/{name}/tags/list"
    assert registry.call("GET", path).json() == {"name": name, "tags": tags}
    assert registry.call("GET", f"{path}?last=a").json()["tags"] == tags[4:]
    assert registry.call("GET", f"{path}?last=aa").json()["tags"] == tags[4:]
    none = registry.call("GET", f"{path}?n=0")
    assert none.json()["tags"] == []
    assert none.headers["Link"] is None
    seen, where = [], f"{path}?n=3"
    for count in (3, 3, 2):
        answer = registry.call("GET", where)
        assert len(answer.json()["tags"]) == count
        seen += answer.json()["tags"]
        link = answer.headers["Link"]
        if count == 3:
            assert link.endswith('; rel="next"')
            where = link[link.index("<") + 1 : link.index(">")]
    assert seen == tags
    assert link is None
    for bad in ("-1", "x", "1e3", "9" * 50):
        refused(registry.call("GET", f"{path}?n={bad}"), 400, "UNSUPPORTED")


def test_referrers(registry: Registry, name: str) -> None:
    empty = registry.push_blob(name, b"{}")
    data = json.dumps(image(registry, name, empty, [])).encode()
    subject = {"mediaType": MANIFEST, "digest": digest_of(data), "size": len(data)}
    config = {**EMPTY_JSON, "digest": empty}
    common = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "subject": subject}
    pushed = [
        (
            {
                **common,
                "config": config,
                "artifactType": "application/x.sbom",
                "annotations": {"a": "1"},
            },
            MANIFEST,
        ),
        ({**common, "config": {**config, "mediaType": "application/x.sig"}}, MANIFEST),
        ({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": subject}, INDEX),
    ]
    for value, kind in pushed:  # before the subject itself
        body = json.dumps(value).encode()
        path = f"/v2/{name}/manifests/{digest_of(body)}"
        answer = registry.call("PUT", path, body, {"Content-Type": kind})
        assert (answer.status, answer.headers["OCI-Subject"]) == (201, subject["digest"])
    registry.push_manifest(name, "subject", data)
    path = f"/v2/{name}/referrers/{subject['digest']}"
    answer = registry.call("GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, INDEX)
    index = answer.json()
    assert (index["schemaVersion"], index["mediaType"], len(index["manifests"])) == (2, INDEX, 3)
    found = {one.get("artifactType"): one for one in index["manifests"]}
    assert set(found) == {"application/x.sbom", "application/x.sig", None}
    assert found["application/x.sbom"]["annotations"] == {"a": "1"}
    assert found[None]["mediaType"] == INDEX
    answer = registry.call("GET", f"{path}?artifactType=application/x.sig")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [one["artifactType"] for one in answer.json()["manifests"]] == ["application/x.sig"]
    first = registry.call("GET", f"{path}?n=2")
    assert len(first.json()["manifests"]) == 2
    where = first.headers["Link"].partition("<")[2].partition(">")[0]
    assert len(registry.call("GET", where).json()["manifests"]) == 1
    registry.call("DELETE", f"/v2/{name}/manifests/{found['application/x.sig']['digest']}")
    assert len(registry.call("GET", path).json()["manifests"]) == 2


def test_nothing_refers_to_what_nobody_knows(registry: Registry, name: str) -> None:
    answer = registry.call("GET", f"/v2/{name}/referrers/{digest_of(os.urandom(9))}")
    assert (answer.status, answer.json()["manifests"]) == (200, [])


def test_the_fallback_tag_is_a_tag(registry: Registry, name: str) -> None:
    """A client that does not know the referrers API keeps an index under a tag made of the digest."""
    digest = registry.push_image(name, "v1")
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    tag = digest.replace(":", "-")
    registry.push_manifest(name, tag, index, INDEX)
    assert registry.call("GET", f"/v2/{name}/manifests/{tag}").json() == index
    assert registry.call("GET", f"/v2/{name}/referrers/{digest}").json()["manifests"] == []


def test_the_catalog_page_by_page(registry: Registry) -> None:
    prefix = f"zz{secrets.token_hex(4)}"
    names = [f"{prefix}/{one}" for one in "abc"]
    for one in names:
        registry.push_image(one, "v1")
    assert registry.call("GET", f"/v2/_catalog?last={prefix}").json()["repositories"] == names
    answer = registry.call("GET", f"/v2/_catalog?n=2&last={prefix}")
    assert answer.json()["repositories"] == names[:2]
    where = answer.headers["Link"].partition("<")[2].partition(">")[0]
    assert registry.call("GET", where).json()["repositories"] == names[2:]


# %% Management
def test_deleting_tags_manifests_and_blobs(registry: Registry, name: str) -> None:
    digest = registry.push_image(name, "v1")
    data = registry.call("GET", f"/v2/{name}/manifests/{digest}").data
    for tag in ("v2", "v3"):
        registry.push_manifest(name, tag, data)
    assert registry.call("DELETE", f"/v2/{name}/manifests/v1").status == 202
    assert registry.call("GET", f"/v2/{name}/manifests/v1").status == 404
    assert registry.call("GET", f"/v2/{name}/manifests/{digest}").status == 200
    refused(registry.call("DELETE", f"/v2/{name}/blobs/{digest}"), 405, "UNSUPPORTED")
    assert registry.call("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    for reference in ("v2", "v3", digest):
        assert registry.call("GET", f"/v2/{name}/manifests/{reference}").status == 404
    assert registry.call("GET", f"/v2/{name}/tags/list").json()["tags"] == []
    layer = json.loads(data)["layers"][0]["digest"]
    assert registry.call("DELETE", f"/v2/{name}/blobs/{layer}").status == 202
    assert registry.call("GET", f"/v2/{name}/blobs/{layer}").status == 404
    refused(registry.call("DELETE", f"/v2/{name}/blobs/{layer}"), 404, "BLOB_UNKNOWN")
    refused(registry.call("DELETE", f"/v2/{name}/manifests/{digest}"), 404, "MANIFEST_UNKNOWN")
    refused(registry.call("DELETE", f"/v2/{name}/manifests/v1"), 404, "MANIFEST_UNKNOWN")


def test_a_tag_moves_and_the_manifest_it_leaves_stays(registry: Registry, name: str) -> None:
    old, new = registry.push_image(name, "v1"), registry.push_image(name, "v1")
    assert registry.call("HEAD", f"/v2/{name}/manifests/v1").headers["Docker-Content-Digest"] == new
    assert registry.call("GET", f"/v2/{name}/manifests/{old}").status == 200
