"""Images: loading what other people's tools make, finding, naming, removing; crashes."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minidock.errors import Conflict, HostileArchive, InvalidParameter, MiniDockError, NotFound
from minidock.images import Images, bootstrap
from minidock.images import load as loader
from minidock.images.image import summary
from minidock.paths import Paths
from minidock.spec.image import Descriptor
from minidock.unionfs.choice import choose

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# %% Archives
def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def document(*layers: bytes, **more: Any) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        **more,
    }


def saved(
    names: list[str], *layers: bytes, pack: Callable[[bytes], bytes] = bytes, **more: Any
) -> bytes:
    """What `docker save` of old wrote: a manifest.json, a configuration, layers by path."""
    files = {"config.json": json.dumps(document(*layers, **more)).encode()}
    files |= {f"{number}/layer.tar": pack(layer) for number, layer in enumerate(layers)}
    manifest = {"Config": "config.json", "RepoTags": names, "Layers": list(files)[1:]}
    return tar({**files, "manifest.json": json.dumps([manifest]).encode()})


class Socket(io.RawIOBase):
    """Bytes that come in small pieces and cannot be rewound, as from a client's upload."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 1000) if size >= 0 else -1)

    def seekable(self) -> bool:
        return False


@pytest.fixture(params=["overlay", "vfs"])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> Images:
    return open_images(tmp_path, request.param)


def open_images(top: Path, driver: str = "overlay") -> Images:
    return Images(Paths(top / "root", top / "run"), choose(driver, top / "layers"))


def load(images: Images, data: bytes) -> list[str]:
    return list(images.load(Socket(data), lambda message: None))  # type: ignore[arg-type]


def on_disk(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.name != ".lock")


ONE, TWO = tar({"a": b"1" * 5000}), tar({"b": b"2"})


# %% Loading
def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-cq"], input=data, check=True, capture_output=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "two gzips": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_every_compression_outside_and_inside(images: Images, kind: str) -> None:
    pack = PACKERS[kind]
    assert load(images, pack(saved(["app:1"], ONE, TWO, pack=pack))) == ["app:1"]
    image = images.get("app:1")
    assert image.config.rootfs.diff_ids == (digest(ONE), digest(TWO))
    assert [images.driver.has_layer(chain) for chain in image.chains] == [True, True]


