"""Challenges, credentials, settings, proxies: without a network."""

import base64
import json

import pytest

from minidock.errors import InvalidParameter
from minidock.registry.auth import Credentials
from minidock.registry.client import server_domain
from minidock.registry.settings import Settings, proxy_for
from minidock.registry.words import Challenge, challenges, said


# %% Challenges
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        ("Negotiate", [Challenge("negotiate", {})]),
        (
            'Bearer realm="https://a/t?x=1",service="s",scope="repository:a/b:pull,push"',
            [Challenge("bearer", {"realm": "https://a/t?x=1", "service": "s",
                                  "scope": "repository:a/b:pull,push"})],
        ),
        (
            'Basic realm="a, \\"b\\"", Bearer realm=c',
            [Challenge("basic", {"realm": 'a, "b"'}), Challenge("bearer", {"realm": "c"})],
        ),
        ("", []),
        ('="', []),
    ],
)  # fmt: skip
def test_challenges(text: str, found: list[Challenge]) -> None:
    assert challenges([text]) == found


# %% Credentials
def test_credentials_from_a_header() -> None:
    value = {"username": "ann", "password": "ü?>~", "serveraddress": "x"}
    text = base64.urlsafe_b64encode(json.dumps(value, ensure_ascii=False).encode()).decode()
    for one in (text, text.rstrip("=")):
        assert Credentials.from_header(one) == Credentials("ann", "ü?>~", server="x")
    assert Credentials.from_header("") == Credentials.from_header("e30=") == Credentials()
    auth = base64.b64encode(b"bob:a:b").decode()
    assert Credentials.from_json({"auth": auth}) == Credentials("bob", "a:b")
    for bad in ("!", "W10=", base64.b64encode(b"{").decode()):
        with pytest.raises(InvalidParameter):
            Credentials.from_header(bad)


def test_credentials_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("ann", "secret", "secret", "secret"))


# %% Hosts
@pytest.mark.parametrize(
    ("server", "domain"),
    [
        ("", "docker.io"),
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("https://a.b:1/v2/", "a.b:1"),
    ],
)
def test_server_domain(server: str, domain: str) -> None:
    assert server_domain(server) == domain


def test_insecure() -> None:
    assert Settings().is_insecure("127.0.0.1:5000")
    assert Settings().is_insecure("[::1]:5000")
    assert Settings().is_insecure("localhost")
    assert not Settings().is_insecure("192.0.2.1:5000")
    assert Settings(insecure=("192.0.2.0/24",)).is_insecure("192.0.2.1:5000")
    assert Settings(insecure=("192.0.2.1:5000",)).is_insecure("192.0.2.1:5000")
    assert not Settings(insecure=("192.0.2.1:5000",)).is_insecure("192.0.2.1:5001")


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://user@192.0.2.9:3128")
    assert proxy_for("https", "a.invalid:5000") == "192.0.2.9:3128"
    assert proxy_for("http", "a.invalid") == ""
    assert proxy_for("https", "127.0.0.1:5000") == proxy_for("https", "localhost") == ""
    monkeypatch.setenv("NO_PROXY", "b.invalid, .c.invalid,198.51.100.0/24")
    assert proxy_for("https", "x.b.invalid") == proxy_for("https", "c.invalid") == ""
    assert proxy_for("https", "198.51.100.7:443") == ""
    assert proxy_for("https", "bb.invalid") == "192.0.2.9:3128"


# %% Words
def test_said() -> None:
    one = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}
    two = {"code": "DENIED", "message": "no"}
    assert said(json.dumps({"errors": [one]}).encode()) == "manifest unknown: manifest unknown"
    assert said(json.dumps({"errors": [one, two]}).encode()) == (
        "errors:\nmanifest unknown: manifest unknown\ndenied: no"
    )
    assert said(b"<html>") == said(b"[1]") == said(b'{"errors": 3}') == ""
