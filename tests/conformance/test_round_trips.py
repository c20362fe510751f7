"""There and back through other people's tools: ids and layers stay what they are.

Each trip takes an image that MiniDock has made (a base with a compressed
layer, two commits on top of it with plain ones, one without a layer) through
another tool, and compares the digest of the configuration, which is the
image's id, and the digests of the uncompressed layers. Before MiniDock gets
it back, it forgets it. The table in ``docs/conformance.md`` is made of
:data:`TRIPS`, and compared with it.
"""

import json
import os
import secrets
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Daemon, archive
from tests.conformance.test_registry_clients import Docker, do, docker, needs, podman
from tests.conformance.test_versions import private
from tests.registries import Registry, digest_of, docker_registry, ours

__all__ = ["docker", "podman"]  # fixtures

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NAME = "trip/app:1"


# %% What must survive
@dataclass(frozen=True)
class Identity:
    """The id, and the digests of the uncompressed layers."""

    id: str
    layers: tuple[str, ...]


@dataclass
class World:
    """MiniDock with the image, what it is, and everybody else."""

    daemon: Daemon
    identity: Identity
    registry: Registry | None
    request: pytest.FixtureRequest
    directory: Path

    def forget(self) -> None:
        """MiniDock has nothing of it any more."""
        for image in self.daemon.ok("images", "-aq", "--no-trunc").split():
            self.daemon.docker("rmi", "-f", image)
        assert self.daemon.ok("images", "-aq") == ""

    def here(self, name: str) -> Identity:
        """What MiniDock has."""
        (shown,) = json.loads(self.daemon.ok("image", "inspect", name))
        return Identity(shown["Id"], tuple(shown["RootFS"]["Layers"]))

    def saved(self) -> str:
        """The image as MiniDock saves it."""
        place = str(self.directory / "saved.tar")
        self.daemon.ok("save", "-o", place, NAME)
        return place

    def load(self, place: str) -> Identity:
        """MiniDock forgets, and loads."""
        self.forget()
        said = self.daemon.ok("load", "-i", place)
        return self.here(said.split(": ", 1)[1].strip())

    def where(self) -> str:
        """A name in the registry."""
        assert self.registry is not None
        return f"{self.registry.address}/trip/{secrets.token_hex(4)}:1"

    def push(self) -> str:
        """MiniDock pushes; the name."""
        where = self.where()
        self.daemon.ok("tag", NAME, where)
        self.daemon.ok("push", where)
        return where

    def pull(self, where: str) -> Identity:
        """MiniDock forgets, and pulls."""
        self.forget()
        self.daemon.ok("pull", where)
        return self.here(where)


# %% docker
def as_docker_knows_it(world: World, name: str) -> Identity:
    shown = json.loads(stock(world)("image", "inspect", name))[0]
    return Identity(shown["Id"], tuple(shown["RootFS"]["Layers"]))


def stock(world: World) -> Docker:
    client = world.request.getfixturevalue("docker")
    assert isinstance(client, Docker)
    return client


def docker_load(world: World) -> Identity:
    stock(world)("load", "-i", world.saved())
    return as_docker_knows_it(world, NAME)


def docker_save(world: World) -> Identity:
    docker_load(world)
    place = str(world.directory / "docker.tar")
    stock(world)("save", "-o", place, NAME)
    return world.load(place)


def docker_pull(world: World) -> Identity:
    where = world.push()
    stock(world)("pull", where)
    return as_docker_knows_it(world, where)


def docker_push(world: World) -> Identity:
    docker_load(world)
    where = world.where()
    stock(world)("tag", NAME, where)
    stock(world)("push", where)
    return world.pull(where)


# %% podman
def pod(world: World, *arguments: str) -> str:
    return do(*world.request.getfixturevalue("podman"), *arguments)


def as_podman_knows_it(world: World, name: str) -> Identity:
    (shown,) = json.loads(pod(world, "image", "inspect", name))
    return Identity(f"sha256:{shown['Id']}", tuple(shown["RootFS"]["Layers"]))


def loaded_by_podman(world: World) -> str:
    """The name that podman gives it, which begins with a registry of its own choice."""
    said = pod(world, "load", "-i", world.saved())
    return said.strip().rpartition(" ")[2]


