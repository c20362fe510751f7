"""What the API answers must fit Docker's published description of it.

The description is not in this repository: ``$DOCKER_API_SCHEMA`` or
``/work/shared/data/docker-api`` says where it lies; without it these tests
are skipped. Docker itself answers ``null`` where its description says array
or object, so null is let through there.
"""

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Daemon

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

FOLDER = Path(os.environ.get("DOCKER_API_SCHEMA", "/work/shared/data/docker-api"))


@pytest.fixture(scope="module")
def description() -> Any:
    files = sorted([*FOLDER.glob("*1.47*.y*ml"), *FOLDER.glob("*.y*ml")])
    if not files:
        pytest.skip(f"no description of the Engine API in {FOLDER}")
    loaded = yaml.safe_load(files[0].read_text())
    return {"definitions": relax(loaded["definitions"]), "paths": loaded["paths"]}


def relax(schema: Any) -> Any:
    """Null for what is an array, an object or marked as nullable; formats are not checked."""
    if isinstance(schema, list):
        return [relax(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "MemorySwappiness" in schema:  # dockerd answers null, and so do we
        schema = {**schema, "MemorySwappiness": {}}
    relaxed = {
        key: relax(value) for key, value in schema.items() if key not in ("format", "example")
    }
    kind = relaxed.get("type")
    if isinstance(kind, str) and (kind in ("array", "object") or relaxed.get("x-nullable")):
        relaxed["type"] = [kind, "null"]
        if "enum" in relaxed:
            relaxed["enum"] = [*relaxed["enum"], None]
    return relaxed


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def get(daemon: Daemon, path: str, method: str = "GET") -> Any:
    connection = Connection(daemon.socket)
    connection.request(method, f"/v1.47{path}")
    answer = connection.getresponse()
    data = json.loads(answer.read())
    connection.close()
    assert answer.status in (200, 201), data
    return data


PATHS = (
    ("/version", "/version"),
    ("/info", "/info"),
    ("/containers/json?all=1&size=1", "/containers/json"),
    ("/containers/seen/json", "/containers/{id}/json"),
    ("/containers/seen/top", "/containers/{id}/top"),
    ("/containers/seen/changes", "/containers/{id}/changes"),
    ("/images/json", "/images/json"),
    ("/images/busybox/json", "/images/{name}/json"),
    ("/images/busybox/history", "/images/{name}/history"),
    ("/system/df", "/system/df"),
    ("/networks", "/networks"),
    ("/networks/bridge", "/networks/{id}"),
    ("/volumes", "/volumes"),
)


@pytest.mark.parametrize(("path", "template"), PATHS)
def test_answer_fits(daemon: Daemon, description: Any, path: str, template: str) -> None:
    daemon.ok("run", "-d", "--name", "seen", "-p", "0:80", "-l", "a=b", "busybox", "sleep", "100")
    answer = get(daemon, path)
    responses = description["paths"][template]["get"]["responses"]
    schema = relax(responses.get("200", responses.get(200))["schema"])
    schema = {**schema, "definitions": description["definitions"]}
    jsonschema.Draft4Validator(schema).validate(answer)


@pytest.mark.parametrize(
    "kind", ["containers", "images", "networks", "volumes", "build", "commit?container=seen"]
)
def test_answer_to_a_post_fits(daemon: Daemon, description: Any, kind: str) -> None:
    daemon.ok("run", "--name", "seen", "busybox", "true")
    nobody = '?filters={"label":["nobody"]}'
    path = f"/{kind}" if "?" in kind else f"/{kind}/prune{'' if kind == 'build' else nobody}"
    answer = get(daemon, path, "POST")
    responses = description["paths"][path.partition("?")[0]]["post"]["responses"]
    schema = relax(next(one for key, one in responses.items() if str(key) < "300")["schema"])
    schema = {**schema, "definitions": description["definitions"]}
    jsonschema.Draft4Validator(schema).validate(answer)
    if "Id" in answer:
        daemon.ok("rmi", answer["Id"])
