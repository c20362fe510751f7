"""Pull and push: what travels, what does not, and what bad registries and lines do to it."""

import gzip
import json
import os
import secrets
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from minidock.errors import HostileArchive, MiniDockError, NotFound
from minidock.images.quota import QuotaExceeded
from minidock.registry import transport
from minidock.registry.auth import Credentials
from minidock.registry.transport import Cancel
from minidock.spec import image as oci
from minidock.spec.image import architecture
from minidock.spec.reference import parse
from tests.integration.images.test_images import (
    ONE,
    TWO,
    digest,
    load,
    saved,
    tar,
    zstd,
)
from tests.integration.registry.conftest import Kit, Registry
from tests.integration.registry.fake import Fake, Handler, cut, hang_up, refuse, times

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DOCKER = "application/vnd.docker."
LARGE = tar({f"f{n}": secrets.token_bytes(300_000) for n in range(10)})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without the waiting."""
    monkeypatch.setattr(transport, "backoff", lambda attempt: 0.01)
    for module in ("transfer", "client"):
        monkeypatch.setattr(f"minidock.registry.{module}.backoff", lambda attempt: 0.01)


# %% Images to serve
def squeeze(data: bytes) -> bytes:
    """gzip without a time in it: the same today and tomorrow."""
    return gzip.compress(data, mtime=0)


def put_image(
    fake: Fake,
    *layers: bytes,
    tag: str = "1",
    machine: str = "",
    pack: Any = squeeze,
    suffix: str = "+gzip",
    algorithm: str = "sha256",
    docker: bool = False,
) -> str:
    """An image in the fake registry; the digest of its manifest."""
    config = {
        "architecture": machine or architecture(),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]},
    }
    layer_type = DOCKER + "image.rootfs.diff.tar.gzip" if docker else oci.LAYER + suffix
    config_type = DOCKER + "container.image.v1+json" if docker else oci.CONFIG
    value = {
        "schemaVersion": 2,
        "mediaType": DOCKER + "distribution.manifest.v2+json" if docker else oci.MANIFEST,
        "config": fake.blob(json.dumps(config).encode(), config_type),
        "layers": [fake.blob(pack(one), layer_type, algorithm) for one in layers],
    }
    return fake.manifest(value, tag, algorithm=algorithm)


def whole(kit: Kit, name: str) -> bool:
    """All of the image is there, each blob is what it is called, nothing else is left."""
    image = kit.images.get(name)
    store = kit.images.store
    for key in store.digests():
        algorithm = key.partition(":")[0]
        assert (
            key
            == f"{algorithm}:"
            + __import__("hashlib").new(algorithm, store.path(key).read_bytes()).hexdigest()
        )
    return kit.images.whole(image) and kit.partials() == []


# %% There and back
def test_there_and_back(kit: Kit, other: Kit, registry: Registry) -> None:
    """An image keeps its id and its layers' digests; what is pushed has been compressed."""
    name = f"{registry.host}/back:1"
    load(kit.images, saved([name], ONE, TWO, LARGE))
    before = kit.images.get(name)
    pushed = kit.push(name)
    assert kit.statuses().count("Pushed") == 3
    assert kit.images.get(name).digests == [f"{registry.host}/back@{pushed}"]
    assert other.pull(name) == before.id
    image = other.images.get(name)
    assert image.manifest_digest == pushed
    assert image.config.rootfs.diff_ids == before.config.rootfs.diff_ids
    assert image.digests == [f"{registry.host}/back@{pushed}"]
    assert whole(other, name)
    assert {one.media_type for one in image.manifest.layers} == {oci.LAYER + "+gzip"}
    assert other.statuses()[-1] == f"Status: Downloaded newer image for {name}"
    # Nothing is packed or sent twice, and the digest stays.
    blobs = kit.images.store.digests()
    assert kit.push(name) == pushed
    assert kit.statuses().count("Layer already exists") == 3
    assert kit.images.store.digests() == blobs
    # Nor fetched twice.
    other.pull(name)
    assert other.statuses()[-1] == f"Status: Image is up to date for {name}"
    assert other.push(name) == pushed


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_a_layer_of_no_bytes(fake: Fake, tmp_path: Path, driver: str) -> None:
    """Docker takes it, plain and compressed."""
    kit = Kit(tmp_path / "kit", driver=driver)
    for tag, pack, suffix in (("1", bytes, ""), ("2", squeeze, "+gzip"), ("3", bytes, "+gzip")):
        put_image(fake, ONE, b"", tag=tag, pack=pack, suffix=suffix)
        name = f"{fake.host}/app:{tag}"
        kit.pull(name)
        assert whole(kit, name)
    load(kit.images, saved([f"{fake.host}/made:1"], ONE, b""))
    kit.push(f"{fake.host}/made:1")


