"""Other people's engines run containers on our runtime: podman, containerd, Docker.

Each does what its users do: run, a terminal, exec, pause, logs, kill, an
exit status, a program that is not there. What they call is the program
``minidock-runtime``, as ``./setup`` installs it.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minidock import cgroups
from minidock.images import bootstrap
from tests.conformance.suites import runtimes
from tests.speed import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LOOP = 'trap "echo bye; exit 5" TERM; while :; do echo tick; sleep 0.1; done'

Command = Callable[..., str]


# %% What all of them need
@pytest.fixture(scope="module")
def runtime() -> Iterator[str]:
    """Our runtime as a program (under the name ``runc``)."""
    with runtimes(["minidock"]) as programs:
        yield programs["minidock"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The busybox image, as ``docker save`` writes it."""
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    bootstrap.make("busybox", path)
    return path


def command(*prefix: str) -> Command:
    """A function that calls ``prefix`` with more words; its output, or an assertion with the error."""

    def call(*words: str, status: int = 0, terminal: bool = False) -> str:
        line = [*prefix, *words]
        if terminal:
            line = ["script", "-qec", " ".join(map(quoted, line)), "/dev/null"]
        done = subprocess.run(
            line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False
        )
        assert done.returncode == status, (line, done.stdout, done.stderr)
        return (done.stdout + done.stderr).replace("\0", "").strip()

    return call


def quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


# %% podman
@pytest.fixture(scope="module", params=["cgroupfs", "systemd"])
def podman(
    request: pytest.FixtureRequest,
    runtime: str,
    archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Command]:
    """podman with directories of its own; this host may not be able to raise its default limits."""
    needs("podman")
    if request.param == "systemd" and not os.path.isdir("/run/systemd/system"):
        pytest.skip("needs a host that was booted with systemd; `nox -s vm` has one")
    place = Path("/var/lib") / f"mdpodman{secrets.token_hex(4)}"
    flags = ["--root", f"{place}/root", "--runroot", f"{place}/run", "--runtime", runtime]
    flags += [
        "--cgroup-manager",
        request.param,
        "--events-backend",
        "file",
        "--tmpdir",
        f"{place}/tmp",
    ]
    call = command("podman", *flags)
    with tarfile.open(archive) as source:
        layer = max(source, key=lambda member: member.size)
        source.extract(layer, tmp_path_factory.mktemp("layer"))
    tree = next(tmp_path_factory.getbasetemp().glob(f"layer*/{layer.name}"))
    call("import", "-q", str(tree), "busybox")
    yield call
    call("rm", "-fa")
    subprocess.run(["umount", "--lazy", f"{place}/root/overlay"], capture_output=True, check=False)
    shutil.rmtree(place)


LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "none")


def test_podman(podman: Command) -> None:
    """Everything that a podman user does with one container."""
    assert podman("run", "--rm", *LIMITS, "busybox", "echo", "hello") == "hello"
    assert "/dev/pts/0" in podman("run", "--rm", "-t", *LIMITS, "busybox", "tty", terminal=True)
    name = f"md{secrets.token_hex(4)}"
    podman("run", "-d", "--name", name, "-m", "64m", *LIMITS, "busybox", "sh", "-c", LOOP)
    assert podman("exec", name, "echo", "inside") == "inside"
    assert "/dev/pts/0" in podman("exec", "-t", name, "tty", terminal=True)
    podman("exec", name, "sh", "-c", "exit 7", status=7)
    podman("pause", name)
    assert podman("inspect", "-f", "{{.State.Status}}", name) == "paused"
    podman("unpause", name)
    podman("kill", "-s", "TERM", name)
    assert podman("wait", name) == "5"
    lines = podman("logs", name).split()
    assert lines[0] == "tick" and lines[-1] == "bye"
    podman("rm", name)


READY = """
import os, socket, time
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
to.connect(os.environ["NOTIFY_SOCKET"])
to.send(b"READY=1")
time.sleep(100)
"""


def test_podman_passes_readiness_on(
    podman: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``--sdnotify=container``: systemd hears from the program itself, through conmon and the runtime."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "manager"))
    manager.settimeout(30)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
    volumes = [
        f"--volume={where}:ro" for where in ("/usr:/usr", "/usr/lib:/lib", "/usr/lib64:/lib64")
    ]
    name = f"md{secrets.token_hex(4)}"
    words = ["/usr/bin/python3", "-I", "-c", READY]
    podman(
        "run", "-d", "--name", name, "--sdnotify=container", *volumes, *LIMITS, "busybox", *words
    )
    heard = b""
    while b"READY=1" not in heard:
        heard += manager.recv(4096) + b" "
    manager.close()
    podman("rm", "-f", "-t", "0", name)


def test_podman_has_its_scope(podman: Command, request: pytest.FixtureRequest) -> None:
    """Where systemd manages cgroups, the container is a scope with podman's limits; else a directory."""
    name = f"md{secrets.token_hex(4)}"
    podman("run", "-d", "--name", name, "-m", "64m", *LIMITS, "busybox", "sleep", "1000")
    container = podman("inspect", "-f", "{{.Id}}", name)
    if "systemd" not in request.node.name:
        assert cgroups.open(f"/libpod_parent/libpod-{container}").pids()
        podman("rm", "-f", "-t", "0", name)
        return
    unit = f"libpod-{container}.scope"
    show = command("systemctl", "show", "--value", unit)
    assert show("-p", "ActiveState") == "active"
    assert show("-p", "Slice") == "machine.slice"
    assert show("-p", "MemoryMax") == str(64 << 20)
    podman("rm", "-f", "-t", "0", name)
    assert show("-p", "LoadState") == "not-found"


def test_podman_refuses(podman: Command) -> None:
    """What is not there is 127; what cannot be run is 126."""
    said = podman("run", "--rm", *LIMITS, "busybox", "nonexistent", status=127)
    assert "executable file not found in $PATH" in said
    podman("run", "--rm", *LIMITS, "busybox", "/etc", status=126)


# %% containerd
@pytest.fixture(scope="module")
def ctr(archive: Path) -> Iterator[Command]:
    """A containerd of our own."""
    needs("containerd", "ctr")
    place = Path("/run") / f"mdctr{secrets.token_hex(4)}"
    place.mkdir()
    root = Path("/var/lib") / place.name
    (place / "config.toml").write_text(
        f'version = 2\nroot = "{root}"\nstate = "{place}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{place}/sock"\n[ttrpc]\naddress = "{place}/sock.ttrpc"\n'
    )
    with open(place / "log", "w") as log:
        daemon = subprocess.Popen(
            ["containerd", "-c", str(place / "config.toml")], stdout=log, stderr=log
        )
    call = command("ctr", "-a", f"{place}/sock")
    try:
        wait_until(lambda: (place / "sock").exists())
        call("image", "import", str(archive))
        yield call
    finally:
        daemon.terminate()
        daemon.wait(30)
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)


