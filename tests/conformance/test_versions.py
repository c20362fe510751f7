"""Versions, through other people's clients: diff, commit, history, save, export, prune, df."""

import io
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Daemon, archive, docker_28
from tests.conformance.test_images import dockerd
from tests.integration.faults.test_every_step import call, revive, trace
from tests.registries import ours

__all__ = ["dockerd"]  # a fixture

docker_py = pytest.importorskip("docker")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WORK = "echo 1 >/new; rm /bin/vi; mkdir -p /d/e; chmod 1777 /root"


@contextmanager
def private(prefix: str) -> Iterator[Daemon]:
    """A daemon whose images may all be removed."""
    if shutil.which("docker") is None:
        pytest.skip("needs the docker command line")
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        daemon = Daemon(Path(name))
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.remove_everything()
            daemon.stop()


@pytest.fixture(scope="module")
def own_daemon() -> Iterator[Daemon]:
    """One for this module."""
    with private("mdv") as daemon:
        yield daemon


@pytest.fixture
def own(own_daemon: Daemon) -> Iterator[Daemon]:
    """With busybox alone."""
    own_daemon.ok("load", "-i", str(archive("busybox")))
    yield own_daemon
    own_daemon.remove_everything()
    for image in own_daemon.ok("images", "-aq", "--no-trunc").split():
        own_daemon.docker("rmi", "-f", image)


def inspected(daemon: Daemon, name: str) -> dict[str, Any]:
    return dict(json.loads(daemon.ok("image", "inspect", name))[0])


# %% diff
def test_diff(own: Daemon) -> None:
    own.ok("run", "--name", "box", "busybox", "sh", "-c", WORK)
    expected = ["A /d", "A /d/e", "A /new", "C /bin", "C /root", "D /bin/vi"]
    assert sorted(own.ok("diff", "box").splitlines()) == expected
    assert own.minidock("diff", "box").stdout == own.ok("diff", "box")


def test_what_the_engine_puts_there_is_no_change(own: Daemon, tmp_path: Path) -> None:
    flags = ["--init", "-v", f"{tmp_path}:/mnt/x", "--tmpfs", "/run/y", "-h", "me"]
    own.ok("run", "--name", "box", *flags, "busybox", "true")
    # As with Docker, directories on the way to a mount point are the container's own.
    assert set(own.ok("diff", "box").splitlines()) <= {"A /mnt", "A /run"}
    own.ok("commit", "box", "plain")
    with tarfile.open(fileobj=io.BytesIO(exported(own, "save", "plain"))) as saved:
        (entry,) = json.load(saved.extractfile("manifest.json") or io.BytesIO())
        top = saved.extractfile(entry["Layers"][-1])
        assert top is not None
        if len(entry["Layers"]) > 1:
            with tarfile.open(fileobj=top) as layer:
                assert set(layer.getnames()) <= {"mnt", "run"}


# %% commit
CHANGES = {
    'CMD ["cat", "/new"]': ("Cmd", ["cat", "/new"]),
    "ENTRYPOINT": ("Entrypoint", None),
    "ENV A=1 B='2 3'": ("Env", ["A=1", "B=2 3"]),
    "EXPOSE 80/udp": ("ExposedPorts", {"80/udp": {}}),
    'LABEL a="b c"': ("Labels", {"a": "b c"}),
    "ONBUILD RUN x": ("OnBuild", ["RUN x"]),
    "USER 1:1": ("User", "1:1"),
    "VOLUME /v": ("Volumes", {"/v": {}}),
    "WORKDIR /d/e": ("WorkingDir", "/d/e"),
    "STOPSIGNAL SIGQUIT": ("StopSignal", "SIGQUIT"),
    "HEALTHCHECK --interval=5s CMD true": (
        "Healthcheck",
        {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000},
    ),
    'SHELL ["/bin/ash", "-c"]': ("Shell", ["/bin/ash", "-c"]),
}