@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_that_ends_too_early(images: Images, kind: str, tmp_path: Path) -> None:
    data = PACKERS[kind](saved(["app:1"], tar({"a": secrets.token_bytes(30000)})))
    before = on_disk(tmp_path)
    with pytest.raises(MiniDockError):
        load(images, data[: len(data) // 2])
    assert on_disk(tmp_path) == before
    assert images.list() == []


def test_what_the_client_hears(images: Images) -> None:
    heard: list[dict[str, Any]] = []
    images.load(io.BytesIO(saved(["busybox:latest"], ONE)), heard.append)
    images.load(io.BytesIO(saved([], TWO)), heard.append)
    nameless = next(image for image in images.list() if not image.references)
    assert {"stream": "Loaded image: busybox:latest\n"} in heard
    assert {"stream": f"Loaded image ID: {nameless.id}\n"} in heard


def test_progress_of_a_load(images: Images) -> None:
    heard: list[dict[str, Any]] = []
    images.load(io.BytesIO(saved(["app:1"], ONE, TWO)), heard.append)
    layers = {digest(layer)[7:19]: len(layer) for layer in (ONE, TWO)}
    bars = [message for message in heard if "id" in message]
    assert {message["id"] for message in bars} == set(layers)
    for name, size in layers.items():
        *_, last = [message for message in bars if message["id"] == name]
        assert last["status"] == "Loading layer"
        assert last["progressDetail"] == {"current": size, "total": size}
    heard.clear()
    images.load(io.BytesIO(saved(["app:2"], ONE, TWO)), heard.append)  # it has them already
    images.load(io.BytesIO(saved(["b"], tar({"c": b"3"}))), heard.append, quiet=True)
    assert heard == [{"stream": "Loaded image: app:2\n"}, {"stream": "Loaded image: b:latest\n"}]


@pytest.mark.parametrize("outside", [True, False])
def test_archives_without_their_end(images: Images, outside: bool) -> None:
    """GNU tar and Go take an archive that ends between two entries; some tools write such."""

    def cut(data: bytes) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            last = archive.getmembers()[-1]
        return data[: last.offset_data + (last.size + 511) // 512 * 512]

    layer = tar({"a": b"1" * 700, "b": b"2"})
    assert len(cut(layer)) < len(layer)
    load(images, cut(saved(["app:1"], layer)) if outside else saved(["app:1"], cut(layer)))
    assert images.get("app:1").size == 701


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_a_compressed_stream_without_its_end(images: Images, kind: str, tmp_path: Path) -> None:
    """Even if all of the tar is there: what is missing is the proof that it is."""
    before = on_disk(tmp_path)
    with pytest.raises(MiniDockError):
        load(images, saved(["app:1"], ONE, pack=lambda data: PACKERS[kind](data)[:-2]))
    assert on_disk(tmp_path) == before


def test_the_good_image_of_a_bad_archive_is_not_kept(images: Images, tmp_path: Path) -> None:
    before = on_disk(tmp_path)
    config = json.dumps(document(ONE)).encode()
    good = {"Config": "c", "RepoTags": ["good"], "Layers": ["l"]}
    bad = {"Config": "c", "RepoTags": ["bad"], "Layers": []}
    manifest = json.dumps([good, bad]).encode()
    with pytest.raises(HostileArchive):
        load(images, tar({"c": config, "l": ONE, "manifest.json": manifest}))
    assert on_disk(tmp_path) == before


def test_a_load_that_fails_beside_one_that_goes_on(images: Images) -> None:
    """The failing one must not take away the layer that both have."""
    bad = saved(["bad"], ONE, tar({"../x": b""}))
    keep = loader.load

    def together(*arguments: Any) -> Any:
        found = keep(*arguments)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(loader, "load", keep)
            with pytest.raises(HostileArchive):
                load(images, bad)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "load", together)
        load(images, saved(["good"], ONE))
    assert images.driver.layers() == list(images.get("good").chains)


LYING = {
    "another layer": saved(["x"], ONE).replace(b"1" * 5000, b"3" * 5000),
    "no layer": saved(["x"], ONE).replace(b"0/layer.tar\0", b"9/layer.tar\0"),
    "too few diff ids": saved(["x"], ONE, rootfs={"type": "layers", "diff_ids": []}),
    "a bad name": saved(["No Such"], ONE),
    "not JSON": tar({"manifest.json": b"{"}),
    "not a list": tar({"manifest.json": b"{}"}),
    "nothing": tar({"readme": b"hello"}),
    "climbs": tar({"../x": b""}),
    "a hostile layer": saved(["x"], tar({"../x": b""})),
}


@pytest.mark.parametrize("kind", LYING)
def test_a_lying_archive_leaves_nothing(images: Images, kind: str, tmp_path: Path) -> None:
    before = on_disk(tmp_path)
    with pytest.raises(MiniDockError):
        load(images, LYING[kind])
    assert on_disk(tmp_path) == before


def test_a_diff_id_that_is_a_path_deletes_nothing(images: Images) -> None:
    # Sixteen characters of it once named a layer's directory: short enough for this.
    victim = Path(f"/tmp/v{secrets.token_hex(3)}")
    victim.mkdir()
    try:
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{victim}"]}
        with pytest.raises((InvalidParameter, HostileArchive)):
            load(images, saved(["x"], ONE, rootfs=rootfs))
        assert victim.exists()
    finally:
        shutil.rmtree(victim, ignore_errors=True)


# %% Other people's tools
@pytest.fixture
def busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIDOCK_ROOT", str(tmp_path / "bootstrap"))
    out = tmp_path / "busybox.tar"
    bootstrap.make("busybox", out)
    return out


def run(*words: object, **more: Any) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_busybox_is_the_same_every_time(busybox: Path, tmp_path: Path) -> None:
    first = busybox.read_bytes()
    shutil.rmtree(tmp_path / "bootstrap")
    bootstrap.make("busybox", busybox)
    assert busybox.read_bytes() == first


def test_skopeo_reads_the_store(images: Images, busybox: Path, tmp_path: Path) -> None:
    load(images, busybox.read_bytes())
    image = images.get("busybox")
    place = f"oci:{images.store.root}:docker.io/library/busybox:latest"
    assert json.loads(run("skopeo", "inspect", place))["Digest"] == image.manifest_digest
    run("skopeo", "copy", "--insecure-policy", place, f"dir:{tmp_path}/copy")


@pytest.mark.parametrize("target", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes(images: Images, busybox: Path, tmp_path: Path, target: str) -> None:
    out = tmp_path / "out.tar"
    source = f"oci-archive:{busybox}"
    run("skopeo", "copy", "--insecure-policy", source, f"{target}:{out}:docker.io/library/bb:v2")
    load(images, out.read_bytes())
    image = images.get("bb:v2")
    root = images.driver.root / images.driver.directory(image.chains[-1])
    assert (root / "bin/sh").stat().st_ino == (root / "bin/busybox").stat().st_ino
    assert image.config.config.cmd == ("sh",)


def test_what_umoci_makes(images: Images, tmp_path: Path) -> None:
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:v1")
    run("umoci", "unpack", "--image", f"{layout}:v1", bundle)
    (bundle / "rootfs/kept").write_text("one")
    (bundle / "rootfs/gone").write_text("two")
    run("umoci", "repack", "--image", f"{layout}:v1", bundle)
    shutil.rmtree(bundle)
    run("umoci", "unpack", "--image", f"{layout}:v1", bundle)
    (bundle / "rootfs/gone").unlink()
    run("umoci", "repack", "--image", f"{layout}:v2", bundle)
    (name,) = load(images, run_bytes("tar", "-C", layout, "-cf", "-", "."))[-1:]
    container = tmp_path / "container"
    container.mkdir()
    root = images.driver.mount(list(images.ensure_layers(images.get(name))), container)
    try:
        assert [path.name for path in root.iterdir()] == ["kept"]
    finally:
        images.driver.remove(container)


def run_bytes(*words: object) -> bytes:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True).stdout


@pytest.mark.parametrize("kind", PACKERS)
def test_others_read_what_was_compressed_in_any_way(
    images: Images, tmp_path: Path, kind: str
) -> None:
    load(images, saved(["app:1"], ONE, TWO, pack=PACKERS[kind]))
    image = images.get("app:1")
    assert image.id == digest(json.dumps(document(ONE, TWO)).encode())
    assert {layer.media_type for layer in image.manifest.layers} == {
        "application/vnd.oci.image.layer.v1.tar"
        + {"gzip": "+gzip", "two gzips": "+gzip", "zstd": "+zstd"}.get(kind, "")
    }
    place = f"{images.store.root}:docker.io/library/app:1"
    assert json.loads(run("skopeo", "inspect", f"oci:{place}"))["Digest"] == image.manifest_digest
    run("skopeo", "copy", "--insecure-policy", f"oci:{place}", f"oci:{tmp_path}/copy:x")
    if kind != "zstd":  # of which Debian's umoci knows nothing
        run("umoci", "unpack", "--image", place, tmp_path / "bundle")
        assert sorted(os.listdir(tmp_path / "bundle/rootfs")) == ["a", "b"]


def test_an_image_without_layers(images: Images, tmp_path: Path) -> None:
    load(images, saved(["none:1"]))
    image = images.get("none:1")
    assert (image.chains, image.size, images.history("none:1")) == ((), 0, [])
    place = f"oci:{images.store.root}:docker.io/library/none:1"
    assert json.loads(run("skopeo", "inspect", place))["Layers"] == []
    container = tmp_path / "container"
    container.mkdir()
    root = images.driver.mount(images.ensure_layers(image), container)
    try:
        assert os.listdir(root) == []
    finally:
        images.driver.remove(container)
    images.remove("none:1", used_by=nobody)
    assert images.list() == []


# %% Finding
def test_by_what_an_image_is_found(images: Images) -> None:
    load(images, saved(["app:1", "someone/app"], ONE))
    image = images.get("app:1")
    for name in (image.id, image.id[7:], image.id[7:19], image.id[:19], "someone/app:latest"):
        assert images.get(name).id == image.id
    assert images.get(f"app@{image.manifest_digest}").id == image.id
    for name in ("nothing", "app", "app:2", "sha256:", "", "app@sha256:" + "0" * 64):
        with pytest.raises(NotFound, match="No such image: "):
            images.get(name)


def test_finding_is_quick(images: Images) -> None:
    load(images, saved(["app:1"], ONE))
    images.get("app:1")
    begun = time.perf_counter()
    for _ in range(100):
        images.get("app:1")
    assert (time.perf_counter() - begun) / 100 < 0.001


def test_another_process_changes_the_store(images: Images, tmp_path: Path) -> None:
    load(images, saved(["app:1"], ONE))
    other = open_images(tmp_path, images.driver.name)
    other.tag("app:1", "app:2")
    assert sorted(images.get("app:2").tags) == ["app:1", "app:2"]


def test_the_shapes_of_the_api(images: Images) -> None:
    load(images, saved(["app:1"], ONE, TWO))
    image = images.get("app:1")
    inspect, short = images.inspect(image.id), summary(image)
    assert inspect["Id"] == short["Id"] == image.id
    assert inspect["RepoTags"] == short["RepoTags"] == ["app:1"]
    assert inspect["Config"]["Cmd"] == ["sh"]
    assert inspect["Created"] == "2024-01-01T00:00:00Z"
    assert short["Created"] == 1704067200
    assert inspect["Size"] == short["Size"] == 5001
    assert inspect["RootFS"] == {"Type": "layers", "Layers": [digest(ONE), digest(TWO)]}
    json.dumps([inspect, short])


def test_a_configuration_is_kept_as_it_came(images: Images) -> None:
    rich = {"config": {"Healthcheck": {"Test": ["NONE"]}, "X-Unknown": [1]}, "x-unknown": {"a": 1}}
    load(images, saved(["app:1"], ONE, **rich))
    data = json.dumps(document(ONE, **rich)).encode()
    assert images.get("app:1").id == digest(data)
    assert images.store.read(digest(data)) == data
    assert images.inspect("app:1")["Config"]["Healthcheck"] == {"Test": ["NONE"]}


def test_the_driver_that_inspect_names(images: Images) -> None:
    load(images, saved(["app:1"], ONE, TWO))
    shown = images.inspect("app:1")["GraphDriver"]
    if images.driver.name == "vfs":
        assert shown == {"Name": "vfs", "Data": None}
        return
    assert shown["Name"] == "overlay2"
    assert os.listdir(shown["Data"]["UpperDir"]) == ["b"]
    assert os.listdir(shown["Data"]["LowerDir"]) == ["a"]


def test_shared_sizes_and_containers(images: Images) -> None:
    load(images, saved(["a"], ONE))
    load(images, saved(["b"], ONE, TWO))
    plain = images.listed({})
    assert {(one["SharedSize"], one["Containers"]) for one in plain} == {(-1, -1)}
    asked = images.listed({"reference": ["b"]}, shared=True, containers=lambda image: 3)
    assert [(one["SharedSize"], one["Size"], one["Containers"]) for one in asked] == [
        (5000, 5001, 3)
    ]


# %% Names that move
def test_the_loser_of_a_name_stays(images: Images) -> None:
    load(images, saved(["app:1"], ONE))
    old = images.get("app:1").id
    heard: list[dict[str, Any]] = []
    images.load(io.BytesIO(saved(["app:1"], TWO)), heard.append)
    words = f"The image app:1 already exists, renaming the old one with ID {old} to empty string\n"
    assert {"stream": words} in heard
    assert images.get(old).tags == []
    assert [one["Id"] for one in images.listed({"dangling": ["true"]})] == [old]
    assert images.driver.has_layer(images.get(old).chains[0])


def test_one_image_in_two_manifests(images: Images) -> None:
    """Neither may lose its blobs when something else is removed."""
    load(images, saved(["app:1"], ONE))
    load(images, saved(["app:2"], ONE, pack=gzip.compress))
    image = images.get("app:2")
    assert image.tags == ["app:1", "app:2"]
    packed = gzip.compress(ONE)
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": len(packed)}
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "", "digest": image.id, "size": 1},
        "layers": [{**layer, "digest": images.store.write(packed)}],
    }
    other = images.store.write(json.dumps(manifest).encode())
    images.store.name(Descriptor("", other, 1), "docker.io/library/app:3")
    load(images, saved(["else"], TWO))
    images.remove("else", used_by=nobody)
    assert images.store.has(other) and images.store.has(digest(packed))
    again = open_images(images.store.root.parent.parent, images.driver.name)
    assert sorted(again.get("app:3").tags) == ["app:1", "app:2", "app:3"]
    again.remove(image.id, force=True, used_by=nobody)
    assert again.list() == []
    assert again.store.digests() == []