def test_what_a_push_keeps_counts_for_the_quota(kit: Kit, registry: Registry) -> None:
    name = f"{registry.host}/quota:1"
    load(kit.images, saved([name], LARGE))
    kit.images.quota.limit = 2 * len(LARGE) + 200_000  # plain and as a tree, but not as gzip, too
    before = kit.images.store.digests()
    with pytest.raises(QuotaExceeded, match="are allowed"):
        kit.push(name)
    assert kit.images.store.digests() == before
    kit.images.quota.limit = 4 * len(LARGE)
    kit.push(name)
    assert len(kit.images.store.digests()) > len(before)


def test_other_tools_read_it(kit: Kit, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.host}/tools:1"
    load(kit.images, saved([name], ONE, TWO))
    pushed = kit.push(name)
    inspected = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(inspected.stdout)["Digest"] == pushed
    copied = f"docker://{registry.host}/tools-again:1"
    tls = ("--src-tls-verify=false", "--dest-tls-verify=false")
    subprocess.run(
        ["skopeo", "copy", *tls, f"docker://{name}", copied], capture_output=True, check=True
    )
    before = kit.images.get(name).id
    assert kit.pull(f"{registry.host}/tools-again:1") == before
    assert kit.images.get(name).digests == sorted(
        [f"{registry.host}/tools@{pushed}", f"{registry.host}/tools-again@{pushed}"]
    )


def test_podman_reads_it(kit: Kit, registry: Registry) -> None:
    name = f"{registry.host}/pod:1"
    load(kit.images, saved([name], ONE, TWO))
    kit.push(name)
    with tempfile.TemporaryDirectory(prefix="mdpod") as top:  # podman wants it short
        store = ["--root", f"{top}/root", "--runroot", f"{top}/run", "--storage-driver", "vfs"]
        words = ["podman", *store, "pull", "-q", "--tls-verify=false", name]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == kit.images.get(name).id[7:]


def test_a_blob_is_mounted(kit: Kit, registry: Registry) -> None:
    load(kit.images, saved([f"{registry.host}/mount-from:1", f"{registry.host}/mount-to:1"], LARGE))
    first = kit.push(f"{registry.host}/mount-from:1")
    assert kit.push(f"{registry.host}/mount-to:1") == first
    assert "Mounted from mount-from" in kit.statuses()


def test_all_tags(kit: Kit, other: Kit, registry: Registry) -> None:
    names = [f"{registry.host}/many:{n}" for n in range(3)]
    load(kit.images, saved(names, ONE))
    kit.transfers.push(
        parse(names[0]).__class__(registry.host, "many"),
        "",
        Credentials(),
        kit.said.append,
        Cancel(),
    )
    other.transfers.pull_all(parse(names[0]), Credentials(), other.said.append, Cancel())
    assert sorted(other.images.get(names[0]).tags) == names
    status = f"Status: Downloaded newer image for {registry.host}/many"
    assert [one for one in other.statuses() if one.startswith("Status")] == [status]


