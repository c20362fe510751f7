"""Pull, push and login over the API: the stock docker command line, docker-py, our own; crashes."""

import contextlib
import functools
import json
import os
import pty
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Daemon, archive
from tests.integration.faults.test_every_step import call, trace
from tests.integration.images.test_images import ONE, TWO, saved
from tests.integration.registry.conftest import Registry, docker_registry, private, registry
from tests.integration.registry.fake import Fake, digest, serving, times
from tests.integration.registry.test_transfers import LARGE, put_image, squeeze
from tests.registries import ours
from tests.speed import wait_until

__all__ = ["private", "registry"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Fake()) as one:
        yield one


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon for a test that counts what is in its store, or kills it."""
    folder = tmp_path / "d"
    folder.mkdir()
    daemon = Daemon(folder)
    daemon.environment["DOCKER_CONFIG"] = str(tmp_path / "config")
    daemon.start()
    try:
        yield daemon
    finally:
        assert daemon.process is not None
        if daemon.process.poll() is None:
            daemon.stop()


def name_for(host: str) -> str:
    return f"{host}/t{secrets.token_hex(4)}:1"


# %% Other people's clients
def test_the_stock_command_line(daemon: Daemon, registry: Registry) -> None:
    name = name_for(registry.host)
    daemon.ok("tag", "busybox", name)
    pushed = daemon.ok("push", name).splitlines()
    assert pushed[0] == f"The push refers to repository [{name[:-2]}]"
    assert pushed[1].endswith(": Preparing") and pushed[2].endswith(": Pushed")
    key = pushed[-1].split()[2]
    assert pushed[-1].startswith(f"1: digest: {key} size: ")
    again = daemon.ok("push", name).splitlines()
    assert again[2].endswith(": Layer already exists") and again[-1] == pushed[-1]
    assert daemon.ok("inspect", "-f", "{{.RepoDigests}}", name).strip() == f"[{name[:-2]}@{key}]"
    image = daemon.ok("inspect", "-f", "{{.Id}}", name)
    daemon.ok("rmi", name)
    up_to_date = daemon.ok("pull", name).splitlines()  # the layers are still those of busybox
    assert up_to_date[0] == f"1: Pulling from {name.partition('/')[2][:-2]}"
    assert "Already exists" in up_to_date[1]
    assert up_to_date[-3:] == [
        f"Digest: {key}",
        f"Status: Downloaded newer image for {name}",
        name,
    ]
    assert daemon.ok("pull", "-q", f"{name[:-2]}@{key}").strip() == f"{name[:-2]}@{key}"
    assert daemon.ok("inspect", "-f", "{{.Id}}", name) == image
    daemon.ok("rmi", name)


def test_errors_are_errors(daemon: Daemon, registry: Registry) -> None:
    name = f"{registry.host}/nothing:1"
    done = daemon.docker("pull", name)
    assert (done.returncode, done.stderr) == (
        1,
        f"Error response from daemon: manifest for {name} not found: manifest unknown: manifest"
        " unknown\n",
    )
    done = daemon.docker("push", name)
    assert done.returncode == 1
    assert done.stderr == f"An image does not exist locally with the tag: {name[:-2]}\n"
    done = daemon.docker("run", "--rm", name, "true")
    assert done.returncode == 125 and f"Unable to find image '{name}' locally" in done.stderr
    assert f"manifest for {name} not found" in done.stderr


def test_docker_py(daemon: Daemon, registry: Registry) -> None:
    docker = pytest.importorskip("docker")
    client = docker.DockerClient(base_url=daemon.host)
    name = name_for(registry.host)
    repository = name[:-2]
    client.images.get("busybox").tag(repository, "1")
    lines = list(client.images.push(repository, tag="1", stream=True, decode=True))
    aux = next(line["aux"] for line in lines if "aux" in line)
    assert (aux["Tag"], aux["Size"] > 100) == ("1", True)
    client.images.remove(name)
    assert client.images.pull(repository, tag="1").attrs["RepoDigests"] == [
        f"{repository}@{aux['Digest']}"
    ]
    data = client.images.get_registry_data(name)
    assert data.id == aux["Digest"] and data.has_platform("linux")
    with pytest.raises(docker.errors.NotFound):
        client.images.pull(repository, tag="2")
    client.images.remove(name)
    client.close()


def test_login_with_the_stock_command_line(
    daemon: Daemon, private: Registry, tmp_path: Path
) -> None:
    def docker(*words: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        command = ["docker", "--config", str(tmp_path), "-H", daemon.host, *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    name = name_for(private.host)
    daemon.ok("tag", "busybox", name)
    assert "no basic auth credentials" in docker("push", name).stderr
    bad = docker("login", "-u", "ann", "--password-stdin", private.host, stdin="wrong")
    assert bad.returncode == 1 and "401 Unauthorized" in bad.stderr
    good = docker("login", "-u", "ann", "--password-stdin", private.host, stdin="secret: word")
    assert (good.returncode, good.stdout) == (0, "Login Succeeded\n"), good.stderr
    assert docker("push", name).returncode == 0
    daemon.ok("rmi", name)
    assert docker("pull", name).returncode == 0
    # Our own command line reads the same file.
    ours = {**daemon.environment, "DOCKER_CONFIG": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "minidock", "push", name],
        env=ours, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    daemon.ok("rmi", name)


# %% Our own command line
def test_our_command_line(own: Daemon, private: Registry) -> None:
    name = name_for(private.host)
    own.ok("load", "-i", str(archive("busybox")))
    own.ok("tag", "busybox", name)
    done = own.minidock("push", name)
    assert done.returncode == 1 and done.stderr.endswith("no basic auth credentials\n")
    login = ("login", "-u", "ann", "--password-stdin", private.host)
    assert "401 Unauthorized" in own.minidock(*login, stdin="wrong\n").stderr
    done = own.minidock(*login, stdin="secret: word\n")
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n")
    assert "stored unencrypted" in done.stderr
    done = own.minidock("push", name)
    assert done.returncode == 0 and done.stdout.splitlines()[2].endswith(": Pushed"), done.stderr
    own.ok("rmi", name, "busybox")
    done = own.minidock("run", "--rm", "--network", "none", name, "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert done.stderr.splitlines()[0] == f"Unable to find image '{name}' locally"
    assert done.stderr.splitlines()[-1] == f"Status: Downloaded newer image for {name}"
    done = own.minidock("pull", "-q", name)
    assert done.stdout == f"{name}\n"
    done = own.minidock("create", "--pull", "always", "--name", "made", name)
    assert f"Status: Image is up to date for {name}" in done.stderr and done.returncode == 0
    own.minidock("rm", "made")
    own.ok("rmi", name)
    done = own.minidock("run", "--rm", "--pull", "never", name, "true")
    assert done.returncode == 125 and "No such image" in done.stderr
    assert "Unable to find" not in done.stderr
    done = own.minidock("run", "--pull", "sometimes", name, "true")
    assert done.returncode == 125 and "must be one of" in done.stderr
    assert own.minidock("logout", private.host).stdout == (
        f"Removing login credentials for {private.host}\n"
    )
    assert own.minidock("pull", name).returncode == 1


def test_a_helper_and_an_insecure_registry(own: Daemon, tmp_path: Path) -> None:
    """A registry without TLS that is not on this machine; who we are, a program keeps for us."""
    bridge, host = f"mdr{secrets.token_hex(3)}", f"198.18.{secrets.randbelow(250)}.1"
    config = Path(own.environment["DOCKER_CONFIG"])
    config.mkdir()
    (config / "config.json").write_text('{"credsStore": "toy"}')
    helper, kept = tmp_path / "docker-credential-toy", tmp_path / "kept"
    helper.write_text(
        f"#!/bin/sh\ncase $1 in store) cat >{kept};; erase) rm {kept};; get) cat {kept} ||"
        " { echo credentials not found in native keychain; exit 1; };; esac\n"
    )
    helper.chmod(0o755)
    own.environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    run = functools.partial(subprocess.run, check=True)
    run(["ip", "link", "add", bridge, "type", "bridge"])
    try:
        run(["ip", "addr", "add", f"{host}/32", "dev", bridge])
        run(["ip", "link", "set", bridge, "up"])
        users = tmp_path / "users"
        run(["htpasswd", "-cbB", users, "ann", "secret"], capture_output=True)
        with ours(tmp_path / "r", "--htpasswd", str(users), listen=f"{host}:0") as registry:
            name = f"{registry.address}/ann/box:1"
            own.ok("load", "-i", str(archive("busybox")))
            own.ok("tag", "busybox", name)
            words = "http: server gave HTTP response to HTTPS client"
            assert words in own.minidock("push", name).stderr
            own.stop()
            own.start("--insecure-registry", f"{host}/32")
            assert "no basic auth credentials" in own.minidock("push", name).stderr
            login = ("login", "-u", "ann", "--password-stdin", registry.address)
            assert own.minidock(*login, stdin="secret\n").stdout == "Login Succeeded\n"
            assert json.loads(kept.read_text())["Secret"] == "secret"
            assert "secret" not in (config / "config.json").read_text()
            assert "digest: sha256:" in own.minidock("push", name).stdout
            stock = ["docker", "-H", own.host, "push", name]  # it reads the same files
            run(stock, env=own.environment, capture_output=True)
            own.minidock("logout", registry.address)
            assert not kept.exists()
            done = run(stock, env=own.environment, capture_output=True, check=False)
            assert b"no basic auth credentials" in done.stderr
    finally:
        run(["ip", "link", "delete", bridge])


def test_bars_on_a_terminal(own: Daemon, fake: Fake) -> None:
    put_image(fake, ONE, LARGE)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "minidock", "pull", f"{fake.host}/x:1"]
    process = subprocess.Popen(command, env=own.environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    assert process.wait() == 0
    assert b"Pulling fs layer" in shown and b"Pull complete" in shown
    assert b"\x1b[2A" in shown  # two lines, of which the upper one was written over
    assert b"Status: Downloaded newer image" in shown


# %% Interruptions
def store_of(daemon: Daemon) -> Path:
    return daemon.directory / "root" / "images"


def check_store(daemon: Daemon) -> None:
    """Nothing is called what it is not, and every image in the index is whole."""
    blobs = store_of(daemon) / "blobs"
    for path in blobs.glob("sha*/[0-9a-f]*"):
        assert digest(path.read_bytes(), path.parent.name) == f"{path.parent.name}:{path.name}"
    for entry in json.loads((store_of(daemon) / "index.json").read_text())["manifests"]:
        manifest = json.loads((blobs / entry["digest"].replace(":", "/")).read_text())
        for one in (manifest["config"], *manifest["layers"]):
            assert (blobs / one["digest"].replace(":", "/")).exists()


def partials(daemon: Daemon) -> list[str]:
    return sorted(path.name for path in (store_of(daemon) / "leases").iterdir())


def test_kill_at_every_step(own: Daemon, fake: Fake) -> None:
    """The daemon dies at each step of a pull; the next one goes on from there."""
    put_image(fake, ONE, TWO, LARGE)
    name = f"{fake.host}/x:1"
    path = f"/images/create?fromImage={fake.host}/x&tag=1"
    token = secrets.token_hex(8)
    with trace(own, token) as records:
        assert call_stream(own, path, {"X-MiniDock-Trace": token})[-1]["status"].startswith(
            "Status"
        )
    titles = list(dict.fromkeys(record["title"] for record in records))
    assert {"ask for the manifest", "take a lease", "download a blob", "extract a layer",
            "keep the blob", "name the image"} <= set(titles)  # fmt: skip
    for title in titles:
        for how in ("fail", "kill"):
            own.ok("rmi", name)
            assert partials(own) == []
            break_at(own, path, how, title)
            own.ok("pull", name)
            check_store(own)
            assert partials(own) == []
            own.ok("inspect", name)


def break_at(daemon: Daemon, path: str, how: str, title: str) -> None:
    """The step fails, or the daemon dies at it and is started again; the store is in order."""
    with contextlib.suppress(Exception):
        call_stream(daemon, path, {"X-MiniDock-Fault": f"{how}={title}"})
    if how == "kill":
        assert daemon.process is not None
        assert daemon.process.wait(10) == -signal.SIGKILL, title
        daemon.start()
    check_store(daemon)


def call_stream(daemon: Daemon, path: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    """``POST``, and the messages that come."""
    from tests.integration.faults.test_every_step import Connection

    connection = Connection(daemon.socket)
    try:
        connection.request("POST", path, headers=headers)
        return [json.loads(line) for line in connection.getresponse() if line.strip()]
    finally:
        connection.close()


def test_kill_in_the_middle_of_a_layer(own: Daemon, fake: Fake) -> None:
    """What was finished is not fetched again; what was half here is taken up."""
    put_image(fake, ONE, LARGE)
    packed = squeeze(LARGE)
    stalled = threading.Event()

    def stall(handler: Any) -> int:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(packed)))
        handler.end_headers()
        handler.wfile.write(packed[:1_000_000])
        handler.wfile.flush()
        stalled.wait(20)
        handler.hang_up()
        return -1

    fake.faults.append(times(1, f"GET .*{digest(packed)}", stall))
    process = subprocess.Popen(["docker", "-H", own.host, "pull", f"{fake.host}/x:1"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    part = store_of(own) / "leases" / f"{digest(packed).replace(':', '-')}.part"
    first = store_of(own) / "blobs" / digest(squeeze(ONE)).replace(":", "/")
    wait_until(lambda: part.exists() and part.stat().st_size >= 900_000 and first.exists())
    own.stop(signal.SIGKILL)
    process.wait(10)
    stalled.set()
    own.start()
    check_store(own)
    fake.log.clear()
    own.ok("pull", f"{fake.host}/x:1")
    assert fake.asked("GET .*/blobs/") == 2  # the configuration and the rest of the large layer
    start = next(one["range"] for one in fake.headers[::-1] if "range" in one)
    assert int(start[len("bytes=") : -1]) >= 900_000
    check_store(own)
    assert partials(own) == []


def test_ctrl_c(own: Daemon, fake: Fake) -> None:
    """The client goes: the pull ends, and what it held is free for the next one."""
    put_image(fake, ONE, LARGE)
    over = threading.Event()

    def slow(handler: Any) -> int:
        data = squeeze(LARGE)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        with contextlib.suppress(OSError):
            for start in range(0, len(data), 20_000):
                handler.wfile.write(data[start : start + 20_000])
                if over.wait(0.05):
                    break
        handler.hang_up()
        return -1

    fake.faults.append(times(1, f"GET .*{digest(squeeze(LARGE))}", slow))
    process = subprocess.Popen(["docker", "-H", own.host, "pull", f"{fake.host}/x:1"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    wait_until(lambda: fake.asked(f"GET .*{digest(squeeze(LARGE))}"))
    process.send_signal(signal.SIGINT)
    process.wait(10)
    begun = time.monotonic()
    own.ok("pull", f"{fake.host}/x:1")
    assert time.monotonic() - begun < 5
    over.set()
    check_store(own)
    assert partials(own) == []


def test_push_fails_at_every_step(own: Daemon, fake: Fake, tmp_path: Path) -> None:
    """Nothing of the image is lost by a push that fails or dies."""
    name = f"{fake.host}/x:1"
    (tmp_path / "in.tar").write_bytes(saved([name], ONE, LARGE))

    def load() -> None:
        own.docker("rmi", name)
        own.ok("load", "-i", str(tmp_path / "in.tar"))
        fake.blobs.clear()

    load()
    image = own.ok("inspect", "-f", "{{.Id}}", name)
    token, path = secrets.token_hex(8), f"/images/{fake.host}/x/push?tag=1"
    with trace(own, token) as records:
        assert "aux" in call_stream(own, path, {"X-MiniDock-Trace": token})[-1]
    titles = list(dict.fromkeys(record["title"] for record in records))
    assert {"compress a layer", "upload a blob", "publish the manifest"} <= set(titles)
    for title in titles:
        for how in ("fail", "kill"):
            load()
            break_at(own, path, how, title)
            assert own.ok("inspect", "-f", "{{.Id}}", name) == image
            own.ok("push", name)
            check_store(own)


# %% Memory
def test_memory_does_not_grow_with_a_layer(own: Daemon, fake: Fake) -> None:
    """A layer of 300 MB costs the daemon no more than one of 30."""
    from tests.integration.images.test_images import tar

    def peak(megabytes: int) -> int:
        data = tar({f"f{n}": bytes(1 << 20) for n in range(megabytes)})
        put_image(fake, data, tag=str(megabytes), pack=bytes, suffix="")
        assert own.process is not None
        Path(f"/proc/{own.process.pid}/clear_refs").write_text("5")  # resets the peak
        own.ok("pull", f"{fake.host}/x:{megabytes}")
        status = Path(f"/proc/{own.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    peak(5)
    assert peak(300) < peak(30) + 30_000


# %% Against a real dockerd, word for word
def test_api_without_a_tag_means_all(daemon: Daemon, registry: Registry) -> None:
    name = name_for(registry.host)
    daemon.ok("tag", "busybox", name)
    daemon.ok("tag", "busybox", f"{name[:-1]}2")
    daemon.ok("push", "-a", name[:-2])
    daemon.ok("rmi", name, f"{name[:-1]}2")
    status, _ = call(daemon, "GET", f"/distribution/{name}/json")
    assert status == 200
    daemon.ok("pull", "-a", name[:-2])
    daemon.ok("rmi", name, f"{name[:-1]}2")


def test_a_registry_that_is_started_and_nothing_in_it(daemon: Daemon, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "empty") as one:
        done = daemon.docker("pull", "-a", f"{one.host}/none")
        assert done.returncode == 1
        assert f"repository {one.host}/none not found: name unknown" in done.stderr
    shutil.rmtree(tmp_path / "empty")


def test_a_header_that_is_nonsense(daemon: Daemon) -> None:
    headers = {"X-Registry-Auth": "!"}
    status, body = call(daemon, "POST", "/images/create?fromImage=x&tag=1", None, headers)
    assert status == 400 and "X-Registry-Auth" in body["message"]