@pytest.mark.parametrize("client", ["docker", "minidock"])
def test_commit(own: Daemon, client: str) -> None:
    own.ok("run", "--name", "box", "busybox", "sh", "-c", WORK)
    words = [word for line in CHANGES if line != "ENTRYPOINT" for word in ("-c", line)]
    about = ["-a", "me <me@example.org>", "-m", "why not", *words]
    done = getattr(own, client)("commit", *about, "box", "app:2")
    assert done.returncode == 0, done.stderr
    shown = inspected(own, "app:2")
    assert done.stdout.strip() == shown["Id"]
    assert (shown["Author"], shown["Comment"]) == ("me <me@example.org>", "why not")
    assert shown["Parent"] == inspected(own, "busybox")["Id"]
    for field, value in CHANGES.values():
        found = shown["Config"].get(field)
        assert (
            [one for one in found if one[:4] != "PATH"] == value
            if field == "Env"
            else found == value
        )
    assert own.ok("run", "--rm", "app:2") == "1\n"
    newest, *_ = own.ok(
        "history", "--format", "{{.ID}} {{.Comment}}", "--no-trunc", "app:2"
    ).splitlines()
    assert newest == f"{shown['Id']} why not"


def test_commit_in_dockers_words(own: Daemon) -> None:
    own.ok("run", "--name", "box", "busybox", "true")
    for arguments, words in (
        (["none", "app"], "No such container: none"),
        (["box", "App"], "invalid reference format"),
        (["-c", "RUN x", "box"], "RUN is not a valid change command"),
    ):
        done = own.docker("commit", *arguments)
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    before = own.ok("images", "-aq")
    own.docker("commit", "-c", "EXPOSE http", "box", "app")
    assert own.ok("images", "-aq") == before


def test_a_container_stands_still_for_its_commit(own: Daemon) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i >/a; echo $i >/b; done"
    own.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    own.ok("events", "--since", "0", "--until", "0")
    since = str(time.time())
    own.ok("commit", "box", "app")
    told = own.ok(
        *["events", "--since", since, "--until", str(time.time() + 1), "--format", "{{.Action}}"]
    ).split()
    assert told[:3] == ["pause", "unpause", "commit"]
    assert own.ok("inspect", "-f", "{{.State.Status}}", "box") == "running\n"
    own.ok("commit", "--pause=false", "box", "app")
    own.ok("pause", "box")
    own.ok("commit", "box", "app")
    assert own.ok("inspect", "-f", "{{.State.Status}}", "box") == "paused\n"


def test_two_commits_at_once(own: Daemon) -> None:
    """The one that ends first does not let the container go on: the other still reads."""
    script = "dd if=/dev/zero of=/big bs=1M count=300 2>/dev/null; touch /done; sleep 1000"
    own.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    while own.docker("exec", "box", "ls", "/done").returncode:
        time.sleep(0.05)
    since = str(time.time())
    commits = []
    for name in ("app:1", "app:2"):
        command = ["docker", "-H", own.host, "commit", "box", name]
        commits.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        while own.ok("inspect", "-f", "{{.State.Status}}", "box") == "running\n":
            assert commits[0].poll() is None
    assert [one.wait() for one in commits] == [0, 0]
    until = ("--since", since, "--until", str(time.time() + 1), "--format", "{{.Action}}")
    told = [one for one in own.ok("events", *until).split() if "exec" not in one]
    assert told == ["pause", "commit", "unpause", "commit"]
    assert own.ok("inspect", "-f", "{{.State.Status}}", "box") == "running\n"


def test_roll_back(own: Daemon) -> None:
    """Two commits without names; the first is found in the history and run again."""
    base = "busybox"
    for text in ("one", "two"):
        own.ok("run", "--name", "box", base, "sh", "-c", f"echo {text} >/state")
        base = own.ok("commit", "box").strip()
        own.ok("rm", "box")
    ids = own.ok("history", "-q", "--no-trunc", base).split()
    states = [own.ok("run", "--rm", one, "sh", "-c", "cat /state || echo none") for one in ids]
    assert states == ["two\n", "one\n", "none\n"]
    assert own.ok("images", "-q", "--no-trunc", "-f", "dangling=true").split() == [base]
    own.ok("rmi", base)
    assert own.ok("images", "-aq", "--no-trunc").split() == [ids[2]]