# %% Kinds of images
@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_every_compression(fake: Fake, tmp_path: Path, driver: str) -> None:
    kit = Kit(tmp_path / "k", driver=driver)
    for pack, suffix in ((squeeze, "+gzip"), (zstd, "+zstd"), (bytes, "")):
        put_image(fake, ONE, TWO, LARGE, ONE, tag="t", pack=pack, suffix=suffix)
        kit.pull(f"{fake.host}/x:t")
        assert whole(kit, f"{fake.host}/x:t")
    assert kit.images.get(f"{fake.host}/x:t").manifest.layers[0].media_type == oci.LAYER


def test_docker_media_types(kit: Kit, fake: Fake) -> None:
    key = put_image(fake, ONE, docker=True)
    kit.pull(f"{fake.host}/x:1")
    assert whole(kit, f"{fake.host}/x:1")
    assert kit.push(f"{fake.host}/x:1") == key


def test_plain_layers_that_were_pulled_are_pushed_as_they_came(kit: Kit, fake: Fake) -> None:
    key = put_image(fake, ONE, pack=bytes, suffix="")
    kit.pull(f"{fake.host}/x:1")
    assert kit.push(f"{fake.host}/x:1") == key


def test_by_digest_and_sha512(kit: Kit, fake: Fake) -> None:
    key = put_image(fake, ONE, LARGE, algorithm="sha512")
    assert key.startswith("sha512:")
    kit.pull(f"{fake.host}/x@{key}")
    image = kit.images.get(f"{fake.host}/x@{key}")
    assert (image.tags, image.digests) == ([], [f"{fake.host}/x@{key}"])
    assert whole(kit, image.id)
    kit.pull(f"{fake.host}/x@{key}")
    assert kit.statuses()[-1] == f"Status: Image is up to date for {fake.host}/x@{key}"


def test_platforms(kit: Kit, fake: Fake) -> None:
    entries = []
    for machine in ("s390x", architecture(), "riscv64"):
        key = put_image(fake, tar({"m": machine.encode()}), tag=machine, machine=machine)
        kind, data = fake.manifests[key]
        platform = {"os": "linux", "architecture": machine}
        entries.append({"mediaType": kind, "digest": key, "size": len(data), "platform": platform})
    index = fake.manifest({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries}, "all")
    name = f"{fake.host}/x:all"
    ours = kit.pull(name)
    assert kit.images.get(name).config.architecture == architecture()
    assert kit.images.get(name).digests == [f"{fake.host}/x@{index}"]
    kit.pull(name)
    assert kit.statuses()[-1].startswith("Status: Image is up to date")
    assert kit.pull(name, "linux/s390x") != ours
    assert kit.images.get(name).config.architecture == "s390x"
    words = "no matching manifest for linux/ppc64le in the manifest list entries"
    with pytest.raises(NotFound, match=words):
        kit.pull(name, "linux/ppc64le")
    found = kit.transfers.distribution(name, Credentials())
    assert found["Descriptor"]["digest"] == index
    assert [one["architecture"] for one in found["Platforms"]] == [
        "s390x",
        architecture(),
        "riscv64",
    ]


def test_what_is_no_image(kit: Kit, fake: Fake) -> None:
    config = fake.blob(b"{}", "application/vnd.example+json")
    value = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": config, "layers": []}
    fake.manifest(value, "chart")
    with pytest.raises(MiniDockError, match="unsupported media type application/vnd.example"):
        kit.pull(f"{fake.host}/x:chart")


# %% Docker's words
def test_words(kit: Kit, fake: Fake) -> None:
    with pytest.raises(NotFound) as unknown:
        kit.pull(f"{fake.host}/x:none")
    assert str(unknown.value) == (
        f"manifest for {fake.host}/x:none not found: manifest unknown: manifest unknown"
    )
    words = "requested access to the resource is denied"
    fake.faults.append(times(9, "manifests", refuse(403, "DENIED", words)))
    with pytest.raises(NotFound) as denied:
        kit.pull(f"{fake.host}/secret:1")
    assert str(denied.value) == (
        f"pull access denied for {fake.host}/secret, repository does not exist or may require"
        f" 'docker login': denied: {words}"
    )
    with pytest.raises(MiniDockError, match="dial tcp 127.0.0.1:1: connect: connection refused"):
        kit.pull("127.0.0.1:1/x")
    with pytest.raises(NotFound, match="An image does not exist locally with the tag: 127"):
        kit.push(f"{fake.host}/nothing:1")