# %% Removing
def nobody(image: str) -> list[str]:
    return []


def test_removing_the_last_name_removes_all(images: Images, tmp_path: Path) -> None:
    before = on_disk(tmp_path)
    load(images, saved(["app:1", "app:2"], ONE, TWO))
    image = images.get("app:1")
    assert images.remove("app:1", used_by=nobody) == [{"Untagged": "app:1"}]
    assert images.remove("app:2", used_by=nobody) == [
        {"Untagged": "app:2"},
        {"Deleted": image.id},
        {"Deleted": image.chains[1]},
        {"Deleted": image.chains[0]},
    ]
    assert on_disk(tmp_path) == before


def test_a_shared_layer_stays(images: Images) -> None:
    load(images, saved(["a"], ONE))
    load(images, saved(["b"], ONE, TWO))
    images.remove("b", used_by=nobody)
    image = images.get("a")
    assert images.driver.has_layer(image.chains[0])
    assert images.store.has(image.manifest.layers[0].digest)


def test_a_container_forbids_it(images: Images) -> None:
    load(images, saved(["app:1"], ONE))
    image, user = images.get("app:1"), "c" * 64
    wanted = (
        'conflict: unable to remove repository reference "app:1" (must force) - container'
        f" {user[:12]} is using its referenced image {image.id[7:19]}"
    )
    with pytest.raises(Conflict) as caught:
        images.remove("app:1", used_by=lambda image: [user])
    assert str(caught.value) == wanted
    assert images.remove("app:1", force=True, used_by=lambda image: [user]) == [
        {"Untagged": "app:1"}
    ]
    assert images.driver.has_layer(images.get(image.id).chains[0])


