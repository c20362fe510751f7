"""The registry as a process: killed, raced, flooded, and spoken to badly."""

import hashlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.registries import MANIFEST, OCTETS, Registry, digest_of, image, ours, start


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One for the tests that leave it as it was."""
    with ours(tmp_path_factory.mktemp("registry")) as running:
        yield running


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """``minidock registry …``."""
    return subprocess.run(
        [sys.executable, "-m", "minidock", "registry", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def whole(root: Path) -> int:
    """Every blob under its digest has it, every index names what is there; how many blobs."""
    count = 0
    for path in [*root.glob("blobs/*/*"), *root.glob("repositories/*/blobs/*/*")]:
        assert hashlib.new(path.parent.name, path.read_bytes()).hexdigest() == path.name, path
        count += 1
    for index in root.glob("repositories/*/index.json"):
        for entry in json.loads(index.read_text())["manifests"]:
            blob = index.parent / "blobs" / entry["digest"].replace(":", "/")
            assert blob.stat().st_size == entry["size"]
            manifest = json.loads(blob.read_text())
            for one in [manifest["config"], *manifest["layers"]]:
                assert (index.parent / "blobs" / one["digest"].replace(":", "/")).exists()
    return count


# %% Killed
def test_killed_at_any_moment_nothing_is_half_stored(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    for round_ in range(6):
        registry = start(tmp_path)

        def push(name: str, running: Registry = registry) -> None:
            one = Registry(running.address, running.root, running.process, running.log)
            try:
                while True:
                    one.push_image(name, "v1", data + os.urandom(8))
            except (OSError, http.client.HTTPException):
                one.hang_up()

        threads = [threading.Thread(target=push, args=(f"k/{n}",)) for n in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.3 + random.random() * 0.2)
        registry.kill()
        for thread in threads:
            thread.join(10)
        assert whole(registry.root) > round_
        assert registry.process.stdout is not None
        registry.process.stdout.close()


def test_an_upload_goes_on_after_a_kill(tmp_path: Path) -> None:
    data, name = os.urandom(300_000), "a/b"
    first = start(tmp_path)
    where = first.call("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
    first.call("PATCH", where, data[:100_000], OCTETS)
    first.kill()
    with ours(tmp_path) as second:
        status = second.call("GET", where)
        assert (status.status, status.headers["Range"]) == (204, "0-99999")
        span = {"Content-Range": "100000-299999"}
        assert second.call("PATCH", where, data[100_000:], {**OCTETS, **span}).status == 202
        digest = digest_of(data)
        assert second.call("PUT", f"{where}?digest={digest}").status == 201
        assert second.call("GET", f"/v2/{name}/blobs/{digest}").data == data
    assert first.process.stdout is not None
    first.process.stdout.close()


def test_what_came_of_a_broken_body_is_kept(registry: Registry) -> None:
    where = registry.call("POST", "/v2/broken/blobs/uploads/").headers["Location"]
    host, _, port = registry.address.partition(":")
    with socket.create_connection((host, int(port))) as line:
        head = f"PATCH {where} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        line.sendall(head.encode() + b"x" * 100)
    for _ in range(100):
        if registry.call("GET", where).headers["Range"] == "0-99":
            break
        time.sleep(0.02)
    assert registry.call("PATCH", where, b"y" * 10, {"Content-Range": "100-109"}).status == 202


# %% Garbage
def test_garbage_is_collected_and_what_is_young_is_kept(tmp_path: Path) -> None:
    with ours(tmp_path) as registry:
        kept, gone = registry.push_image("a/kept", "v1"), registry.push_image("a/gone", "v1")
        loose = registry.push_blob("a/kept", b"nobody refers to me")
        registry.call("POST", "/v2/a/kept/blobs/uploads/")
        registry.call("DELETE", f"/v2/a/gone/manifests/{gone}")
        done = command("gc", "--root", str(registry.root))
        assert done.stdout == "threw away 0 manifests, 0 blobs (0B), 0 uploads\n", done
        time.sleep(1.1)
        done = command("gc", "--root", str(registry.root), "--lease", "1", "--dry-run")
        assert done.stdout.startswith("would throw away 0 manifests, 4 blobs"), done
        done = command("gc", "--root", str(registry.root), "--lease", "1")
        assert done.stdout.startswith("threw away 0 manifests, 4 blobs"), done
        assert done.stdout.endswith("1 uploads\n")
        assert registry.call("GET", f"/v2/a/kept/manifests/{kept}").status == 200
        assert registry.call("HEAD", f"/v2/a/kept/blobs/{loose}").status == 404
        whole(registry.root)
        assert len(list(registry.root.glob("blobs/*/*"))) == 3


def test_untagged_manifests_go_unless_something_leads_to_them(tmp_path: Path) -> None:
    with ours(tmp_path) as registry:
        name = "a"
        child, loose = registry.push_image(name, ""), registry.push_image(name, "")
        size = int(registry.call("HEAD", f"/v2/a/manifests/{child}").headers["Content-Length"])
        entry = {"mediaType": MANIFEST, "digest": child, "size": size}
        kind = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}
        registry.push_manifest(name, "v1", index, kind)
        signature = registry.push_image(name, "", subject=entry)
        second = registry.push_image(name, "", subject={**entry, "digest": signature, "size": 1})
        time.sleep(1.1)
        done = command("gc", "--root", str(registry.root), "--lease", "1", "-m")
        assert done.stdout.startswith("threw away 1 manifests, 3 blobs"), done
        for digest in (child, signature, second):
            assert registry.call("GET", f"/v2/a/manifests/{digest}").status == 200
        assert registry.call("GET", f"/v2/a/manifests/{loose}").status == 404


def test_a_collector_that_never_rests_takes_nothing_from_a_push(tmp_path: Path) -> None:
    """Pushes with pauses, deletes and mounts, while garbage is collected all the time."""
    lease = 1.5
    with ours(tmp_path, "--lease", "2") as registry:
        over, failures = threading.Event(), list[str]()

        def collector() -> None:
            from minidock.registry.gc import collect
            from minidock.registry.storage import Storage
            from minidock.registry.storage_uploads import Uploads

            storage = Storage(registry.root, lease)
            while not over.is_set():
                collect(storage, Uploads(storage), untagged=True)

        def pusher(number: int) -> None:
            try:
                push(number)
            except (AssertionError, OSError) as error:
                failures.append(str(error))

        def push(number: int) -> None:
            dice = random.Random(number)
            one = Registry(registry.address, registry.root, registry.process, registry.log)
            shared = [f"shared {n}".encode() for n in range(4)]
            while not over.is_set():
                name, data = f"r/{dice.randrange(3)}", dice.choice(shared)
                digest = digest_of(data)
                if one.call("HEAD", f"/v2/{name}/blobs/{digest}").status == 404:
                    query = f"mount={digest}&from=r/{dice.randrange(3)}"
                    if one.call("POST", f"/v2/{name}/blobs/uploads/?{query}").status == 202:
                        one.push_blob(name, data)
                config = one.push_blob(name, os.urandom(20))
                time.sleep(dice.random() * 0.3)  # less than half a lease
                body = json.dumps(
                    {
                        "schemaVersion": 2,
                        "config": {"digest": config, "size": 20, "mediaType": "x"},
                        "layers": [{"digest": digest, "size": len(data), "mediaType": "x"}],
                    }
                ).encode()
                tag = f"t{dice.randrange(3)}"
                answer = one.call("PUT", f"/v2/{name}/manifests/{tag}", body)
                if answer.status != 201:
                    failures.append(answer.data.decode())
                if dice.random() < 0.5:
                    one.call("DELETE", f"/v2/{name}/manifests/{tag}")
            one.hang_up()

        threads = [threading.Thread(target=collector)]
        threads += [threading.Thread(target=pusher, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(6)
        over.set()
        for thread in threads:
            thread.join(20)
        assert not failures, failures[0]
        whole(registry.root)


def test_an_unreadable_manifest_stops_the_collector(tmp_path: Path) -> None:
    with ours(tmp_path) as registry:
        digest = registry.push_image("a", "v1")
        layer = registry.push_blob("a", b"loose")
        path = registry.root / "repositories/a/blobs" / digest.replace(":", "/")
        path.chmod(0o644)
        path.write_bytes(b"damaged")
        time.sleep(1.1)
        done = command("gc", "--root", str(registry.root), "--lease", "1")
        assert done.returncode == 1
        assert "cannot be read" in done.stderr
        assert registry.call("GET", f"/v2/a/blobs/{layer}").status == 200


def test_a_damaged_index_is_said_to_be_one(tmp_path: Path) -> None:
    with ours(tmp_path) as registry:
        registry.push_image("a", "v1")
        index = registry.root / "repositories/a/index.json"
        index.write_text("{}")
        answer = registry.call("GET", "/v2/a/manifests/v1")
        assert (answer.status, b"index.json: damaged" in answer.data) == (500, True)
        assert command("gc", "--root", str(registry.root)).returncode == 1


# %% Large, many, slow
def memory(pid: int) -> int:
    """Bytes that a process has in memory: the most it ever had."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) << 10


