"""Commands about registries: pull, push, login, logout.

**Interface:** :data:`COMMANDS`, :func:`fetch`.

**See:** docker/cli ``cli/command/image/pull.go``, ``cli/command/registry``.
"""

from __future__ import annotations

import sys
from urllib.parse import quote

from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.client import Client
from minidock.spec import reference

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import TextIO

PULL = [
    Flag("all-tags", "a", "bool", "Download all tagged images in the repository"),
    Flag("platform", "", "string", "Set platform if server is multi-platform capable"),
    Flag("quiet", "q", "bool", "Suppress verbose output"),
    Flag("disable-content-trust", "", "bool", "", True),
    Flag("explain", "", "bool", "Show every step as it happens"),
]
PUSH = [
    Flag("all-tags", "a", "bool", "Push all tags of an image to the repository"),
    Flag("quiet", "q", "bool", "Suppress verbose output"),
    Flag("disable-content-trust", "", "bool", "", True),
    Flag("explain", "", "bool", "Show every step as it happens"),
]
LOGIN = [
    Flag("password", "p", "string", "Password or Personal Access Token (PAT)"),
    Flag("password-stdin", "", "bool", "Take the password from stdin"),
    Flag("username", "u", "string", "Username"),
]

HELP = {
    "pull": Usage(
        "pull", "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry", PULL
    ),
    "push": Usage("push", "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", PUSH),
    "login": Usage("login", "[OPTIONS] [SERVER]", "Authenticate to a registry", LOGIN),
    "logout": Usage("logout", "[SERVER]", "Log out from a registry", []),
}


# %% pull
def pull(arguments: list[str]) -> int:
    """``minidock pull``."""
    from minidock.cli.explain import explained

    values, rest = parse(arguments, PULL)
    need(rest, "pull", 1, 1)
    name = reference.parse(rest[0])
    given = ":" in rest[0].rpartition("/")[2] or bool(name.digest)
    if values["all-tags"] and given:
        raise PlainError("tag can't be used with --all-tags/-a")
    if not given and not values["all-tags"] and not values["quiet"]:
        print(f"Using default tag: {name.tag}", flush=True)
    client = Client.from_environment()
    everything = values["all-tags"]
    with explained(client, values["explain"]):
        fetch(client, name, values["platform"], sys.stdout, values["quiet"], everything)
    print(name.name if everything else name)
    return 0


def fetch(
    client: Client,
    name: reference.Reference,
    platform: str,
    out: TextIO,
    quiet: bool,
    everything: bool = False,
) -> None:
    """Have the daemon pull ``name``, or ``everything`` of its repository, and show how it goes."""
    from minidock.cli.progress import show
    from minidock.registry import credentials

    query = f"fromImage={quote(name.name)}"
    query += "" if everything else f"&tag={quote(name.digest or name.tag)}"
    query += f"&platform={quote(platform)}" if platform else ""
    headers = credentials.header(name.domain)
    show(client.open("POST", f"/images/create?{query}", headers=headers).lines(), out, quiet)


# %% push
def push(arguments: list[str]) -> int:
    """``minidock push``."""
    from minidock.cli.explain import explained
    from minidock.cli.progress import show
    from minidock.registry import credentials

    values, rest = parse(arguments, PUSH)
    need(rest, "push", 1, 1)
    name = reference.parse(rest[0])
    given = ":" in rest[0].rpartition("/")[2]
    if values["all-tags"] and given:
        raise PlainError("tag can't be used with --all-tags/-a")
    if not given and not values["all-tags"] and not values["quiet"]:
        print(f"Using default tag: {name.tag}", flush=True)
    query = "" if values["all-tags"] else f"?tag={quote(name.tag)}"
    client, headers = Client.from_environment(), credentials.header(name.domain)
    with explained(client, values["explain"]):
        path = f"/images/{name.familiar_name}/push{query}"
        show(client.open("POST", path, headers=headers).lines(), sys.stdout, values["quiet"])
    if values["quiet"]:
        print(name.name if values["all-tags"] else str(name))
    return 0


# %% login, logout
def login(arguments: list[str]) -> int:
    """``minidock login``."""
    from minidock.registry import credentials

    values, rest = parse(arguments, LOGIN)
    need(rest, "login", 0, 1)
    domain = _domain(rest)
    username, password = _asked(values["username"], values["password"], values["password-stdin"])
    auth = {
        "username": username,
        "password": password,
        "serveraddress": credentials.key_of(domain),
    }
    answer = Client.from_environment().call("POST", "/auth", auth)
    place = credentials.store(domain, {**auth, "identitytoken": answer.get("IdentityToken") or ""})
    if place:
        sys.stderr.write(
            f"WARNING! Your password will be stored unencrypted in {place}.\n"
            "Configure a credential helper to remove this warning.\n"
        )
    print(answer["Status"])
    return 0


def _asked(username: str, password: str, from_stdin: bool) -> tuple[str, str]:
    """Name and password, from wherever they are to come."""
    if from_stdin:
        if not username:
            raise PlainError("Must provide --username with --password-stdin")
        if password:
            raise PlainError("--password and --password-stdin are mutually exclusive")
        return username, sys.stdin.read().rstrip("\r\n")
    if password:
        sys.stderr.write(
            "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"
        )
    if not (username and password) and not sys.stdin.isatty():
        raise PlainError("Cannot perform an interactive login from a non TTY device")
    if not username:
        username = input("Username: ").strip()
    if not password:
        from getpass import getpass

        password = getpass("Password: ")
    if not username or not password:
        raise PlainError(f"{'password' if username else 'username'} required")
    return username, password


def logout(arguments: list[str]) -> int:
    """``minidock logout``."""
    from minidock.registry import credentials

    _, rest = parse(arguments, [])
    need(rest, "logout", 0, 1)
    domain = _domain(rest)
    print(f"Removing login credentials for {credentials.key_of(domain)}")
    credentials.erase(domain)
    return 0


def _domain(rest: list[str]) -> str:
    """The registry of names out of what people type: a host, a URL, or nothing."""
    from urllib.parse import urlsplit

    host = urlsplit(rest[0] if "//" in rest[0] else f"//{rest[0]}").netloc if rest else ""
    default = reference.DEFAULT_DOMAIN
    return default if host in ("", default, f"index.{default}") else host


COMMANDS = {"pull": pull, "push": push, "login": login, "logout": logout}

run = pull
