"""``~/.docker/config.json``: who we are to which registry.

The client keeps what a user has logged in with, in Docker's own file, so
that ``docker login`` serves MiniDock and the other way round; it is sent to
the daemon with each request that needs it. The file holds it plainly
(base64 hides nothing), or a *credential helper* keeps it: a program
``docker-credential-NAME`` that is given a command and speaks JSON.

The traps. The file has other things in it, which must survive. It is
secret: mode 0600, and never half written. The default registry goes by an
old URL in it. And a helper says by its output, not by its status, that it
has nothing.

**Interface:** :func:`find`, :func:`store`, :func:`erase`, :func:`header`.

**See:** docker/docker-credential-helpers; docker(1) login, "Credential
stores"; ``$DOCKER_CONFIG``.
"""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from minidock.errors import MiniDockError, Unavailable
from minidock.spec.reference import DEFAULT_DOMAIN

AuthConfig = dict[str, str]

DEFAULT_KEY = f"https://index.{DEFAULT_DOMAIN}/v1/"  # what Docker has always written
BY_TOKEN = "<token>"  # instead of a user name, by a helper


# %% The file
def config_file() -> Path:
    """``$DOCKER_CONFIG/config.json``, or in the home directory."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    return Path(folder) / "config.json"


def _read() -> dict[str, Any]:
    try:
        value = json.loads(config_file().read_text() or "{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise MiniDockError(
            f"WARNING: Error loading config file: {config_file()}: {error}"
        ) from None
    return value if isinstance(value, dict) else {}


def _write(value: dict[str, Any]) -> None:
    """All or nothing, readable by nobody else; through a link, if somebody keeps it elsewhere."""
    place = Path(os.path.realpath(config_file()))
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(value, file, indent="\t")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def key_of(domain: str) -> str:
    """What the file calls the registry of ``domain``."""
    return DEFAULT_KEY if domain in (DEFAULT_DOMAIN, f"index.{DEFAULT_DOMAIN}") else domain


def _bare(key: str) -> str:
    """Old entries are URLs."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


# %% What is known
def find(domain: str) -> AuthConfig:
    """The Engine API's ``AuthConfig`` for the registry of ``domain``; empty if there is none."""
    config, key = _read(), key_of(domain)
    helper = _helper(config, key)
    if helper:
        return _ask(helper, key)
    entries = config.get("auths") or {}
    entry = entries.get(key)
    if entry is None and key != DEFAULT_KEY:
        entry = next((value for one, value in entries.items() if _bare(one) == key), None)
    return {**_from_entry(entry), "serveraddress": key} if entry else {}


def _from_entry(entry: dict[str, Any]) -> AuthConfig:
    known = {name: str(entry.get(name) or "") for name in ("username", "password", "identitytoken")}
    known["registrytoken"] = str(entry.get("registrytoken") or "")
    if entry.get("auth"):
        try:
            plain = base64.b64decode(entry["auth"]).decode()
        except ValueError:
            raise MiniDockError(f"invalid auth configuration file {config_file()}") from None
        known["username"], _, known["password"] = plain.partition(":")
        known["password"] = known["password"].strip("\0")
    return {name: value for name, value in known.items() if value}


def header(domain: str) -> dict[str, str]:
    """``X-Registry-Auth`` for a request about the registry of ``domain``."""
    text = json.dumps(find(domain)).encode()
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text).decode()}


# %% Login and logout
def store(domain: str, auth: AuthConfig) -> str:
    """Keep ``auth``; returns where, if it can be read there by who can read the file."""
    config, key = _read(), key_of(domain)
    helper = _helper(config, key)
    token = auth.get("identitytoken", "")
    if helper:
        name, secret = (BY_TOKEN, token) if token else (auth["username"], auth["password"])
        _run(helper, "store", json.dumps({"ServerURL": key, "Username": name, "Secret": secret}))
        config.setdefault("auths", {})[key] = {}
        _write(config)
        return ""
    both = f"{auth['username']}:{'' if token else auth['password']}".encode()
    entry = {"auth": base64.b64encode(both).decode()}
    config.setdefault("auths", {})[key] = {**entry, **({"identitytoken": token} if token else {})}
    _write(config)
    return str(config_file())


def erase(domain: str) -> bool:
    """Forget; whether there was anything."""
    config, key = _read(), key_of(domain)
    helper, entries = _helper(config, key), config.get("auths") or {}
    known = [one for one in entries if one == key or (key != DEFAULT_KEY and _bare(one) == key)]
    there = bool(known) or (helper is not None and bool(_ask(helper, key)))
    if helper and there:
        _run(helper, "erase", key)
    for one in known:
        del entries[one]
    if known:
        _write(config)
    return there


# %% Helpers
def _helper(config: dict[str, Any], key: str) -> str | None:
    name = (config.get("credHelpers") or {}).get(_bare(key)) or config.get("credsStore")
    return f"docker-credential-{name}" if name else None


def _ask(helper: str, key: str) -> AuthConfig:
    answer = _run(helper, "get", key, missing=True)
    if not answer:
        return {}
    value = json.loads(answer)
    name, secret = str(value.get("Username", "")), str(value.get("Secret", ""))
    known = (
        {"identitytoken": secret} if name == BY_TOKEN else {"username": name, "password": secret}
    )
    return {**known, "serveraddress": key}


def _run(helper: str, command: str, text: str, missing: bool = False) -> str:
    """What the helper prints; empty if it knows nothing and ``missing`` is no failure."""
    if shutil.which(helper) is None:
        raise Unavailable(
            f'error getting credentials - err: exec: "{helper}": executable file not found in $PATH'
        )
    done = subprocess.run(
        [helper, command], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout
    said = (done.stdout or done.stderr).strip()
    if missing and "credentials not found" in said:
        return ""
    raise Unavailable(
        f"error {command} credentials - err: exit status {done.returncode}, out: `{said}`"
    )