def test_memory_does_not_grow_with_the_blob(tmp_path: Path) -> None:
    def pieces(count: int) -> Iterator[bytes]:
        for number in range(count):
            yield number.to_bytes(4, "big") * (1 << 18)

    with ours(tmp_path) as registry:
        peaks = []
        for count in (4, 150):
            digest = hashlib.sha256()
            for piece in pieces(count):
                digest.update(piece)
            name = f"sha256:{digest.hexdigest()}"
            where = registry.call("POST", "/v2/large/blobs/uploads/").headers["Location"]
            assert registry.call("PATCH", where, pieces(count), OCTETS).status == 202
            assert registry.call("PUT", f"{where}?digest={name}").status == 201
            assert len(registry.call("GET", f"/v2/large/blobs/{name}").data) == count << 20
            peaks.append(memory(registry.process.pid))
        assert peaks[1] - peaks[0] < 6 << 20, peaks


def at_once(count: int, action: Callable[[int], None]) -> None:
    """In so many threads; what one of them raises is raised."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(action, range(count)))


def test_many_at_once(registry: Registry) -> None:
    digest = registry.push_blob("many", os.urandom(100_000))
    wrong = []

    def pull(_: int) -> None:
        one = Registry(registry.address, registry.root, registry.process, registry.log)
        for _ in range(5):
            if digest_of(one.call("GET", f"/v2/many/blobs/{digest}").data) != digest:
                wrong.append(1)
        one.hang_up()

    at_once(40, pull)
    assert not wrong


def test_the_same_blob_from_many_at_once(registry: Registry) -> None:
    data, statuses = os.urandom(500_000), []

    def push(number: int) -> None:
        one = Registry(registry.address, registry.root, registry.process, registry.log)
        query = f"digest={digest_of(data)}"
        statuses.append(
            one.call("POST", f"/v2/same/{number % 2}/blobs/uploads/?{query}", data).status
        )
        one.hang_up()

    at_once(8, push)
    assert statuses == [201] * 8
    whole(registry.root)


def test_tags_of_one_repository_from_many_at_once(registry: Registry) -> None:
    digest = registry.push_image("race", "t")
    data = registry.call("GET", f"/v2/race/manifests/{digest}").data

    def push(number: int) -> None:
        one = Registry(registry.address, registry.root, registry.process, registry.log)
        for turn in range(5):
            one.push_manifest("race", f"t{number}.{turn}", data)
        one.hang_up()

    at_once(6, push)
    assert len(registry.call("GET", "/v2/race/tags/list").json()["tags"]) == 31


# %% Options
def test_read_only(tmp_path: Path) -> None:
    with ours(tmp_path) as registry:
        digest = registry.push_image("a", "v1")
    with ours(tmp_path, "--read-only") as registry:
        assert registry.call("GET", "/v2/a/manifests/v1").status == 200
        answer = registry.call("POST", "/v2/a/blobs/uploads/")
        assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"])
        assert registry.call("DELETE", f"/v2/a/manifests/{digest}").status == 405


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-l", "5000"], "invalid address '5000' for --listen"),
        (["-l", "127.0.0.1:99999"], "invalid address"),
        (["--tls-cert", "/x"], "--tls-key"),
        (["--tls-cert", "/x", "--tls-key", "/y"], "--tls-cert /x"),
        (["--htpasswd", "/missing"], "/missing: No such file"),
        (["--access", "/proc/version"], "/proc/version: not TOML"),
        (["more"], "accepts no arguments"),
    ],
)
def test_bad_options_are_one_line(options: list[str], words: str, tmp_path: Path) -> None:
    done = command("serve", "--root", str(tmp_path), *options)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(registry: Registry, tmp_path: Path) -> None:
    done = command("serve", "--root", str(tmp_path), "-l", registry.address)
    assert "Address already in use" in done.stderr


def test_it_ends_when_told(tmp_path: Path) -> None:
    registry = start(tmp_path)
    registry.call("GET", "/v2/")  # a connection that is kept does not keep it alive
    registry.process.terminate()
    assert registry.process.wait(5) == 0
    registry.hang_up()
    assert registry.process.stdout is not None
    registry.process.stdout.close()


# %% HTTP, well and badly spoken
def speak(registry: Registry, data: bytes, seconds: float = 5) -> bytes:
    """Send bytes, say no more, and take what comes."""
    host, _, port = registry.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := line.recv(65536):
            answer += piece
        return answer


def test_requests_one_after_the_other_on_one_line(registry: Registry) -> None:
    digest = registry.push_blob("pipe", b"0123456789")
    get = f"GET /v2/pipe/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    post = b"POST /v2/pipe/blobs/uploads/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    answer = speak(registry, get + post + get)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"HTTP/1.1 202 Accepted") == 1
    assert answer.endswith(b"0123456789")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: +3",
        b"Content-Length: 3_0",
        b"Content-Length: \xb2",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding : chunked",
        b" folded: yes",
        b"no colon",
    ],
)
def test_what_could_smuggle_a_request_is_refused(registry: Registry, head: bytes) -> None:
    answer = speak(registry, b"POST /v2/x/blobs/uploads/ HTTP/1.1\r\n" + head + b"\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("size", [b"-1", b"+5", b"0x5", b"5_0", b"", b"g", b" "])
def test_bad_chunks(registry: Registry, size: bytes) -> None:
    where = registry.call("POST", "/v2/chunks/blobs/uploads/").headers["Location"]
    head = f"PATCH {where} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    answer = speak(registry, head + size + b"\r\nabcde\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert registry.call("GET", where).headers["Range"] == "0-0"


WORDS = st.sampled_from(
    [
        "GET",
        "PUT",
        "/v2/",
        "a",
        "..",
        "/",
        "%2f",
        "%",
        "%00",
        "sha256:",
        "0" * 64,
        "blobs",
        "manifests",
    ]
    + [
        "uploads",
        "?",
        "&",
        "=",
        "n",
        "last",
        "digest",
        "mount",
        "from",
        "tags/list",
        "_catalog",
        "HTTP/1.1",
    ]
    + [
        "\r\n",
        " ",
        ":",
        "Range: bytes=",
        "-",
        "5",
        "Content-Range: ",
        "Host: x",
        "Expect: 100-continue",
    ]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(WORDS, max_size=14).map("".join) | st.text(max_size=40))
def test_any_target_gets_an_answer(registry: Registry, text: str) -> None:
    target = "".join(one for one in text if one not in " \r\n") or "/"
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
        line = f"{method} /v2/{target} HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        answer = speak(registry, line.encode())
        status = int(answer.split()[1])
        assert 200 <= status < 500, (line, answer)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(WORDS, max_size=20).map(lambda words: "".join(words).encode())
    | st.binary(max_size=300)
)
def test_any_bytes_are_survived(registry: Registry, data: bytes) -> None:
    answer = speak(registry, data + b"\r\n\r\n")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer
    assert b" 500 " not in answer[:20]


def test_it_still_answers_and_has_complained_of_nothing(registry: Registry) -> None:
    """After all of the above."""
    assert registry.call("GET", "/v2/").status == 200
    assert "Traceback" not in registry.log.read_text()
    assert image(registry, "pipe", registry.push_blob("pipe", b"{}"), [])["schemaVersion"] == 2