def test_an_id_with_two_names(images: Images) -> None:
    load(images, saved(["app:1", "other:1"], ONE))
    image = images.get("app:1")
    with pytest.raises(Conflict, match="image is referenced in multiple repositories"):
        images.remove(image.id, used_by=nobody)
    images.remove(image.id, force=True, used_by=nobody)
    assert images.list() == []


# %% Importing
def test_import(images: Images) -> None:
    changes = ["CMD echo hi", 'ENTRYPOINT ["/x", "y"]', 'ENV A="b c"', "EXPOSE 80", "USER me"]
    id_ = images.import_rootfs(Socket(gzip.compress(ONE)), "made", changes, "by me")  # type: ignore[arg-type]
    image = images.get("made:latest")
    assert image.id == id_
    run_ = image.config.config
    assert run_.cmd == ("/bin/sh", "-c", "echo hi")
    assert run_.entrypoint == ("/x", "y")
    assert (run_.exposed_ports, run_.user) == ({"80/tcp": {}}, "me")
    assert images.inspect(image.id)["Comment"] == "by me"
    assert run("skopeo", "inspect", f"oci:{images.store.root}:docker.io/library/made:latest")
    with pytest.raises(InvalidParameter):
        images.import_rootfs(io.BytesIO(ONE), "made", ["RUN x"], "")