def podman_load(world: World) -> Identity:
    return as_podman_knows_it(world, loaded_by_podman(world))


def podman_saves(kind: str) -> Callable[[World], Identity]:
    def save(world: World) -> Identity:
        place, name = str(world.directory / "podman.tar"), loaded_by_podman(world)
        pod(world, "save", "--format", kind, "-o", place, name)
        return world.load(place)

    return save


def podman_pull(world: World) -> Identity:
    where = world.push()
    pod(world, "pull", "--tls-verify=false", where)
    return as_podman_knows_it(world, where)


def podman_push(world: World) -> Identity:
    where, name = world.where(), loaded_by_podman(world)
    pod(world, "push", "--tls-verify=false", name, f"docker://{where}")
    return world.pull(where)


# %% skopeo
def as_skopeo_knows_it(source: str, *options: str) -> Identity:
    text = do("skopeo", "inspect", "--config", "--raw", *options, source)
    return Identity(digest_of(text.encode()), tuple(json.loads(text)["rootfs"]["diff_ids"]))


def copy(source: str, target: str) -> str:
    do("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", source, target)
    return target


def skopeo_loads(kind: str) -> Callable[[World], Identity]:
    """Into a directory of skopeo's own, as it is. (From Docker's kind to OCI's it would write anew.)"""

    def load(world: World) -> Identity:
        source = f"{kind}:{world.saved()}"
        assert as_skopeo_knows_it(source) == world.identity
        return as_skopeo_knows_it(copy(source, f"dir:{world.directory}/copied"))

    return load


def skopeo_saves(kind: str) -> Callable[[World], Identity]:
    def save(world: World) -> Identity:
        place = f"{world.directory}/skopeo.tar"
        copy(f"oci-archive:{world.saved()}", f"{kind}:{place}:{NAME}")
        return world.load(place)

    return save


def skopeo_pull(world: World) -> Identity:
    source = f"docker://{world.push()}"
    there = json.loads(do("skopeo", "inspect", "--raw", "--tls-verify=false", source))
    copied = copy(source, f"oci:{world.directory}/pulled:1")
    assert json.loads(do("skopeo", "inspect", "--raw", copied)) == there  # blobs and all
    return as_skopeo_knows_it(copied)


def skopeo_push(world: World) -> Identity:
    where = world.where()
    copy(f"oci-archive:{world.saved()}", f"docker://{where}")
    return world.pull(where)


# %% umoci, which knows layouts only
def unpacked(world: World) -> Path:
    """The archive that MiniDock saves is a layout: unpacked it is a directory for umoci."""
    target = world.directory / "layout"
    with tarfile.open(world.saved()) as tar:
        tar.extractall(target)
    return target


def as_the_layout_has_it(layout: Path, tag: str) -> Identity:
    def blob(digest: str) -> Any:
        data = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
        assert digest_of(data) == digest
        return json.loads(data)

    entries = json.loads((layout / "index.json").read_text())["manifests"]
    key = "org.opencontainers.image.ref.name"
    (found,) = [one["digest"] for one in entries if one["annotations"][key] == tag]
    config = blob(found)["config"]["digest"]
    return Identity(config, tuple(blob(config)["rootfs"]["diff_ids"]))


def umoci_load(world: World) -> Identity:
    layout = unpacked(world)
    do("umoci", "unpack", "--image", f"{layout}:1", f"{world.directory}/bundle")
    assert (world.directory / "bundle/rootfs/two").read_text() == "2\n"
    assert not (world.directory / "bundle/rootfs/bin/vi").exists()
    return as_the_layout_has_it(layout, "1")


def umoci_save(world: World) -> Identity:
    layout = unpacked(world)
    do("umoci", "tag", "--image", f"{layout}:1", "again")
    do("umoci", "rm", "--image", f"{layout}:1")
    do("umoci", "gc", "--layout", str(layout))
    for name in ("manifest.json", "repositories"):
        (layout / name).unlink()
    place = world.directory / "umoci.tar"
    with tarfile.open(place, "w") as tar:
        tar.add(layout, ".")
    return world.load(str(place))


