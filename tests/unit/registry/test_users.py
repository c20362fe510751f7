"""Users, rules and tokens."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import cast

import pytest

from minidock.body import Body
from minidock.errors import InvalidParameter
from minidock.linux.crypt import crypt
from minidock.registry.codes import RegistryError
from minidock.registry.server_access import Caller, Door
from minidock.registry.server_users import (
    NOBODY,
    Users,
    Watched,
    read_htpasswd,
    read_rules,
)
from minidock.server import Connection, Request

BCRYPT = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"  # of "secret"
RULES = """
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
delete = []
[[repository]]
name = "shared"
read = ["+"]
"""


# %% Passwords
def test_crypt_knows_what_others_know() -> None:
    assert crypt("secret", BCRYPT) == BCRYPT
    assert crypt("Secret", BCRYPT) != BCRYPT
    assert crypt("x", "$nonsense") == crypt("x", "") == crypt("x\0", BCRYPT) == ""
    assert crypt("x", NOBODY) not in ("", NOBODY)  # takes as long as a real one
    assert crypt("geheim", "$6$saltsalt$").startswith("$6$saltsalt$")


def test_htpasswd_as_apache_writes_it(tmp_path: Path) -> None:
    if shutil.which("htpasswd") is None:
        pytest.skip("needs htpasswd")
    path = tmp_path / "users"
    subprocess.run(["htpasswd", "-cbB", path, "ann", "pass:wörd"], check=True, capture_output=True)
    users = Users(path, print)
    assert users.check("ann", "pass:wörd")
    assert users.check("ann", "pass:wörd")  # remembered
    assert not users.check("ann", "pass")
    assert not users.check("bob", "pass:wörd")


@pytest.mark.parametrize(
    "known", ["{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "$apr1$abc$0123456789", "x", ""]
)
def test_weak_hashes_are_refused_by_line_and_name(known: str) -> None:
    with pytest.raises(InvalidParameter, match="line 2: the hash of bob .*htpasswd -B"):
        read_htpasswd(f"# users\nbob:{known}\n")


def test_a_line_that_is_none() -> None:
    with pytest.raises(InvalidParameter, match="line 1"):
        read_htpasswd("bob\n")


def test_a_new_user_is_let_in_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    path, said = tmp_path / "users", list[str]()
    path.write_text(f"ann:{BCRYPT}\n")
    users = Users(path, said.append)
    assert users.check("ann", "secret")
    path.write_text(f"ann:{BCRYPT}\nbob:{BCRYPT}\n")
    assert users.check("bob", "secret")
    path.write_text("ann:{SHA}x\n")
    assert users.check("bob", "secret")
    assert "what was in it before holds" in said[0]
    path.write_text(f"bob:{BCRYPT}\n")
    assert not users.check("ann", "secret")  # although it was right before


# %% Rules
def test_rules() -> None:
    rules = read_rules(RULES)
    cases = [
        (None, "read", "course/a/b", True),
        (None, "write", "course/a", False),
        ("ann", "write", "course/a", True),
        ("ann", "delete", "course/a", True),
        ("bob", "read", "students/bob/x", True),
        ("bob", "write", "students/bob/x/y", True),
        ("bob", "delete", "students/bob/x", False),
        ("ann", "read", "students/bob/x", True),
        ("ann", "write", "students/bob/x", False),
        ("eve", "read", "students/bob/x", False),
        (None, "read", "students/bob/x", False),
        ("{user}", "read", "students/bob/x", False),
        ("bob", "read", "shared", True),
        (None, "read", "shared", False),
        ("ann", "read", "other", False),
    ]
    for user, action, name, expected in cases:
        assert rules.allow(user, action, name) is expected, (user, action, name)
    assert rules.public


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "not TOML"),
        ("[repo]", "unknown: repo"),
        ("[[repository]]\nread = ['*']", "without a name"),
        ("[[repository]]\nname = 'a'\nreed = ['*']", "unknown in a rule: reed"),
        ("[[repository]]\nname = 'a'\nread = '*'", "read: want a list"),
        ("[[repository]]\nname = 'a'\nread = ['@x']", "@x in the rule for a: no such group"),
    ],
)
def test_bad_rules(text: str, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        read_rules(text)


# %% Tokens
def request(authorization: str = "", *scopes: str, host: str = "127.0.0.1:5000") -> Request:
    headers = {"authorization": authorization, "host": host}
    pairs = [("scope", scope) for scope in scopes]
    body = Body(cast(object, None), 0, False)  # type: ignore[arg-type]
    return Request("GET", "/", dict(pairs), headers, body, cast(Connection, None), pairs)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    (tmp_path / "users").write_text(f"ann:{BCRYPT}\nbob:{BCRYPT}\n")
    (tmp_path / "rules").write_text(RULES)
    users = Users(tmp_path / "users", print)
    return Door(users, Watched(tmp_path / "rules", read_rules, print), tls=False)


def token(door: Door, user: str | None, *scopes: str) -> str:
    return str(door.token(Caller(user, named=True), request("", *scopes)).json["token"])


def test_a_token_is_for_what_was_asked_and_is_allowed(door: Door) -> None:
    text = token(
        door, "bob", "repository:students/bob/x:push,pull", "repository:course/y:pull,push"
    )
    caller = door.who(request(f"Bearer {text}"))
    assert caller.user == "bob"
    assert caller.grants == {
        ("students/bob/x", "push"),
        ("students/bob/x", "pull"),
        ("course/y", "pull"),
    }
    door.demand(caller, request(), "push", "students/bob/x")
    with pytest.raises(RegistryError) as caught:  # allowed, but not by this token
        door.demand(caller, request(), "pull", "students/bob/z")
    assert caught.value.code == "UNAUTHORIZED"
    assert 'scope="repository:students/bob/z:pull"' in caught.value.headers["WWW-Authenticate"]
    with pytest.raises(RegistryError) as caught:
        door.demand(caller, request(), "push", "course/y")
    assert caught.value.code == "DENIED"


def test_a_token_that_was_changed_or_is_another_servers(door: Door, tmp_path: Path) -> None:
    text = token(door, "bob", "repository:course/y:pull")
    head, claims, signature = text.split(".")
    other = token(Door(Users(tmp_path / "users", print), None, False), "bob")
    for bad in (
        f"{head}.{claims[:-2]}AA.{signature}",
        other,
        "",
        "a.b.c",
        f"{claims}.{signature}",
        "é",
    ):
        with pytest.raises(RegistryError) as caught:
            door.who(request(f"Bearer {bad}"))
        assert caught.value.code == "UNAUTHORIZED"


def test_a_token_ends(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    text = token(door, "bob")
    monkeypatch.setattr("time.time", lambda: os.stat("/").st_ctime + 10**10)
    with pytest.raises(RegistryError, match="expired"):
        door.who(request(f"Bearer {text}"))


def test_the_challenge_does_not_repeat_what_a_stranger_says(door: Door) -> None:
    for host in ('x",realm="http://evil', "a b", "", "x\r\ny: z"):
        words = door.challenge(request(host=host), "x").headers["WWW-Authenticate"]
        assert words.startswith('Bearer realm="http://localhost/token",')


def test_basic(door: Door) -> None:
    assert door.who(request("Basic YW5uOnNlY3JldA==")).user == "ann"
    for bad in ("Basic YW5uOndyb25n", "Basic ????", "Basic", "basic /w=="):
        with pytest.raises(RegistryError):
            door.who(request(bad))
