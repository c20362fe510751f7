"""Versions of images: commit, save, prune, quota; crashes at every step of them."""

import contextlib
import io
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from minidock import steps
from minidock.errors import Conflict, InvalidParameter, MiniDockError, NotFound
from minidock.images import Images
from minidock.images.commit import Note
from minidock.images.image import Image
from minidock.images.quota import QuotaExceeded
from minidock.paths import Paths
from minidock.spec.image import digest_of
from minidock.unionfs.choice import choose
from minidock.unionfs.pack import pack
from tests.integration.images.test_images import Socket, on_disk, saved, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

BASE = tar({"a": b"1" * 5000, "b": b"2"})


def open_images(top: Path, driver: str = "overlay", quota: int | None = None) -> Images:
    return Images(Paths(top / "root", top / "run"), choose(driver, top / "layers"), quota)


@pytest.fixture(params=["overlay", "vfs"])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> Images:
    images = open_images(tmp_path, request.param)
    load(images, saved(["base:1"], BASE))
    return images


def load(images: Images, data: bytes) -> list[str]:
    return list(images.load(Socket(data), lambda message: None))  # type: ignore[arg-type]


def never(image_id: str) -> list[str]:
    return []


Work = Callable[[Path], object]


def commit(images: Images, base: str, work: Work, name: str | None = None, **note: str) -> Image:
    """What a container of ``base`` would commit after ``work`` on its root."""
    image = images.get(base)
    directory = images.store.root.parent / f"container-{secrets.token_hex(4)}"
    directory.mkdir()
    chains = images.ensure_layers(image)
    try:
        work(images.driver.mount(chains, directory))

        def write(out: BinaryIO) -> None:
            images.driver.pack(chains, directory, out)

        made = images.commit(image, write, image.config.config, Note(**note), name)
        return images.get(made)
    finally:
        images.driver.remove(directory)
        shutil.rmtree(directory)


def tree(images: Images, image: Image) -> dict[str, str]:
    """What a container of the image would see."""
    directory = images.store.root.parent / f"look-{secrets.token_hex(4)}"
    directory.mkdir()
    root = images.driver.mount(images.ensure_layers(image), directory)
    try:
        return {
            str(path.relative_to(root)): path.read_text() if path.is_file() else "/"
            for path in sorted(root.rglob("*"))
        }
    finally:
        images.driver.remove(directory)
        shutil.rmtree(directory)


def nothing(root: Path) -> None:
    """No change."""


# %% Commit
def test_a_commit_is_one_more_layer(images: Images) -> None:
    def work(root: Path) -> None:
        (root / "a").unlink()
        (root / "new").write_text("3")
        (root / "d").mkdir()
        (root / "d/e").write_text("4")

    base = images.get("base:1")
    made = commit(images, "base:1", work, "app:1", author="me", comment="why", created_by="sh -c x")
    assert tree(images, made) == {"b": "2", "d": "/", "d/e": "4", "new": "3"}
    assert made.config.rootfs.diff_ids[:-1] == base.config.rootfs.diff_ids
    assert made.config.history[-1]["comment"] == "why"
    assert made.document["author"] == "me"
    assert made.tags == ["app:1"]
    assert made.manifest.layers[:-1] == base.manifest.layers
    assert images.driver.layer_size(made.chains[-1]) == 2


def test_a_commit_of_nothing_has_no_layer(images: Images) -> None:
    made = commit(images, "base:1", nothing, created_by="true")
    assert made.chains == images.get("base:1").chains
    assert made.config.history[-1]["empty_layer"] is True
    assert made.references == ()


def test_what_we_do_not_know_of_the_base_is_kept(images: Images) -> None:
    load(images, saved(["odd:1"], BASE, variant="v8", **{"os.version": "10.0"}))
    made = commit(images, "odd:1", nothing)
    assert (made.document["variant"], made.document["os.version"]) == ("v8", "10.0")
    assert made.document["architecture"] == "amd64"


def test_a_digest_is_no_name_to_give(images: Images, tmp_path: Path) -> None:
    before = on_disk(tmp_path)
    with pytest.raises(InvalidParameter):
        commit(images, "base:1", nothing, f"app@{digest_of(b'')}")
    assert on_disk(tmp_path) == before


# %% The same tree, the same digest
def plant(root: Path, order: list[str]) -> None:
    for name in order:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    os.link(root / order[0], root / "zz-link")
    os.symlink("nowhere", root / "link")
    os.mkfifo(root / "fifo")
    os.setxattr(root / "x/ü", "user.b", b"1")
    os.setxattr(root / "x/ü", "user.a", b"\xff\x00")
    for path in [root, *root.rglob("*")]:
        os.utime(
            path, ns=(secrets.randbelow(10**18), 1_700_000_000_123_456_789), follow_symlinks=False
        )