def test_docker_py(own: Daemon) -> None:
    client = docker_py.DockerClient(base_url=own.host, timeout=60)
    try:
        container = client.containers.run("busybox", ["sh", "-c", WORK], detach=True, name="box")
        container.wait()
        image = container.commit("app", "3", message="m", author="a", changes=["ENV X=y"])
        assert image.tags == ["app:3"]
        assert image.attrs["Parent"] == client.images.get("busybox").id
        conf = container.commit("app", "4", conf={"Cmd": ["cat", "/new"], "Labels": {"l": "1"}})
        assert (conf.attrs["Config"]["Cmd"], conf.labels) == (["cat", "/new"], {"l": "1"})
        assert client.containers.run(conf.id, remove=True) == b"1\n"
        assert {one["Path"] for one in container.diff()} >= {"/new", "/bin/vi"}
        data = b"".join(image.save(named=True))
        container.remove()
        client.images.remove("app:3")
        (again,) = client.images.load(data)
        assert (again.id, again.tags) == (image.id, ["app:3"])
        client.images.remove("app:4")
        assert client.df()["LayersSize"] > 0
        assert client.images.prune({"dangling": False})["SpaceReclaimed"] > 0
        assert client.images.list() == []
        assert client.containers.prune()["SpaceReclaimed"] == 0
    finally:
        client.close()


