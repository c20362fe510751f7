"""docker-py must not notice that it speaks to MiniDock."""

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.conftest import Daemon

docker = pytest.importorskip("docker")


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Any]:
    connection = docker.DockerClient(base_url=daemon.host, timeout=60)
    yield connection
    connection.close()


def test_run_and_logs(client: Any) -> None:
    assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    container = client.containers.run("busybox", ["sh", "-c", "echo a; echo b"], detach=True)
    assert container.wait()["StatusCode"] == 0
    assert container.logs() == b"a\nb\n"
    assert container.logs(tail=1) == b"b\n"
    container.remove()


def test_errors_have_dockers_kinds(client: Any) -> None:
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("no-such-image")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("no-such-container")
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "exit 3"], remove=True)
    assert failed.value.exit_status == 3


def test_exec_and_top(client: Any) -> None:
    container = client.containers.run("busybox", "sleep 100", detach=True, name="py")
    assert container.exec_run("echo hi") == (0, b"hi\n")
    code, (out, err) = container.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"o\n", b"e\n")
    assert any("sleep 100" in " ".join(row) for row in container.top()["Processes"])
    container.reload()
    assert container.status == "running" and container.name == "py"
    container.stop(timeout=1)
    assert container.wait()["StatusCode"] == 137


def test_listing_and_filters(client: Any) -> None:
    client.containers.run("busybox", "true", name="one", labels={"tier": "x"})
    client.containers.run("busybox", "sleep 100", name="two", detach=True)
    assert [c.name for c in client.containers.list()] == ["two"]
    assert [c.name for c in client.containers.list(all=True, filters={"label": "tier=x"})] == [
        "one"
    ]
    assert [c.name for c in client.containers.list(all=True, filters={"status": "exited"})] == [
        "one"
    ]


def test_images(client: Any) -> None:
    image = client.images.get("busybox")
    assert "busybox:latest" in image.tags
    assert image.tag("py", "1")
    client.images.remove("py:1")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    assert (
        b"sha256:" in client.api.import_image(buffer.getvalue(), repository="py", tag="2").encode()
    )
    client.images.remove("py:2")


def test_system(client: Any) -> None:
    assert client.ping() is True
    assert client.version()["ApiVersion"] == "1.47"
    assert client.info()["OSType"] == "linux"
    assert {network.name for network in client.networks.list()} == {"bridge", "host", "none"}


def test_events_and_stats_of_a_run(client: Any) -> None:
    import time

    since = time.time() - 0.001
    client.containers.run("busybox", "true", remove=True)
    events = client.events(since=since, until=time.time() + 0.1, decode=True)
    actions = [event["Action"] for event in events if event["Type"] == "container"]
    assert actions[0] == "create" and actions[-1] == "destroy"
