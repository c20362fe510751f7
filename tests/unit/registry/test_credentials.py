"""Docker's configuration file and its helpers."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from minidock.errors import MiniDockError, Unavailable
from minidock.registry import credentials

HELPER = """#!/bin/sh
# A credential helper that keeps secrets in a directory.
read -r line
place=%s/$(printf %%s "$line" | sed 's/.*"ServerURL": *"\\([^"]*\\)".*/\\1/' | tr '/:' '__')
case $1 in
store) printf %%s "$line" > "$place" ;;
get) cat "$place" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm "$place" ;;
esac
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def config(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())


# %% The file
def test_there_and_back(folder: Path) -> None:
    assert credentials.find("a:1") == {}
    (folder / "config.json").write_text(json.dumps({"detachKeys": "ctrl-a"}))
    where = credentials.store("a:1", {"username": "ann", "password": "p:w"})
    assert where == str(folder / "config.json")
    assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o600
    assert config(folder) == {
        "detachKeys": "ctrl-a",
        "auths": {"a:1": {"auth": base64.b64encode(b"ann:p:w").decode()}},
    }
    found = credentials.find("a:1")
    assert found == {"username": "ann", "password": "p:w", "serveraddress": "a:1"}
    assert credentials.erase("a:1") and not credentials.erase("a:1")
    assert credentials.find("a:1") == {}


def test_an_identity_token(folder: Path) -> None:
    credentials.store("a", {"username": "ann", "password": "pw", "identitytoken": "tok"})
    assert credentials.find("a")["identitytoken"] == "tok"
    assert "pw" not in base64.b64decode(config(folder)["auths"]["a"]["auth"]).decode()


def test_the_default_registry_and_old_urls(folder: Path) -> None:
    credentials.store("docker.io", {"username": "ann", "password": "pw"})
    assert list(config(folder)["auths"]) == ["https://index.docker.io/v1/"]
    assert credentials.find("docker.io")["username"] == "ann"
    auth = base64.b64encode(b"bob:x").decode()
    (folder / "config.json").write_text(json.dumps({"auths": {"https://b/v1/": {"auth": auth}}}))
    assert credentials.find("b")["username"] == "bob"
    assert credentials.erase("b")


def test_a_link_stays_a_link(folder: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.json"
    (folder / "config.json").symlink_to(real)
    credentials.store("a", {"username": "ann", "password": "pw"})
    assert (folder / "config.json").is_symlink() and real.exists()


def test_a_damaged_file(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(MiniDockError, match="Error loading config file"):
        credentials.find("a")


# %% Helpers
@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bin_, kept = tmp_path / "bin", tmp_path / "kept"
    bin_.mkdir()
    kept.mkdir()
    program = bin_ / "docker-credential-test"
    program.write_text(HELPER % kept)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    return kept


@pytest.mark.parametrize("how", [{"credsStore": "test"}, {"credHelpers": {"a:1": "test"}}])
def test_a_helper(folder: Path, helper: Path, how: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(how))
    assert credentials.find("a:1") == {}
    assert credentials.store("a:1", {"username": "ann", "password": "pw"}) == ""
    assert "pw" not in (folder / "config.json").read_text()
    assert credentials.find("a:1") == {
        "username": "ann", "password": "pw", "serveraddress": "a:1"
    }  # fmt: skip
    credentials.store("a:1", {"username": "ann", "password": "pw", "identitytoken": "tok"})
    assert credentials.find("a:1") == {"identitytoken": "tok", "serveraddress": "a:1"}
    assert credentials.erase("a:1")
    assert list(helper.iterdir()) == []


def test_a_helper_that_is_not_there(folder: Path) -> None:
    (folder / "config.json").write_text('{"credsStore": "nosuch"}')
    with pytest.raises(Unavailable, match="executable file not found"):
        credentials.find("a")