# %% save, export
def exported(daemon: Daemon, *words: str) -> bytes:
    done = subprocess.run(["docker", "-H", daemon.host, *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("running", [True, False])
def test_export(own: Daemon, tmp_path: Path, running: bool) -> None:
    command = f"{WORK}; sleep {100 if running else 0}"
    own.ok("run", "-d", "--name", "box", "-v", f"{tmp_path}:/mnt", "busybox", "sh", "-c", command)
    (tmp_path / "secret").touch()
    if not running:
        own.ok("wait", "box")
    for _ in range(100):
        if "/d/e" in own.ok("diff", "box"):
            break
        time.sleep(0.05)
    data = exported(own, "export", "box")
    with tarfile.open(fileobj=io.BytesIO(data)) as tree:
        names = set(tree.getnames())
    assert {"new", "d/e", "bin/[", "mnt", "etc/passwd"} <= names
    assert not {"bin/vi", "mnt/secret", "proc/1"} & names
    place = tmp_path / "tree.tar"
    assert own.minidock("export", "-o", str(place), "box").returncode == 0
    with tarfile.open(place) as tree:
        assert set(tree.getnames()) == names
    flat = ["import", "-m", "flat", "--platform", "linux/arm64/v8", str(place), "flat:1"]
    own.ok(*flat)
    shown = inspected(own, "flat:1")
    assert [shown[name] for name in ("Architecture", "Variant", "Comment")] == [
        "arm64",
        "v8",
        "flat",
    ]
    assert own.ok("run", "--rm", "flat:1", "cat", "/new") == "1\n"


def test_save_in_dockers_words(own: Daemon, tmp_path: Path) -> None:
    place = tmp_path / "x.tar"
    for client in (own.docker, own.minidock):
        done = client("save", "-o", str(place), "busybox", "none:1")
        assert (done.returncode, "No such image: none:1" in done.stderr) == (1, True)
        assert list(tmp_path.iterdir()) == []
        assert client("save", "-o", str(place), "busybox").returncode == 0
        assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
        place.unlink()


def test_a_real_dockerd_loads_it(own: Daemon, dockerd: list[str], tmp_path: Path) -> None:
    own.ok("run", "--name", "box", "busybox", "sh", "-c", WORK)
    own.ok("commit", "-c", 'CMD ["x"]', "box", "md/a:1")
    own.ok("tag", "md/a:1", "md/a:2")
    own.ok("save", "-o", str(tmp_path / "x"), "md/a", "busybox")
    said = subprocess.run(
        [*dockerd, "load", "-i", str(tmp_path / "x")], capture_output=True, check=True
    )
    assert b"Loaded image: md/a:1" in said.stdout and b"Loaded image: md/a:2" in said.stdout
    for name in ("md/a:2", "busybox:latest"):
        theirs = subprocess.run(
            [*dockerd, "image", "inspect", name], capture_output=True, check=True
        )
        ours, shown = inspected(own, name), json.loads(theirs.stdout)[0]
        for field in ("Id", "Config", "Comment", "RootFS", "RepoTags", "Parent"):
            if field != "RepoTags" or name != "busybox:latest":
                assert shown[field] == ours[field] or field in ("Config", "Parent"), field
        for field in ("Cmd", "Env", "Labels"):
            assert shown["Config"][field] == ours["Config"][field]
    subprocess.run([*dockerd, "rmi", "md/a:1", "md/a:2"], capture_output=True, check=True)


# %% df, prune, the long names
def test_system_df(own: Daemon) -> None:
    own.ok("run", "--name", "box", "busybox", "sh", "-c", "head -c 1000000 /dev/zero >/zeros")
    own.ok("commit", "box", "app")
    rows = [line.split() for line in own.ok("system", "df").splitlines()[1:3]]
    assert (rows[0][:3], rows[1][:4]) == (["Images", "2", "1"], ["Containers", "1", "0", "1MB"])
    shown = own.ok("system", "df", "-v")
    assert "1MB" in next(line for line in shown.splitlines() if line.startswith("app "))
    status, found = call(own, "GET", "/system/df?type=image")
    assert (status, found["Containers"]) == (200, None)
    assert call(own, "GET", "/system/df?type=x")[0] == 400


@docker_28
def test_system_df_in_dockers_words(own: Daemon) -> None:
    own.ok("run", "--name", "box", "busybox", "sh", "-c", "head -c 1000000 /dev/zero >/zeros")
    own.ok("commit", "box", "app")
    for arguments in (["system", "df"], ["system", "df", "-v"]):
        ours = own.minidock(*arguments)
        theirs = own.ok(*arguments)
        assert columns(ours.stdout) == columns(theirs), ours.stderr
    only = json.loads(own.ok("system", "df", "--format", "json").splitlines()[0])
    assert (
        json.loads(own.minidock("system", "df", "--format", "json").stdout.splitlines()[0]) == only
    )


def columns(text: str) -> list[list[str]]:
    """Without the ages, which go on."""
    words = [
        line.replace("Less than a second ago", "1 second ago").split() for line in text.splitlines()
    ]
    return [
        [word for word in line if not word.isdigit() and "second" not in word] for line in words
    ]


@pytest.mark.parametrize("client", ["docker", "minidock"])
def test_prune(own: Daemon, client: str) -> None:
    def prune(*arguments: str, stdin: str | None = None) -> str:
        done = getattr(own, client)(*arguments, stdin=stdin)
        return str(done.stdout + done.stderr)

    own.ok("run", "--name", "box", "--label", "a=b", "busybox", "sh", "-c", "echo 12345 >/x")
    image = own.ok("commit", "box").strip()
    assert "Total reclaimed space: 0B" in prune("container", "prune", "-f", "--filter", "label=z")
    assert "Total reclaimed space: 0B" in prune("container", "prune", "-f", "--filter", "until=1h")
    assert "Total reclaimed space: 6B" in prune("container", "prune", "-f")
    assert own.ok("ps", "-aq") == ""
    said = prune("image", "prune", "-f")
    assert f"deleted: {image}" in said and "Total reclaimed space: 6B" in said
    assert "reclaimed" not in prune("system", "prune", stdin="n\n")
    assert own.ok("images", "-q") != ""
    said = prune("system", "prune", "-a", stdin="y\n")
    assert "untagged: busybox:latest" in said and "WARNING! This will remove:" in said
    assert own.ok("images", "-aq") == ""
    assert "invalid filter 'x'" in prune("image", "prune", "-f", "--filter", "x=1")


@docker_28
def test_the_words_of_a_warning_are_dockers(own: Daemon) -> None:
    for arguments in (
        ["container", "prune"],
        ["image", "prune"],
        ["image", "prune", "-a"],
        ["system", "prune", "--filter", "label=x"],
        ["system", "prune", "-a", "--volumes"],
    ):
        ours = own.minidock(*arguments, stdin="n\n")
        theirs = own.docker(*arguments, stdin="n\n")
        assert ours.stdout == theirs.stdout, arguments
        assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr), arguments


def test_the_long_names(own: Daemon) -> None:
    own.ok("run", "--name", "box", "busybox", "true")
    for arguments in (
        ["image", "ls", "-q"],
        ["image", "history", "-q", "busybox"],
        ["image", "inspect", "-f", "{{.Id}}", "busybox"],
        ["image", "inspect", "none"],
        ["container", "ls", "-aq"],
        ["container", "inspect", "-f", "{{.Name}}", "box"],
        ["container", "inspect", "busybox"],
        ["container", "diff", "box"],
        ["image", "rm", "busybox"],
        ["image", "rm", "none"],
    ):
        ours, theirs = own.minidock(*arguments), own.docker(*arguments)
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), arguments
    assert own.minidock("image", "tag", "busybox", "b:2").returncode == 0
    assert own.minidock("container", "commit", "box", "b:3").returncode == 0
    assert own.minidock("image", "rm", "b:2", "b:3").returncode == 0
    assert own.minidock("container", "rm", "box").returncode == 0