# %% Lines that break
def test_a_line_that_breaks_is_taken_up(kit: Kit, fake: Fake) -> None:
    put_image(fake, ONE, LARGE)
    fake.faults.append(times(3, f"GET .*{digest(squeeze(LARGE))}", cut(200_000)))
    fake.faults.append(times(2, "GET .*/(blobs|manifests)/", cut(20)))  # manifest, configuration
    kit.pull(f"{fake.host}/x:1")
    assert whole(kit, f"{fake.host}/x:1")
    assert any(one.get("range", "").startswith("bytes=") for one in fake.headers)


def test_a_server_without_ranges(kit: Kit, fake: Fake) -> None:
    put_image(fake, LARGE)
    fake.ranges = False
    fake.faults.append(times(2, "GET .*/blobs/", cut(500_000)))
    kit.pull(f"{fake.host}/x:1")
    assert whole(kit, f"{fake.host}/x:1")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server(kit: Kit, fake: Fake, status: int) -> None:
    put_image(fake, ONE)
    fake.faults.append(times(2, "GET /v2/$", refuse(status, "TOOMANYREQUESTS")))
    fake.faults.append(times(2, "HEAD .*manifests", refuse(status)))
    fake.faults.append(times(2, "GET .*manifests", refuse(status)))
    fake.faults.append(times(3, "GET .*blobs", refuse(status)))
    kit.pull(f"{fake.host}/x:1")
    assert whole(kit, f"{fake.host}/x:1")


