"""Other people's clients against our registry: docker (with its own daemon), skopeo, podman, umoci, curl."""

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.conftest import Daemon, archive
from tests.registries import Registry, digest_of, docker_registry, ours

ENOUGH = 120  # seconds for one command


def do(*command: str, **environment: str) -> str:
    """A command that must succeed; what it prints."""
    done = attempt(*command, **environment)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def attempt(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command that may fail."""
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENOUGH,
        check=False,
    )


def needs(program: str) -> None:
    """Skip where there is none."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One that everybody may use."""
    with ours(tmp_path_factory.mktemp("registry")) as running:
        yield running


ACCESS = """
[groups]
teachers = ["ann"]

[[repository]]
name = "course/*"
read = ["*"]
write = ["@teachers"]

[[repository]]
name = "students/{user}/*"
read = ["{user}", "@teachers"]
write = ["{user}"]
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """With users, rules and TLS: some of it public, so it asks for tokens."""
    directory = tmp_path_factory.mktemp("guarded")
    users(directory / "htpasswd")
    (directory / "access.toml").write_text(ACCESS)
    certificate(directory)
    options = ["--htpasswd", f"{directory}/htpasswd", "--access", f"{directory}/access.toml"]
    options += ["--tls-cert", f"{directory}/cert.pem", "--tls-key", f"{directory}/key.pem"]
    with ours(directory, *options) as running:
        yield running


def users(path: Path) -> None:
    """ann, bob and eve; the password of each is the name and "-secret"."""
    needs("htpasswd")
    do("htpasswd", "-cbB", str(path), "ann", "ann-secret")
    for name in ("bob", "eve"):
        do("htpasswd", "-bB", str(path), name, f"{name}-secret")


def certificate(directory: Path) -> None:
    """For 127.0.0.1, signed by itself."""
    needs("openssl")
    do(
        *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(),
        *["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
        *["-keyout", f"{directory}/key.pem", "-out", f"{directory}/cert.pem"],
    )


# %% docker
class Docker:
    """The stock command line, with a stock daemon and a configuration of its own."""

    def __init__(self, directory: Path) -> None:
        self.environment = {
            "DOCKER_HOST": f"unix://{directory}/docker.sock",
            "DOCKER_CONFIG": str(directory / "config"),
        }

    def __call__(self, *arguments: str) -> str:
        """Must succeed."""
        return do("docker", *arguments, **self.environment)

    def fails(self, *arguments: str) -> str:
        """Must not; what it says."""
        done = attempt("docker", *arguments, **self.environment)
        assert done.returncode != 0, (arguments, done.stdout)
        return done.stderr


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A dockerd that makes no network and no firewall, with the image ``busybox``."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    needs("dockerd")
    directory = tmp_path_factory.mktemp("dockerd")
    with open(directory / "log", "wb") as log:
        daemon = subprocess.Popen(
            [
                "dockerd",
                "-H",
                f"unix://{directory}/docker.sock",
                "--bridge=none",
                "--iptables=false",
            ]
            + ["--ip6tables=false", "--data-root", f"{directory}/data"]
            + ["--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid"],
            stdout=log,
            stderr=log,
        )
    try:
        client = Docker(directory)
        for _ in range(300):
            if attempt("docker", "version", **client.environment).returncode == 0:
                break
            assert daemon.poll() is None, (directory / "log").read_text()[-2000:]
            time.sleep(0.1)
        client("load", "-i", str(archive("busybox")))
        yield client
    finally:
        daemon.terminate()
        daemon.wait(30)


def test_docker_pushes_and_pulls(docker: Docker, registry: Registry) -> None:
    name = f"{registry.address}/library/busybox:{secrets.token_hex(3)}"
    identity = docker("image", "inspect", "-f", "{{.Id}}", "busybox").strip()
    docker("tag", "busybox", name)
    assert "digest: sha256:" in docker("push", name)
    (by_digest,) = json.loads(docker("image", "inspect", "-f", "{{json .RepoDigests}}", name))
    docker("rmi", name, "busybox")
    docker("pull", by_digest)
    assert docker("image", "inspect", "-f", "{{.Id}}", by_digest).strip() == identity
    docker("pull", name)
    assert docker("image", "inspect", "-f", "{{.Id}}", name).strip() == identity
    docker("tag", name, "busybox")


def test_docker_mounts_what_another_repository_has(docker: Docker, registry: Registry) -> None:
    one, two = (f"{registry.address}/{secrets.token_hex(4)}/x" for _ in range(2))
    docker("tag", "busybox", one)
    docker("push", one)
    docker("tag", "busybox", two)
    assert "Mounted from" in docker("push", two)
    docker("rmi", one, two)


def test_docker_searches(docker: Docker, registry: Registry) -> None:
    token = secrets.token_hex(4)
    note = {"annotations": {"org.opencontainers.image.description": "what it is"}}
    registry.push_image(f"find/{token}", "latest", **note)
    found = docker("search", f"{registry.address}/{token}", "--format", "{{json .}}")
    (one,) = map(json.loads, found.splitlines())
    assert (one["Name"], one["Description"]) == (f"find/{token}", "what it is")


def test_docker_with_users_tokens_and_tls(docker: Docker, guarded: Registry) -> None:
    public, private = f"{guarded.address}/course/x", f"{guarded.address}/students/bob/x"
    login = ["login", guarded.address, "-p"]
    assert "unauthorized" in docker.fails(*login, "wrong", "-u", "ann")
    docker("tag", "busybox", public)
    docker("tag", "busybox", private)
    assert "denied" in docker.fails("push", public)
    docker(*login, "ann-secret", "-u", "ann")
    docker("push", public)
    assert "denied" in docker.fails("push", private)
    docker(*login, "bob-secret", "-u", "bob")
    docker("push", private)
    docker("logout", guarded.address)
    docker("rmi", public, private)
    docker("pull", public)  # by anybody
    assert "denied" in docker.fails("pull", private)
    docker(*login, "eve-secret", "-u", "eve")
    assert "denied" in docker.fails("pull", private)
    docker("logout", guarded.address)
    docker("rmi", public)


def test_docker_with_basic_authorisation(docker: Docker, tmp_path: Path) -> None:
    users(tmp_path / "users")
    with ours(tmp_path, "--htpasswd", f"{tmp_path}/users") as registry:
        name = f"{registry.address}/basic/x"
        docker("tag", "busybox", name)
        assert "no basic auth credentials" in docker.fails("push", name)
        assert "401 Unauthorized" in docker.fails(
            "login", registry.address, "-u", "ann", "-p", "wrong"
        )
        docker("login", registry.address, "-u", "ann", "-p", "ann-secret")
        docker("push", name)
        docker("logout", registry.address)
        docker("rmi", name)


# %% skopeo, podman, umoci
def test_skopeo(registry: Registry, tmp_path: Path) -> None:
    needs("skopeo")
    name = f"{registry.address}/skopeo/{secrets.token_hex(3)}"
    source, plain = f"oci-archive:{archive('busybox')}", "--src-tls-verify=false"
    do("skopeo", "copy", "--dest-tls-verify=false", source, f"docker://{name}:v1")
    do(
        "skopeo",
        "copy",
        plain,
        "--dest-tls-verify=false",
        f"docker://{name}:v1",
        f"docker://{name}:v2",
    )
    listed = json.loads(do("skopeo", "list-tags", "--tls-verify=false", f"docker://{name}"))
    assert listed["Tags"] == ["v1", "v2"]
    inspected = json.loads(do("skopeo", "inspect", "--tls-verify=false", f"docker://{name}:v1"))
    do("skopeo", "copy", plain, f"docker://{name}:v2", f"oci:{tmp_path}/copy:v2")
    copied = json.loads(do("skopeo", "inspect", f"oci:{tmp_path}/copy:v2"))
    assert copied["Digest"] == inspected["Digest"]
    do("skopeo", "delete", "--tls-verify=false", f"docker://{name}:v1")
    path = f"/v2/{name.partition('/')[2]}/manifests"
    assert registry.call("GET", f"{path}/v2").status == 404  # skopeo deletes the manifest


def test_a_repository_is_an_oci_layout(registry: Registry) -> None:
    needs("skopeo")
    needs("umoci")
    name = f"layout/{secrets.token_hex(3)}"
    digest = registry.push_image(name, "v1")
    directory = registry.root / "repositories" / name.replace("/", "+")
    raw = do("skopeo", "inspect", "--raw", f"oci:{directory}:v1")
    assert digest_of(raw.encode()) == digest
    assert do("umoci", "ls", "--layout", str(directory)).split() == ["v1"]


@pytest.fixture
def podman() -> Iterator[list[str]]:
    """With directories of its own, whose names must be short."""
    needs("podman")
    with tempfile.TemporaryDirectory(prefix="mdp") as name:
        podman = ["podman", "--root", f"{name}/root", "--runroot", f"{name}/run"]
        podman += ["--storage-driver", "vfs", "--events-backend", "none"]
        do(*podman, "load", "-i", str(archive("busybox")))
        yield podman
        do(*podman, "rmi", "-a", "-f")


def test_podman(podman: list[str], registry: Registry, guarded: Registry, tmp_path: Path) -> None:
    plain, auth = "--tls-verify=false", f"--authfile={tmp_path}/auth.json"
    (image,) = do(*podman, "images", "-q", "--no-trunc").split()
    name = f"{registry.address}/podman/{secrets.token_hex(3)}:v1"
    do(*podman, "push", plain, image, f"docker://{name}")
    do(*podman, "rmi", "-a", "-f")
    do(*podman, "pull", plain, name)
    assert do(*podman, "images", "-q", "--no-trunc").split() == [image]
    found = do(*podman, "search", plain, f"{registry.address}/podman")
    assert name.rpartition(":")[0] in found
    do(*podman, "login", plain, auth, "-u", "bob", "-p", "bob-secret", guarded.address)
    private = f"{guarded.address}/students/bob/p:v1"
    do(*podman, "push", plain, auth, image, f"docker://{private}")
    do(*podman, "pull", plain, auth, private)
    assert attempt(*podman, "pull", plain, private).returncode != 0


def test_podman_pushes_a_list(podman: list[str], registry: Registry) -> None:
    (image,) = do(*podman, "images", "-q", "--no-trunc").split()
    name = f"podman/{secrets.token_hex(3)}"
    do(*podman, "manifest", "create", "both", f"containers-storage:{image[7:]}")
    where = f"docker://{registry.address}/{name}:both"
    do(*podman, "manifest", "push", "--all", "--tls-verify=false", "both", where)
    answer = registry.call("GET", f"/v2/{name}/manifests/both")
    assert answer.json()["manifests"], answer


# %% curl, and what a person can do with it
def test_curl_by_hand(registry: Registry, tmp_path: Path) -> None:
    needs("curl")
    base = f"http://{registry.address}/v2/by/hand"
    data = os.urandom(3 << 20)  # large enough for curl to say Expect: 100-continue
    (tmp_path / "blob").write_bytes(data)
    digest = digest_of(data)
    head = do("curl", "-sfi", "-X", "POST", f"{base}/blobs/uploads/")
    where = next(line.split()[1] for line in head.splitlines() if line.startswith("Location:"))
    url = f"http://{registry.address}{where}?digest={digest}"
    said = attempt(
        "curl", "-sfv", "-T", f"{tmp_path}/blob", "-H", "Expect: 100-continue", url
    ).stderr
    assert "HTTP/1.1 100 Continue" in said
    assert "HTTP/1.1 201 Created" in said
    do("curl", "-sf", "-o", f"{tmp_path}/part", "-r", "1000-1999", f"{base}/blobs/{digest}")
    assert (tmp_path / "part").read_bytes() == data[1000:2000]
    do("curl", "-sf", "-C", "-", "-o", f"{tmp_path}/part2", f"{base}/blobs/{digest}")
    assert (tmp_path / "part2").read_bytes() == data


def test_curl_is_not_asked_for_what_is_refused(guarded: Registry, tmp_path: Path) -> None:
    """``Expect: 100-continue``: the refusal comes instead of the body."""
    needs("curl")
    (tmp_path / "blob").write_bytes(bytes(3 << 20))
    url = f"https://{guarded.address}/v2/course/x/blobs/uploads/?digest={digest_of(b'')}"
    expect = ["-H", "Expect: 100-continue"]
    said = attempt(
        "curl", "-skv", "-X", "POST", "--data-binary", f"@{tmp_path}/blob", *expect, url
    ).stderr
    assert "HTTP/1.1 401 Unauthorized" in said
    assert "100 Continue" not in said
    assert 'WWW-Authenticate: Bearer realm="https://' in said


# %% Our own
@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Ours, with busybox, and a place of its own for passwords."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    daemon = Daemon(tmp_path_factory.mktemp("ours"))
    daemon.environment["DOCKER_CONFIG"] = f"{daemon.directory}/config"
    daemon.start()
    try:
        daemon.ok("load", "-i", str(archive("busybox")))
        yield daemon
    finally:
        daemon.stop()


def test_minidock_searches_and_so_does_docker_through_it(
    daemon: Daemon, registry: Registry
) -> None:
    token = secrets.token_hex(4)
    for name in ("web", "web-app", "my-web", "other"):
        registry.push_image(f"{token}/{name}", "v1")
    for tool in (daemon.docker, daemon.minidock):
        done = tool(
            "search", f"{registry.address}/{token}/", "--format", "{{.Name}}", "--limit", "3"
        )
        assert (done.returncode, len(done.stdout.split())) == (0, 3), done
        done = tool("search", f"{registry.address}/web", "--format", "{{.Name}}")
        found = [one for one in done.stdout.split() if one.startswith(token)]
        assert found == [f"{token}/web", f"{token}/web-app", f"{token}/my-web"]
        assert (
            "outside the range" in tool("search", "--limit", "101", f"{registry.address}/x").stderr
        )
        assert "invalid filter" in tool("search", "-f", "is-red=1", f"{registry.address}/x").stderr


def test_minidock_searches_a_registry_that_has_only_a_catalog(
    daemon: Daemon, tmp_path: Path
) -> None:
    with docker_registry(tmp_path) as other:
        if other is None:
            pytest.skip("needs docker-registry")
        for name in ("one/web", "two/web", "db"):
            other.push_image(name, "v1")
        done = daemon.minidock("search", f"{other.address}/web", "--format", "{{.Name}}")
        assert done.stdout.split() == ["one/web", "two/web"], done


def test_minidock_with_users_tokens_and_tls(daemon: Daemon, guarded: Registry) -> None:
    name = f"{guarded.address}/students/bob/mine:1"

    def minidock(*arguments: str) -> str:
        done = daemon.minidock(*arguments)
        return done.stdout + done.stderr

    minidock("tag", "busybox", name)
    assert "denied: requested access to the resource is denied" in minidock("push", name)
    assert "Succeeded" in minidock("login", "-u", "bob", "-p", "bob-secret", guarded.address)
    assert "digest: sha256:" in minidock("push", name)
    assert "students/bob/mine" in minidock("search", f"{guarded.address}/mine")
    minidock("rmi", name)
    assert "Downloaded newer image" in minidock("pull", name)
    minidock("logout", guarded.address)
    assert "pull access denied" in minidock("pull", name)
    assert "students/bob/mine" not in minidock("search", f"{guarded.address}/mine")
