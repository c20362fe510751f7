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
from minidock.unionfs import choose

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


def saved(
    names: list[str], *layers: bytes, pack: Callable[[bytes], bytes] = bytes, **more: Any
) -> bytes:
    """What `docker save` of old wrote: a manifest.json, a configuration, layers by path."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        **more,
    }
    files = {"config.json": json.dumps(config).encode()}
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
    changes = ["CMD echo hi", 'ENTRYPOINT ["/x", "y"]', "ENV A=b c", "EXPOSE 80", "USER me"]
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