def test_retry_after_is_honoured(kit: Kit, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    put_image(fake, ONE)
    waited: list[float] = []
    monkeypatch.setattr(transport, "pause", lambda seconds, cancel: waited.append(seconds))
    fake.faults.append(times(1, "GET .*manifests", refuse(429, Retry_After="7")))
    date = "Fri, 01 Jan 2100 00:00:00 GMT"
    fake.faults.append(times(1, "GET .*blobs", refuse(503, Retry_After=date)))
    kit.pull(f"{fake.host}/x:1")
    assert waited == [7.0, transport.LONGEST_WAIT]


def test_a_server_that_stays_busy(kit: Kit, fake: Fake) -> None:
    put_image(fake, ONE)
    fake.faults.append(refuse(429, "TOOMANYREQUESTS", "slow down"))
    with pytest.raises(MiniDockError, match="toomanyrequests: slow down"):
        kit.pull(f"{fake.host}/x:1")
    assert fake.asked("GET /v2/$") <= transport.ATTEMPTS + 1


def test_connections_that_die(kit: Kit, fake: Fake) -> None:
    put_image(fake, ONE, TWO)
    fake.faults.append(times(2, "manifests", hang_up))
    fake.faults.append(times(3, "blobs", hang_up))
    kit.pull(f"{fake.host}/x:1")
    assert whole(kit, f"{fake.host}/x:1")


# %% What must not be believed
def swap(fake: Fake, size: int, data: bytes) -> None:
    """Another blob in the place of the (only) one of ``size`` bytes."""
    (key,) = (key for key, value in fake.blobs.items() if len(value) == size)
    fake.blobs[key] = data


@pytest.mark.parametrize("kind", ["other bytes", "too short", "too long", "not gzip"])
def test_a_layer_that_is_not_what_was_promised(kit: Kit, fake: Fake, kind: str) -> None:
    packed = squeeze(LARGE)
    put_image(fake, ONE, LARGE)
    bad = {
        "other bytes": packed[:-9] + bytes([packed[-9] ^ 1]) + packed[-8:],
        "too short": packed[:-100],
        "too long": packed + b"more",
        "not gzip": secrets.token_bytes(len(packed)),
    }[kind]
    swap(fake, len(packed), bad)
    with pytest.raises(MiniDockError):
        kit.pull(f"{fake.host}/x:1")
    assert kit.images.list() == []
    assert digest(packed) not in kit.images.store.digests()
    if kind != "too short":
        assert not [one for one in kit.partials() if digest(packed)[7:] in one]
    swap(fake, len(bad), packed)
    kit.pull(f"{fake.host}/x:1")
    assert whole(kit, f"{fake.host}/x:1")


def test_a_layer_that_is_not_of_this_configuration(kit: Kit, fake: Fake) -> None:
    """The blob is right, but what is in it is not what the configuration names."""
    put_image(fake, ONE, tag="good")
    value = json.loads(fake.manifests["good"][1])
    value["layers"] = [fake.blob(squeeze(TWO), oci.LAYER + "+gzip")]
    fake.manifest(value, "bad")
    with pytest.raises(HostileArchive, match="digest does not match"):
        kit.pull(f"{fake.host}/x:bad")
    assert kit.images.driver.layers() == []


def test_a_manifest_that_is_not_what_was_promised(kit: Kit, fake: Fake) -> None:
    key, wrong = put_image(fake, ONE), put_image(fake, TWO, tag="2")
    fake.manifests[key] = fake.manifests[wrong]
    with pytest.raises(HostileArchive, match="manifest verification failed"):
        kit.pull(f"{fake.host}/x@{key}")

    def lie(handler: Handler) -> int:
        kind, data = fake.manifests["2"]
        handler.answer(200, data, Content_Type=kind, Docker_Content_Digest=key)
        return -1

    fake.faults.append(times(9, "GET .*manifests/2", lie))
    with pytest.raises(HostileArchive, match="manifest verification failed"):
        kit.pull(f"{fake.host}/x:2")
    assert kit.images.list() == []


def test_a_configuration_that_is_not_what_was_promised(kit: Kit, fake: Fake) -> None:
    put_image(fake, ONE)
    value = json.loads(fake.manifests["1"][1])
    fake.blobs[value["config"]["digest"]] = b"{}"
    with pytest.raises(HostileArchive, match="image config verification failed"):
        kit.pull(f"{fake.host}/x:1")


def test_a_digest_that_climbs(kit: Kit, fake: Fake) -> None:
    put_image(fake, ONE)
    value = json.loads(fake.manifests["1"][1])
    value["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
    fake.manifest(value, "climbs")
    with pytest.raises(MiniDockError, match="invalid digest"):
        kit.pull(f"{fake.host}/x:climbs")


# %% Being sent on
def test_a_password_does_not_go_along_to_another_host(kit: Kit, fake: Fake, tmp_path: Path) -> None:
    from tests.integration.registry.fake import serving

    put_image(fake, ONE)
    who = Credentials("ann", "pw")
    with serving(Fake(blobs=dict(fake.blobs))) as there:

        def challenge(handler: Handler) -> int | None:
            if handler.headers.get("Authorization") == who.basic:
                return None
            handler.answer(401, WWW_Authenticate='Basic realm="x"')
            return -1

        def send_on(handler: Handler) -> int:
            handler.answer(307, Location=f"http://{there.host}{handler.path}")
            return -1

        fake.faults += [challenge, times(99, "GET .*/blobs/", send_on)]
        kit.pull(f"{fake.host}/x:1", who=who)
        assert there.asked("GET .*/blobs/") == 2
        assert all("authorization" not in one for one in there.headers)
    assert whole(kit, f"{fake.host}/x:1")


def test_going_round_in_circles(kit: Kit, fake: Fake) -> None:
    put_image(fake, ONE)

    def circle(handler: Handler) -> int:
        handler.answer(302, Location=handler.path)
        return -1

    fake.faults.append(times(99, "GET .*/blobs/", circle))
    with pytest.raises(MiniDockError, match="stopped after 10 redirects"):
        kit.pull(f"{fake.host}/x:1")


# %% Pushing over bad lines
def test_an_upload_that_breaks_is_taken_up(kit: Kit, other: Kit, fake: Fake) -> None:
    name = f"{fake.host}/x:1"
    load(kit.images, saved([name], LARGE))
    sent: list[int] = []

    def count(handler: Handler) -> None:
        sent.append(sum(map(len, fake.uploads.values())))

    fake.faults += [times(9, "PATCH", count), times(1, "PATCH", cut(1_500_000))]
    kit.push(name)
    assert sent == [0, 1_500_000]
    assert other.pull(name) == kit.images.get(name).id


def test_an_upload_that_the_server_forgets(kit: Kit, other: Kit, fake: Fake) -> None:
    name = f"{fake.host}/x:1"
    load(kit.images, saved([name], LARGE))

    def forget(handler: Handler) -> int:
        fake.uploads.clear()
        handler.hang_up()
        return -1

    fake.faults.append(times(1, "PATCH", forget))
    kit.push(name)
    assert other.pull(name) == kit.images.get(name).id


def test_a_busy_server_for_a_push(kit: Kit, other: Kit, fake: Fake) -> None:
    name = f"{fake.host}/x:1"
    load(kit.images, saved([name], ONE, LARGE))
    for pattern in ("POST", "PATCH", "PUT .*uploads", "PUT .*manifests", "HEAD"):
        fake.faults.append(times(1, pattern, refuse(503)))
    kit.push(name)
    assert other.pull(name) == kit.images.get(name).id


def test_a_push_that_is_denied(kit: Kit, fake: Fake) -> None:
    name = f"{fake.host}/x:1"
    load(kit.images, saved([name], ONE))
    fake.faults.append(times(99, "POST", refuse(403, "DENIED", "requested access is denied")))
    with pytest.raises(MiniDockError, match="denied: requested access is denied"):
        kit.push(name)
    assert kit.images.get(name).digests == []


# %% Interruptions
def test_what_is_finished_is_not_fetched_again(kit: Kit, fake: Fake) -> None:
    put_image(fake, ONE, TWO, LARGE)
    packed = squeeze(LARGE)
    fake.faults.append(times(99, f"GET .*{digest(packed)}", cut(400_000)))
    fake.ranges = False  # it never gets further than this
    with pytest.raises(MiniDockError):
        kit.pull(f"{fake.host}/x:1")
    assert kit.images.list() == []
    fake.faults.clear()
    fake.log.clear()
    fake.ranges = True
    again = Kit(kit.top)  # as a daemon that starts anew, which sweeps
    again.pull(f"{fake.host}/x:1")
    assert whole(again, f"{fake.host}/x:1")
    assert fake.asked("GET .*/blobs/") == 2  # the configuration, and what was missing
    assert [one["range"] for one in fake.headers if "range" in one][-1] >= "bytes=400000-"


def test_a_partial_blob_that_is_damaged(kit: Kit, fake: Fake) -> None:
    put_image(fake, LARGE)
    packed = squeeze(LARGE)
    kit.images.leases.partial(digest(packed)).write_bytes(
        packed[:1000] + b"bad" + packed[1003:9000]
    )
    kit.pull(f"{fake.host}/x:1")
    assert whole(kit, f"{fake.host}/x:1")


def test_a_lease_that_nobody_came_back_for(
    kit: Kit, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(fake, ONE, LARGE)
    fake.faults.append(times(99, f"GET .*{digest(squeeze(LARGE))}", cut(1000)))
    fake.ranges = False
    with pytest.raises(MiniDockError):
        kit.pull(f"{fake.host}/x:1")
    assert Kit(kit.top).partials() != []
    monkeypatch.setattr("minidock.images.leases.time.time", lambda: 10.0**11)
    late = Kit(kit.top)
    assert late.partials() == []
    assert (late.images.store.digests(), late.images.driver.layers()) == ([], [])


def test_cancelling(kit: Kit, fake: Fake) -> None:
    put_image(fake, LARGE, ONE)
    cancel = Cancel()

    def stop(handler: Handler) -> None:
        cancel.set()

    fake.faults.append(times(1, "GET .*blobs", stop))
    with pytest.raises(MiniDockError, match="context canceled"):
        kit.transfers.pull(parse(f"{fake.host}/x:1"), "", Credentials(), kit.said.append, cancel)
    assert kit.images.list() == []
    kit.pull(f"{fake.host}/x:1")
    assert whole(kit, f"{fake.host}/x:1")


# %% Two at once
@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_two_pulls_of_one_image(fake: Fake, tmp_path: Path, driver: str) -> None:
    kit = Kit(tmp_path / "k", driver=driver)
    put_image(fake, ONE, LARGE, TWO)
    put_image(fake, TWO, LARGE, tag="2")
    errors: list[BaseException] = []

    def one(tag: str) -> None:
        try:
            name = parse(f"{fake.host}/x:{tag}")
            kit.transfers.pull(name, "", Credentials(), lambda message: None, Cancel())
        except BaseException as error:  # noqa: BLE001 (looked at below)
            errors.append(error)

    threads = [threading.Thread(target=one, args=(tag,)) for tag in ("1", "2", "1", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert whole(kit, f"{fake.host}/x:1") and whole(kit, f"{fake.host}/x:2")
    assert fake.asked(f"GET .*{digest(squeeze(LARGE))}") == 1


# %% Names
def test_removing_what_was_pulled(kit: Kit, registry: Registry) -> None:
    """The last tag of a repository takes along what the repository calls it by digest."""
    one, two = f"{registry.host}/gone:1", f"{registry.host}/gone:2"
    load(kit.images, saved([one, two], ONE))
    pushed = kit.push(one)
    image = kit.images.get(one)

    def nobody(image: str) -> list[str]:
        return []

    assert kit.images.remove(one, used_by=nobody) == [{"Untagged": one}]
    assert kit.images.get(two).digests == [f"{registry.host}/gone@{pushed}"]
    removed = kit.images.remove(two, used_by=nobody)
    assert removed[:2] == [{"Untagged": two}, {"Untagged": f"{registry.host}/gone@{pushed}"}]
    assert {"Deleted": image.id} in removed
    assert kit.images.store.digests() == []


def test_one_image_packed_in_two_ways(kit: Kit, fake: Fake) -> None:
    """Two manifests, one id: both stay whole, and go together."""
    first = put_image(fake, ONE, tag="1")
    second = put_image(fake, ONE, tag="2", pack=lambda data: gzip.compress(data, 1, mtime=0))
    assert first != second
    assert kit.pull(f"{fake.host}/x:1") == kit.pull(f"{fake.host}/x:2")
    again = Kit(kit.top)
    assert again.images.get(f"{fake.host}/x:1").manifest_digest == first
    assert again.images.get(f"{fake.host}/x:2").manifest_digest == second
    assert again.push(f"{fake.host}/x:1") == first
    again.images.remove(again.images.list()[0].id, force=True, used_by=lambda image: [])
    assert again.images.store.digests() == []


# %% Nonsense
@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"null", b'{"manifests": 3}', b'{"layers": {}}']
)
def test_a_manifest_that_is_nonsense(kit: Kit, fake: Fake, data: bytes) -> None:
    for kind in (oci.MANIFEST, oci.INDEX, "text/html"):
        fake.manifests["1"] = kind, data
        with pytest.raises(MiniDockError):
            kit.pull(f"{fake.host}/x:1")
        with pytest.raises(MiniDockError):
            kit.transfers.distribution(f"{fake.host}/x:1", Credentials())