# %% kill -9
LOADER = """
import sys
from pathlib import Path
from minidock import steps
from tests.integration.images.test_images import open_images
top, driver, title = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
images = open_images(top, driver)
with steps.listening(None, fault=steps.Fault(title, "kill")), open(top / "in.tar", "rb") as archive:
    images.load(archive, lambda message: None)
"""


@pytest.fixture(params=["unpack the archive", "extract a layer", "keep a layer"])
def where(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_a_kill_within_a_load(tmp_path: Path, driver: str, where: str) -> None:
    open_images(tmp_path, driver)
    before = on_disk(tmp_path)
    (tmp_path / "in.tar").write_bytes(saved(["app:1"], ONE, TWO))
    words = [sys.executable, "-c", LOADER, tmp_path, driver, where]
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (tmp_path / "in.tar").unlink()
    images = open_images(tmp_path, driver)
    assert on_disk(tmp_path) == before
    assert images.list() == []


# %% Two at once
def test_removing_while_another_is_loaded(images: Images) -> None:
    """The layer of the one that comes must not go with the one that leaves."""
    load(images, saved(["old"], ONE))
    keep = loader.load

    def slowly(*arguments: Any) -> Any:
        found = keep(*arguments)  # its blobs are in the store, no name leads to them
        images.remove("old", used_by=nobody)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "load", slowly)
        load(images, saved(["new"], ONE, TWO))
    image = images.get("new")
    assert all(images.store.has(layer.digest) for layer in image.manifest.layers)
    assert all(images.driver.has_layer(chain) for chain in image.chains)