def packed(root: Path) -> bytes:
    out = io.BytesIO()
    pack(root, out)
    return out.getvalue()


def test_equal_trees_give_equal_archives(tmp_path: Path) -> None:
    names = ["m", "x/ü", "x/a", "x.y", "Z", "n" * 120]
    archives = []
    for number in range(3):
        order = names[:1] + random.Random(number).sample(names[1:], len(names) - 1)
        (tmp_path / str(number)).mkdir()
        plant(tmp_path / str(number), order)
        archives.append(packed(tmp_path / str(number)))
    assert len(set(archives)) == 1
    with tarfile.open(fileobj=io.BytesIO(archives[0])) as archive:
        members = archive.getmembers()
    found = [member.name for member in members]
    assert found == [
        "Z", "fifo", "link", "m", "n" * 120, "x", "x/a", "x/ü", "x.y", "zz-link",
    ]  # fmt: skip
    long = {member.name for member in members if member.pax_headers}
    assert long == {"n" * 120, "x/ü"}
    assert {member.mtime for member in members} == {1_700_000_000}


def test_a_tree_that_somebody_changes(tmp_path: Path) -> None:
    """Whatever a program does meanwhile, the archive is whole, and nothing of the host is in it."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "d").mkdir(parents=True)
    outside.mkdir()
    (outside / "f").write_text("SECRET")
    stop = threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                (root / "d/f").write_bytes(b"x" * random.choice([0, 10, 200_000]))
                os.truncate(root / "d/f", 5)
                os.rename(root / "d", root / "e")
                os.symlink(outside, root / "d")
                os.unlink(root / "d")
                os.rename(root / "e", root / "d")

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        for _ in range(150):
            data = packed(root)
            assert b"SECRET" not in data
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                archive.getmembers()
    finally:
        stop.set()
        thread.join()


def test_a_tree_that_is_unmounted_meanwhile(images: Images, tmp_path: Path) -> None:
    """A container that ends while it is exported: its root goes, lazily; the archive is whole."""
    directory = tmp_path / "container"
    directory.mkdir()
    root = images.driver.mount(images.ensure_layers(images.get("base:1")), directory)
    (root / "d").mkdir()
    (root / "d/e").write_text("4")

    def ending(
        member: tarfile.TarInfo, status: os.stat_result, path: Path
    ) -> list[tarfile.TarInfo]:
        images.driver.unmount(directory)
        return [member]

    out = io.BytesIO()
    pack(root, out, ending)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert archive.getnames() == ["a", "b", "d", "d/e"]
        content = archive.extractfile("d/e")
        assert content is not None and content.read() == b"4"
    images.driver.remove(directory)


def test_what_is_removed_while_another_is_saved(images: Images, tmp_path: Path) -> None:
    """It waits for the end of that, and then goes."""
    load(images, saved(["other:1"], tar({"o": b"9"})))
    (chain,) = images.get("other:1").chains
    with images.adding():
        images.remove("other:1", used_by=never)
        assert images.driver.has_layer(chain)
    assert not images.driver.has_layer(chain)


def test_paths_that_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    out = io.BytesIO()
    pack(tmp_path, out, without={"/b"})
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert archive.getnames() == ["a", "c"]


# %% Lineage and rubbish
def write(name: str) -> Work:
    return lambda root: (root / name).write_text(name)


def test_history_has_the_ids_to_go_back_to(images: Images) -> None:
    one = commit(images, "base:1", write("one"), created_by="one")
    two = commit(images, one.id, write("two"), "app", created_by="two")
    shown = images.history("app")
    assert [entry["Id"] for entry in shown] == [two.id, one.id]
    assert images.inspect("app")["Parent"] == one.id
    back = images.get(shown[1]["Id"])
    assert sorted(tree(images, back)) == ["a", "b", "one"]


def test_a_nameless_step_is_hidden_and_no_rubbish(images: Images) -> None:
    one = commit(images, "base:1", write("one"), created_by="one")
    assert [entry["Id"] for entry in images.listed({"dangling": ["true"]})] == [one.id]
    two = commit(images, one.id, write("two"), "app", created_by="two")
    assert one.id not in [entry["Id"] for entry in images.listed({})]
    assert one.id in [entry["Id"] for entry in images.listed({}, everything=True)]
    assert images.listed({"dangling": ["true"]}) == []
    assert images.prune({}, never) == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    with pytest.raises(Conflict, match="cannot be forced.*dependent child images"):
        images.remove(one.id, force=True, used_by=never)
    gone = [entry.get("Deleted") for entry in images.remove("app", used_by=never)]
    assert {two.id, one.id} <= set(gone)


def test_ancestors_stay_if_asked_for(images: Images) -> None:
    one = commit(images, "base:1", write("one"), created_by="one")
    commit(images, one.id, write("two"), "app", created_by="two")
    images.remove("app", prune=False, used_by=never)
    assert images.get(one.id).id == one.id


def test_a_parent_loses_its_name_and_stays(images: Images) -> None:
    base = images.get("base:1")
    load(images, saved(["told:1"], BASE, history=[{"created_by": "x"}]))
    told = images.get("told:1")
    commit(images, "told:1", write("n"), "app", created_by="y")
    assert images.remove("told:1", used_by=never) == [{"Untagged": "told:1"}]
    assert images.get(told.id).references == ()
    assert images.get(base.id).tags == ["base:1"]


def test_prune_by_label_time_and_use(images: Images) -> None:
    config = {"config": {"Labels": {"keep": "1"}}}
    load(images, saved([], tar({"x": b"123"}), **config))
    load(images, saved([], tar({"y": b"12345"})))
    marked = next(one for one in images.list() if one.config.config.labels)
    plain = next(one for one in images.list() if not one.references and one.id != marked.id)
    assert images.prune({"until": ["2023-01-01T00:00:00Z"]}, never)["ImagesDeleted"] is None
    assert images.prune({"label!": ["keep"]}, lambda key: [key])["ImagesDeleted"] is None
    done = images.prune({"label!": ["keep"]}, never)
    assert done["SpaceReclaimed"] == 5
    assert [*done["ImagesDeleted"][0].values()] == [plain.id]
    assert images.prune({"label": ["keep=2"]}, never)["ImagesDeleted"] is None
    assert images.prune({"label": ["keep=1"]}, never)["SpaceReclaimed"] == 3
    assert images.prune({"dangling": ["false"]}, never)["SpaceReclaimed"] == 5001
    for bad in (
        {"x": ["1"]},
        {"dangling": ["perhaps"]},
        {"until": ["soon"]},
        {"until": ["1h", "2h"]},
    ):
        with pytest.raises(InvalidParameter):
            images.prune(bad, never)


# %% Save
def archive_of(images: Images, *names: str) -> bytes:
    out = io.BytesIO()
    images.save(images.chosen(names), out)
    return out.getvalue()


def contents(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
    return {name: file.read() for name, file in files.items() if file is not None}


def test_saved_and_loaded_it_is_the_same(images: Images, tmp_path: Path) -> None:
    made = commit(images, "base:1", write("n"), "app:1")
    data = archive_of(images, "app:1", "base:1")
    assert data == archive_of(images, "app:1", "base:1")
    (tmp_path / "other").mkdir()
    other = open_images(tmp_path / "other", images.driver.name)
    assert load(other, data) == ["app:1", "base:1"]
    again = other.get("app:1")
    assert (again.id, again.manifest_digest) == (made.id, made.manifest_digest)
    assert archive_of(other, "app:1", "base:1") == data
    assert tree(other, again) == tree(images, made)


def test_what_is_shared_is_in_it_once(images: Images) -> None:
    commit(images, "base:1", write("n"), "app:1")
    with tarfile.open(fileobj=io.BytesIO(archive_of(images, "app:1", "base:1", "app"))) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    entries = json.loads(contents(archive_of(images, "app:1", "base:1"))["manifest.json"])
    assert entries[0]["Layers"][:1] == entries[1]["Layers"]


def test_names_of_an_archive(images: Images) -> None:
    images.tag("base:1", "base:2")
    images.tag("base:1", "other:1")
    image = images.get("base:1")
    for wanted, tags in (
        (["base"], ["base:1", "base:2"]),
        (["base:2", "base:2"], ["base:2"]),
        ([image.id], None),
        ([image.id[7:19]], None),
        (["other:1", image.id], ["other:1"]),
    ):
        (entry,) = json.loads(contents(archive_of(images, *wanted))["manifest.json"])
        assert entry["RepoTags"] == tags, wanted
    with pytest.raises(NotFound, match="No such image: gone:latest"):
        images.chosen(["base", "gone"])


def test_a_manifest_of_dockers_kind_is_saved_as_one_of_ocis(images: Images) -> None:
    image = images.get("base:1")
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    layer = image.manifest.layers[0]
    text = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": docker,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": image.id,
                "size": image.manifest.config.size,
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "digest": layer.digest,
                    "size": layer.size,
                }
            ],
        }
    ).encode()
    digest = images.store.write(text)
    with images.store.changing() as entries:
        entries[0] |= {"mediaType": docker, "digest": digest, "size": len(text)}
    files = contents(archive_of(images, "base:1"))
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(files[f"blobs/{entry['digest'].replace(':', '/')}"])
    assert (
        entry["mediaType"] == manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    )
    assert manifest["config"]["digest"] == image.id
    assert manifest["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    made = commit(images, "base:1", write("n"))
    assert {
        one.media_type.rpartition("+")[0] or one.media_type for one in made.manifest.layers
    } == {"application/vnd.oci.image.layer.v1.tar"}


# %% Quota
def test_what_exceeds_the_quota_leaves_nothing(tmp_path: Path) -> None:
    images = open_images(tmp_path, quota=40_000)
    load(images, saved(["base:1"], BASE))
    before = on_disk(tmp_path)
    large = tar({"x": secrets.token_bytes(30_000)})

    def big(root: Path) -> None:
        (root / "x").write_bytes(secrets.token_bytes(30_000))

    bomb = tar({"zeros": bytes(10 << 20)})
    import gzip

    attempts: list[Callable[[], object]] = [
        lambda: load(images, saved(["large:1"], large)),
        lambda: load(images, saved(["bomb:1"], bomb, pack=gzip.compress)),
        lambda: images.import_rootfs(io.BytesIO(large), "large:1", [], ""),
        lambda: images.import_rootfs(io.BytesIO(gzip.compress(bomb)), "bomb:1", [], ""),
        lambda: commit(images, "base:1", big, "large:1"),
    ]
    for attempt in attempts:
        with pytest.raises(QuotaExceeded, match="40kB are allowed") as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert on_disk(tmp_path) == before
    commit(images, "base:1", write("small"), "small:1")  # there is room for that
    images.remove("small:1", used_by=never)
    images.remove("base:1", used_by=never)
    load(images, saved(["again:1"], BASE))  # and what was removed has given its room back


# %% Every step fails, and is the last
def act(images: Images, what: str) -> None:
    if what == "commit":
        commit(images, "base:1", write("n"), "app:1")
    elif what == "import":
        images.import_rootfs(io.BytesIO(tar({"i": b"3"})), "imported:1", [], "")
    else:
        archive_of(images, "base:1")


def titles(images: Images, what: str) -> list[str]:
    records: list[steps.Record] = []
    with steps.listening(records.append):
        act(images, what)
    return list(dict.fromkeys(record.title for record in records))


CHILD = """
import sys
from pathlib import Path
from minidock import steps
from tests.integration.images.test_versions import act, open_images
top, driver, what, title = sys.argv[1:]
with steps.listening(None, fault=steps.Fault(title, "kill")):
    act(open_images(Path(top), driver), what)