def test_containerd(ctr: Command, runtime: str) -> None:
    """``ctr run --runc-binary``: containerd's shim calls us as it calls runc."""
    image, flags = "docker.io/library/busybox:latest", ("--runc-binary", runtime)
    one, two = f"md{secrets.token_hex(4)}", f"md{secrets.token_hex(4)}"
    assert ctr("run", "--rm", *flags, image, one, "echo", "hello") == "hello"
    assert "/dev/pts/0" in ctr("run", "--rm", "-t", *flags, image, one, "tty", terminal=True)
    ctr(
        "run",
        "-d",
        *flags,
        image,
        two,
        "sh",
        "-c",
        'trap "exit 5" TERM; while :; do sleep 0.1; done',
    )
    assert ctr("task", "exec", "--exec-id", "e1", two, "echo", "inside") == "inside"
    # It stays a moment, as ctr sets the size of the window after the start, and drops all if that fails.
    words = ["sh", "-c", "tty; sleep 0.5"]
    assert "/dev/pts/0" in ctr("task", "exec", "-t", "--exec-id", "e2", two, *words, terminal=True)
    ctr("task", "pause", two)
    assert "PAUSED" in ctr("task", "ls")
    ctr("task", "resume", two)
    assert "memory" in ctr("task", "metrics", two)
    assert len(ctr("task", "ps", two).splitlines()) >= 2
    ctr("task", "kill", "-s", "SIGTERM", two)
    wait_until(lambda: "STOPPED" in ctr("task", "ls"))
    assert "exit code 5" in ctr("task", "rm", two)
    ctr("container", "rm", two)


# %% Docker
@pytest.fixture(scope="module")
def docker(runtime: str, archive: Path) -> Iterator[Command]:
    """A dockerd in a network namespace of its own, which knows our runtime by name."""
    needs("dockerd", "docker")
    name = f"mddk{secrets.token_hex(4)}"
    place, data = Path("/run") / name, Path("/var/lib") / name
    place.mkdir()
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    flags = ["-H", f"unix://{place}/sock", "--data-root", str(data), "--pidfile", f"{place}/pid"]
    flags += ["--exec-root", f"{place}/exec", "--add-runtime", f"minidock={runtime}"]
    with open(place / "log", "w") as log:
        daemon = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{name}", "dockerd", *flags], stdout=log, stderr=log
        )
    call = command("docker", "-H", f"unix://{place}/sock")
    try:
        wait_until(lambda: "API listen on" in (place / "log").read_text(), 60)
        call("load", "-q", "-i", str(archive))
        yield call
    finally:
        daemon.terminate()
        daemon.wait(30)
        subprocess.run(["ip", "netns", "delete", name], check=True)
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)


def test_docker(docker: Command) -> None:
    """``docker run --runtime minidock``: dockerd, containerd and its shim over our runtime."""
    ours = ("run", "--runtime", "minidock")
    assert docker(*ours, "--rm", "busybox", "echo", "hello") == "hello"
    assert "/dev/pts/0" in docker(*ours, "--rm", "-t", "busybox", "tty", terminal=True)
    name = f"md{secrets.token_hex(4)}"
    docker(*ours, "-d", "--name", name, "-m", "64m", "busybox", "sh", "-c", LOOP)
    assert docker("exec", name, "echo", "inside") == "inside"
    assert "/dev/pts/0" in docker("exec", "-t", name, "tty", terminal=True)
    docker("exec", name, "sh", "-c", "exit 7", status=7)
    docker("pause", name)
    assert docker("inspect", "-f", "{{.State.Status}}", name) == "paused"
    docker("unpause", name)
    docker("update", "-m", "128m", "--memory-swap", "256m", name)
    docker("stop", name)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", name) == "5"
    lines = docker("logs", name).split()
    assert lines[0] == "tick" and lines[-1] == "bye"
    docker("rm", name)
    said = docker(*ours, "--rm", "busybox", "nonexistent", status=127)
    assert "executable file not found in $PATH" in said
    assert "minidock" in json.loads(docker("info", "-f", "{{json .Runtimes}}"))