# %% The quota
def test_the_quota_of_a_daemon(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="mdq"))
    daemon = Daemon(place)
    daemon.environment["MINIDOCK_STORE_QUOTA"] = "6M"
    daemon.start()
    try:
        daemon.ok("load", "-i", str(archive("busybox")))
        daemon.ok("run", "--name", "box", "busybox", "sh", "-c", "head -c 5000000 /dev/urandom >/x")
        before = daemon.ok("images", "-aq")
        done = daemon.docker("commit", "box", "large")
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "the quota of the image store is exceeded: 6.29MB are allowed" in line
        done = daemon.docker("load", "-i", str(archive("debian:bookworm")))
        assert (done.returncode, "quota of the image store" in done.stderr) == (1, True)
        assert daemon.ok("images", "-aq") == before
        assert list((place / "root/images").glob(".load-*")) == []
    finally:
        daemon.remove_everything()
        daemon.stop()
        shutil.rmtree(place)


def test_a_pull_beyond_the_quota_leaves_nothing(tmp_path: Path) -> None:
    """Neither partial blobs, nor a lease on what was finished: it would not fit tomorrow either."""
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    place = Path(tempfile.mkdtemp(prefix="mdq"))
    daemon = Daemon(place)
    daemon.environment["MINIDOCK_STORE_QUOTA"] = "30M"
    with ours(tmp_path) as registry:
        name = f"{registry.address}/large:1"
        source = f"oci-archive:{archive('debian:bookworm')}"
        copy = ["skopeo", "copy", "--dest-tls-verify=false", source, f"docker://{name}"]
        subprocess.run(copy, check=True, capture_output=True)
        daemon.start()
        try:
            daemon.ok("load", "-i", str(archive("busybox")))
            before = on_disk(daemon)
            done = daemon.docker("pull", name)
            assert (done.returncode, "quota of the image store" in done.stderr) == (1, True), done
            assert on_disk(daemon) == before
            assert list((place / "root/images/leases").iterdir()) == []
        finally:
            daemon.stop()
            shutil.rmtree(place)