"""

LEAST = {"commit": 6, "import": 4, "save": 2}
HARMLESS = {"name the image"}  # what comes after it is done


def mounts(top: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(top) in line:
            yield line.split()[4]


@pytest.mark.parametrize("what", LEAST)
def test_each_step_fails(images: Images, tmp_path: Path, what: str) -> None:
    before = on_disk(tmp_path)
    every = titles(open_images(tmp_path, images.driver.name), what)
    assert len(every) >= LEAST[what], every
    forget(images)
    assert on_disk(tmp_path) == before
    for title in every:
        with (
            steps.listening(None, fault=steps.Fault(title, "fail")),
            pytest.raises(MiniDockError, match="injected fault"),
        ):
            act(images, what)
        if title not in HARMLESS:
            assert on_disk(tmp_path) == before, title
        forget(images)


def forget(images: Images) -> None:
    for image in images.list():
        if image.tags != ["base:1"]:
            images.remove(image.id, force=True, used_by=never)


@pytest.mark.parametrize("what", LEAST)
def test_each_step_is_the_last(images: Images, tmp_path: Path, what: str) -> None:
    every = titles(images, what)
    forget(images)
    before = on_disk(tmp_path)
    for title in every:
        arguments = [str(tmp_path), images.driver.name, what, title]
        done = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=False)
        assert done.returncode == -signal.SIGKILL, title
        for place in mounts(tmp_path):  # of the container that the test has made, not the store
            subprocess.run(["umount", place], check=True)
        for left in (tmp_path / "root").glob("container-*"):
            shutil.rmtree(left)
        again = open_images(tmp_path, images.driver.name)
        forget(again)
        assert on_disk(tmp_path) == before, title
        assert again.get("base:1").tags == ["base:1"]
