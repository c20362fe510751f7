"""Images through the stock docker command line, and against dockerd where that is installed."""

import io
import json
import os
import pty
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Daemon, archive
from tests.integration.images.test_images import saved, tar


# %% Images to look at
@pytest.fixture
def images(daemon: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """Three images: two layers and labels, one layer, no layer."""
    one, two = tar({"a": b"1" * 5000}), tar({"b": b"2"})
    history = [
        {"created": "2024-01-01T00:00:00Z", "created_by": "add a"},
        {"created": "2024-01-01T00:00:00Z", "created_by": "ENV x", "empty_layer": True},
        {"created": "2024-01-01T00:00:00Z", "created_by": "add b", "comment": "done"},
    ]
    config = {"Labels": {"stage": "test"}, "Healthcheck": {"Test": ["NONE"]}, "Shell": ["/sh"]}
    made = {
        "big": saved(["t/big:1"], one, two, config=config, history=history),
        "small": saved(["t/small:1"], one, created="2024-02-01T00:00:00Z"),
        "none": saved(["t/none:1"], created="2024-03-01T00:00:00Z"),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
        daemon.ok("load", "-i", str(tmp_path / name))
    yield daemon
    for name in daemon.ok("images", "-q", "--no-trunc", "t/*").split():
        daemon.docker("rmi", "-f", name)


def names(daemon: Daemon, *arguments: str) -> list[str]:
    shown = daemon.ok("images", "--format", "{{.Repository}}:{{.Tag}}", *arguments).split()
    return [name for name in shown if "busybox" not in name]


# %% images
def test_filters_of_images(images: Daemon) -> None:
    assert names(images) == ["t/none:1", "t/small:1", "t/big:1"]
    assert names(images, "t/small") == ["t/small:1"]
    assert names(images, "-f", "label=stage") == ["t/big:1"]
    assert names(images, "-f", "before=t/none:1", "-f", "reference=t/*") == ["t/small:1", "t/big:1"]
    assert names(images, "-f", "since=t/small:1", "-f", "reference=t/*") == ["t/none:1"]
    done = images.docker("images", "-f", "dangling=x")
    assert "invalid filter 'dangling=[x]'" in done.stderr


def test_both_clients_show_the_same(images: Daemon) -> None:
    for arguments in (
        ["images"],
        ["images", "-q"],
        ["images", "--digests"],
        ["history", "t/big:1"],
    ):
        ours, theirs = images.minidock(*arguments), images.docker(*arguments)
        assert (ours.returncode, theirs.returncode) == (0, 0)
        assert [line.split() for line in ours.stdout.splitlines()] == [
            line.split() for line in theirs.stdout.splitlines()
        ]


def test_dangling_images_are_shown(images: Daemon, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(saved(["t/small:1"], tar({"z": b"z"})))
    old = images.ok("images", "-q", "--no-trunc", "t/small:1").strip()
    assert "renaming the old one with ID" in images.ok("load", "-i", str(tmp_path / "new"))
    assert images.ok("images", "-q", "--no-trunc", "-f", "dangling=true").strip() == old
    assert "<none>" in images.minidock("images", "-f", "dangling=true").stdout
    images.ok("rmi", old)
    assert images.ok("images", "-q", "-f", "dangling=true") == ""


# %% load
def test_the_bar_of_a_load(daemon: Daemon, tmp_path: Path) -> None:
    layer = tar({"a": os.urandom(3_000_000)})
    for command in (["docker", "-H", daemon.host], ["minidock"]):
        (tmp_path / "x").write_bytes(saved([f"t/bar:{command[0]}"], layer))
        out = on_a_terminal(daemon, [*command, "load", "-i", str(tmp_path / "x")])
        assert b"Loading layer" in out and b"=>]" in out, out
        assert f"Loaded image: t/bar:{command[0]}".encode() in out
        daemon.ok("rmi", f"t/bar:{command[0]}")
    assert daemon.ok("load", "-q", "-i", str(tmp_path / "x")) == "Loaded image: t/bar:minidock\n"
    daemon.ok("rmi", "t/bar:minidock")


def on_a_terminal(daemon: Daemon, command: list[str]) -> bytes:
    words = [sys.executable, "-m", *command] if command[0] == "minidock" else command
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    process = subprocess.Popen(words, stdout=terminal, env=daemon.environment)
    os.close(terminal)
    out = b""
    try:
        while data := os.read(controller, 65536):
            out += data
    except OSError:  # EIO: nobody has the other end any more
        pass
    os.close(controller)
    assert process.wait(20) == 0
    return out


# %% No layers
def test_a_container_of_nothing(images: Daemon) -> None:
    name = images.ok("create", "t/none:1").strip()
    assert images.ok("diff", name) == ""
    done = images.docker("run", "--rm", "t/none:1")
    assert done.returncode == 127
    assert 'exec: "sh": executable file not found in $PATH' in done.stderr
    program = shutil.which("busybox")
    assert program
    out = images.ok(
        "run", "--rm", "-v", f"{program}:/busybox:ro", "t/none:1", "/busybox", "ls", "/"
    )
    assert {"busybox", "dev", "proc", "sys"} <= set(out.split())


# %% import
def test_several_changes(daemon: Daemon) -> None:
    words = ["import", "-c", "CMD x", "-c", "ENV A=b", "-", "t/imported:1"]
    done = subprocess.run(
        ["docker", "-H", daemon.host, *words],
        input=tar({"a": b"1"}),
        capture_output=True,
        check=True,
    )
    (shown,) = json.loads(daemon.ok("image", "inspect", "t/imported:1"))
    assert shown["Id"] == done.stdout.decode().strip()
    assert (shown["Config"]["Cmd"], shown["Config"]["Env"]) == (["/bin/sh", "-c", "x"], ["A=b"])
    daemon.ok("rmi", "t/imported:1")


# %% Against dockerd
@pytest.fixture(scope="module")
def dockerd() -> Iterator[list[str]]:
    """A Docker daemon in a network namespace of its own; the words that call its client."""
    if shutil.which("dockerd") is None:
        pytest.skip("needs dockerd")
    netns = f"mdi{secrets.token_hex(3)}"
    subprocess.run(["ip", "netns", "add", netns], check=True)
    with tempfile.TemporaryDirectory(prefix="mdi", dir="/var/lib") as name:
        top, words = Path(name), ["docker", "-H", f"unix://{name}/docker.sock"]
        places = {"data-root": top / "data", "exec-root": top / "exec", "pidfile": top / "pid"}
        flags = [word for key, place in places.items() for word in (f"--{key}", str(place))]
        command = ["nsenter", f"--net=/run/netns/{netns}", "dockerd", "--bridge", "none", *flags]
        with open(top / "log", "wb") as log:
            process = subprocess.Popen([*command, "-H", words[2]], stdout=log, stderr=log)
        try:
            for _ in range(300):
                if (
                    subprocess.run([*words, "version"], capture_output=True, check=False).returncode
                    == 0
                ):
                    break
                time.sleep(0.1)
            yield words
        finally:
            process.terminate()
            process.wait(30)
            subprocess.run(["ip", "netns", "delete", netns], check=True)


def theirs(words: list[str], *arguments: str, **more: Any) -> str:
    done = subprocess.run([*words, *arguments], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_docker_saves_we_load(daemon: Daemon, dockerd: list[str], tmp_path: Path) -> None:
    """An image of three layers with a whiteout, built and saved by the real thing."""
    theirs(dockerd, "load", "-i", str(archive("busybox")))
    lines = ["FROM busybox", "ADD f /f", "RUN rm /etc/shadow && echo new > /new"]
    lines += ['LABEL a="b"', "HEALTHCHECK CMD true", 'SHELL ["/bin/sh", "-ec"]', "ONBUILD RUN true"]
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    (tmp_path / "f").write_text("file")
    legacy = {**os.environ, "DOCKER_BUILDKIT": "0"}
    theirs(dockerd, "build", "--network", "none", "-t", "t/real:1", str(tmp_path), env=legacy)
    theirs(dockerd, "save", "-o", str(tmp_path / "real.tar"), "t/real:1", "busybox")
    assert "Loaded image: t/real:1" in daemon.ok("load", "-i", str(tmp_path / "real.tar"))
    (wanted,) = json.loads(theirs(dockerd, "inspect", "t/real:1"))
    (got,) = json.loads(daemon.ok("inspect", "t/real:1"))
    for name in ("Id", "RepoTags", "Comment", "Created", "DockerVersion", "Author", "Config",
                 "Architecture", "Os", "Size", "RootFS"):  # fmt: skip
        assert got[name] == wanted[name], name
    shape = "{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}"
    assert (
        daemon.ok("history", "--format", shape, "t/real:1").splitlines()[0]
        == (theirs(dockerd, "history", "--format", shape, "t/real:1").splitlines()[0])
    )
    out = daemon.ok("run", "--rm", "t/real:1", "sh", "-c", "cat /f /new; ls /etc")
    assert out.split() == ["filenew", "group", "hostname", "hosts", "nsswitch.conf", "passwd",
                           "resolv.conf"]  # fmt: skip
    daemon.ok("rmi", "t/real:1")


def test_dockers_words_for_a_rich_configuration(
    daemon: Daemon, dockerd: list[str], tmp_path: Path
) -> None:
    config = {
        "Cmd": ["sh"], "Env": ["A=b"], "Healthcheck": {"Test": ["CMD", "x"], "Interval": 10**9},
        "Shell": ["/x"], "OnBuild": ["RUN x"], "ArgsEscaped": True, "StopTimeout": 5,
        "StopSignal": "SIGINT", "Labels": {"a": "1"}, "X-Unknown": {"y": 1},
    }  # fmt: skip
    layer = tar({"a": b"1"})
    data = saved(["t/rich:1"], layer, config=config, variant="v8", comment="c", **{"x-top": [1]})
    (tmp_path / "rich").write_bytes(data)
    for load in (lambda *words: daemon.ok(*words), lambda *words: theirs(dockerd, *words)):
        load("load", "-i", str(tmp_path / "rich"))
    (got,), (wanted,) = (
        json.loads(daemon.ok("inspect", "t/rich:1")),
        json.loads(theirs(dockerd, "inspect", "t/rich:1")),
    )
    gone = {"Container", "ContainerConfig", "VirtualSize"}  # of versions of the API before 1.44
    other = {"GraphDriver", "RepoDigests", "Metadata"}
    same = set(wanted) - gone - other
    assert {name: got[name] for name in same} == {name: wanted[name] for name in same}
    assert got["GraphDriver"]["Name"] == wanted["GraphDriver"]["Name"] == "overlay2"
    daemon.ok("rmi", "t/rich:1")


def test_an_archive_without_its_end_is_taken_by_both(
    daemon: Daemon, dockerd: list[str], tmp_path: Path
) -> None:
    whole = tar({"a": b"1" * 700})
    with tarfile.open(fileobj=io.BytesIO(whole)) as source:
        end = source.getmembers()[-1].offset_data + 1024
    (tmp_path / "cut").write_bytes(saved(["t/cut:1"], whole[:end]))
    (tmp_path / "torn").write_bytes(saved(["t/torn:1"], whole[: end - 700]))
    for words in (dockerd, ["docker", "-H", daemon.host]):
        theirs(words, "load", "-i", str(tmp_path / "cut"))
        torn = [*words, "load", "-i", str(tmp_path / "torn")]
        assert subprocess.run(torn, capture_output=True, check=False).returncode == 1
        theirs(words, "rmi", "t/cut:1")