def test_a_quota_that_is_none(tmp_path: Path) -> None:
    environment = {**os.environ, "MINIDOCK_RUN": str(tmp_path), "MINIDOCK_ROOT": str(tmp_path)}
    done = subprocess.run(
        [shutil.which("python3") or "python3", "-m", "minidock", "daemon", "--store-quota", "much"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "invalid size 'much' for --store-quota: want e.g. 500M or 2G" in done.stderr


# %% Every step of a commit fails, and is the last
def commit(daemon: Daemon, headers: dict[str, str]) -> int:
    status, _ = call(daemon, "POST", "/commit?container=box&repo=app", None, headers)
    return status


def on_disk(daemon: Daemon) -> list[str]:
    root = daemon.directory / "root"
    places = [root / "images", root / "layers"]
    found = [str(path) for place in places for path in place.rglob("*") if path.name != ".lock"]
    return sorted(path for path in found if "/overlay/" not in path or path.count("/") < 8)


@pytest.fixture
def working(own: Daemon) -> Iterator[Daemon]:
    """A container that runs, and titles of the steps of its commit."""
    own.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo 1 >/x; exec sleep 1000")
    yield own
    own.remove_everything()


def titles(daemon: Daemon) -> list[str]:
    token = secrets.token_hex(8)
    with trace(daemon, token) as records:
        assert commit(daemon, {"X-MiniDock-Trace": token}) == 201
    daemon.ok("rmi", "app")
    return list(dict.fromkeys(record["title"] for record in records))


def test_each_step_of_a_commit_fails(working: Daemon) -> None:
    before, every = on_disk(working), titles(working)
    assert {"freeze the container", "pack the changes", "write the image"} <= set(every)
    assert on_disk(working) == before
    for title in every:
        assert commit(working, {"X-MiniDock-Fault": f"fail={title}"}) >= 400
        working.docker("rmi", "-f", "app")
        assert on_disk(working) == before, title
        assert working.ok("inspect", "-f", "{{.State.Status}}", "box") == "running\n", title
        assert not list((working.directory / "root/containers").glob("*/frozen-*"))
    assert commit(working, {}) == 201


def test_each_step_of_a_commit_is_the_last(working: Daemon) -> None:
    before, every = on_disk(working), titles(working)
    for title in every:
        with pytest.raises(Exception):  # noqa: B017, PT011 (however a dead daemon looks to http)
            commit(working, {"X-MiniDock-Fault": f"kill={title}"})
        revive(working)
        assert working.ok("inspect", "-f", "{{.State.Status}}", "box") == "running\n", title
        working.docker("rmi", "-f", "app")
        assert on_disk(working) == before, title
    assert commit(working, {}) == 201


def test_a_save_that_fails_has_no_end(own: Daemon) -> None:
    for how in ("fail", "kill"):
        headers = {"X-MiniDock-Fault": f"{how}=save a blob"}
        with pytest.raises(Exception):  # noqa: B017, PT011
            call(own, "GET", "/images/get?names=busybox", None, headers)
        revive(own)
    assert exported(own, "save", "busybox")


@pytest.mark.parametrize("head", ["Transfer-Encoding: chunked", "Content-Length: 9"])
def test_an_archive_that_is_cut_off_leaves_no_file(tmp_path: Path, head: str) -> None:
    """A daemon that dies in the middle: the end must not be taken for the end."""
    place = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        client = subprocess.Popen(
            [sys.executable, "-m", "minidock", "save", "-o", str(tmp_path / "x.tar"), "busybox"],
            env={**os.environ, "MINIDOCK_HOST": f"unix://{place}"},
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listener.accept()
        connection.recv(4096)
        body = "4\r\n1234\r\n" if "chunked" in head else "1234"
        connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}".encode())
        connection.close()
        _, said = client.communicate(timeout=20)
    assert (client.returncode, "hung up in the middle" in said) == (1, True), said
    assert [path.name for path in tmp_path.iterdir()] == ["sock"]


def test_clients_of_before_1_44_look_at_the_virtual_size(own: Daemon) -> None:
    for path in ("/images/json", "/images/busybox/json", "/system/df"):
        for version, there in (("v1.41", True), ("v1.47", False)):
            body = call(own, "GET", f"/{version}{path}")[1]
            image = (
                body["Images"][0]
                if "Images" in body
                else body[0]
                if isinstance(body, list)
                else body
            )
            assert (image.get("VirtualSize") == image["Size"]) == there, (path, version)