# %% All trips
REGISTRIES = {"ours": "our registry", "debian": "docker-registry"}

TRIPS: dict[tuple[str, str], dict[str, Callable[[World], Identity]]] = {
    ("docker", "push"): dict.fromkeys(REGISTRIES, docker_push),
    ("docker", "pull"): dict.fromkeys(REGISTRIES, docker_pull),
    ("docker", "save"): {"": docker_save},
    ("docker", "load"): {"": docker_load},
    ("podman", "push"): dict.fromkeys(REGISTRIES, podman_push),
    ("podman", "pull"): dict.fromkeys(REGISTRIES, podman_pull),
    ("podman", "save"): {
        "docker-archive": podman_saves("docker-archive"),
        "oci-archive": podman_saves("oci-archive"),
    },
    ("podman", "load"): {"": podman_load},
    ("skopeo", "push"): dict.fromkeys(REGISTRIES, skopeo_push),
    ("skopeo", "pull"): dict.fromkeys(REGISTRIES, skopeo_pull),
    ("skopeo", "save"): {
        "docker-archive": skopeo_saves("docker-archive"),
        "oci-archive": skopeo_saves("oci-archive"),
    },
    ("skopeo", "load"): {
        "docker-archive": skopeo_loads("docker-archive"),
        "oci-archive": skopeo_loads("oci-archive"),
    },
    ("umoci", "save"): {"layout": umoci_save},
    ("umoci", "load"): {"layout": umoci_load},
}

EACH = [
    pytest.param(tool, verb, by, id=" ".join(filter(None, [tool, verb, by])))
    for (tool, verb), ways in TRIPS.items()
    for by in ways
]


def table() -> str:
    """For ``docs/conformance.md``."""
    lines = ["|  | push | pull | save | load |", "| --- | --- | --- | --- | --- |"]
    for tool in dict.fromkeys(tool for tool, _ in TRIPS):
        cells = []
        for verb in ("push", "pull", "save", "load"):
            ways = TRIPS.get((tool, verb))
            by = ", ".join(REGISTRIES.get(one, one) for one in ways or {} if one)
            cells.append("has none" if ways is None else f"same ({by})" if by else "same")
        lines.append(f"| **{tool}** | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# %% The tests
@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon of its own, which may be emptied."""
    with private("mdt") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def made(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image, as an archive; saved once, so that every trip begins with the same."""
    daemon.ok("load", "-i", str(archive("busybox")))
    for command, name in (
        ("rm /bin/vi; echo 1 >/one; ln /one /three; chmod 4755 /one", "trip/one:1"),
        ("echo 2 >/two; mkdir -p /d; touch /d/ü", "trip/two:1"),
        ("true", NAME),
    ):
        base = {"trip/one:1": "busybox", "trip/two:1": "trip/one:1"}.get(name, "trip/two:1")
        daemon.ok("run", "--name", "work", base, "sh", "-c", command)
        daemon.ok("commit", "-m", command, "-c", f'LABEL by="{name}"', "work", name)
        daemon.ok("rm", "work")
    place = tmp_path_factory.mktemp("made") / "made.tar"
    daemon.ok("save", "-o", str(place), NAME)
    return place


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Registry | None]]:
    """Ours and Debian's."""
    directory = tmp_path_factory.mktemp("registries")
    with ExitStack() as stack:
        yield {
            "ours": stack.enter_context(ours(directory / "ours")),
            "debian": stack.enter_context(docker_registry(directory / "debian")),
        }


@pytest.mark.parametrize("tool, verb, by", EACH)
def test_round_trip(
    tool: str,
    verb: str,
    by: str,
    daemon: Daemon,
    made: Path,
    registries: dict[str, Registry | None],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    needs("dockerd" if tool == "docker" else tool)
    if by in registries and registries[by] is None:
        pytest.skip("needs docker-registry")
    world = World(daemon, Identity("", ()), registries.get(by), request, tmp_path)
    world.identity = world.load(str(made))
    assert len(world.identity.layers) == 3
    assert TRIPS[tool, verb][by](world) == world.identity


def test_the_table_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()
    assert table() in text, f"put this into docs/conformance.md:\n{table()}"
