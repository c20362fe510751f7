"""Who may: users by htpasswd, rules in a small file.

Two files, both read again when they change. The first says who there is,
one ``name:hash`` a line, as ``htpasswd -B`` writes it. The second, TOML,
says who may do what::

    [groups]
    teachers = ["ann", "bob"]

    [[repository]]
    name  = "course/*"          # * stands for anything, / too
    read  = ["*"]               # anybody, even without a name
    write = ["@teachers"]

    [[repository]]
    name  = "students/{user}/*" # {user}: whose name stands there
    read  = ["{user}", "@teachers"]
    write = ["{user}"]

The first rule whose name fits decides; where none fits, nobody may. Who may
write may delete, unless a rule says otherwise (``delete = […]``); ``+`` is
anybody with a name. Without rules, every user may do everything; without
users, everybody.

The traps. bcrypt is slow on purpose, and a push is a hundred requests: what
was right is remembered, as a keyed hash. A name that is not there must take
as long as a wrong password, or the time tells which names there are. And a
file that somebody is just editing badly must not lock everybody out, or let
everybody in: the last good one holds.

**Interface:** :class:`Users`, :class:`Rules`.

**See:** htpasswd(1), crypt(5); TOML 1.0.
"""

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from minidock.errors import InvalidParameter
from minidock.linux.crypt import crypt

T = TypeVar("T")

STRONG = ("$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$")  # of those that crypt(5) has
NOBODY = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
ACTIONS = ("read", "write", "delete")


# %% A file that may change
class Watched(Generic[T]):
    """What is in a file, read again when it is another; a bad one is reported, and the last good holds."""

    def __init__(self, path: Path, read: Callable[[str], T], report: Callable[[str], object]):
        self._path, self._read, self._report = path, read, report
        self._stamp = self._now()
        self._value = read(path.read_text())

    def _now(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino, status.st_size

    def value(self) -> T:
        """As it is now."""
        try:
            stamp = self._now()
            if stamp != self._stamp:
                self._stamp = stamp
                self._value = self._read(self._path.read_text())
        except (OSError, ValueError, InvalidParameter) as error:
            self._report(f"{self._path}: {error}; what was in it before holds")
        return self._value


# %% Users
class Users:
    """The users of an htpasswd file."""

    def __init__(self, path: Path, report: Callable[[str], object]) -> None:
        self._hashes = Watched(path, read_htpasswd, report)
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()

    def check(self, name: str, password: str) -> bool:
        """Whether this is the password of ``name``."""
        hashes = self._hashes.value()
        known = hashes.get(name)
        mark = hmac.digest(self._key, f"{known}\0{password}".encode(), hashlib.sha256)
        if known is not None and mark in self._right:
            return True
        found = crypt(password, known or next(iter(hashes.values()), NOBODY))
        if known is None or not hmac.compare_digest(found.encode(), known.encode()):
            return False
        if len(self._right) > 10_000:
            self._right.clear()
        self._right.add(mark)
        return True


def read_htpasswd(text: str) -> dict[str, str]:
    """Names and hashes; InvalidParameter, with its line, for a hash that is no good."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, known = line.strip().partition(":")
        if not colon or not name:
            raise InvalidParameter(f"line {number}: want name:hash, as htpasswd -B writes it")
        if not known.startswith(STRONG) or len(known) < 20:
            raise InvalidParameter(
                f"line {number}: the hash of {name} is not bcrypt (nor SHA-crypt or yescrypt):"
                " make it with htpasswd -B"
            )
        found[name] = known
    return found


# %% Rules
@dataclass(frozen=True, slots=True)
class Rule:
    """Which repositories, and who may what with them."""

    names: "re.Pattern[str]"
    who: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, in the order of the file; the first that fits decides."""

    rules: tuple[Rule, ...]
    groups: dict[str, tuple[str, ...]]

    def allow(self, user: str | None, action: str, repository: str) -> bool:
        """Whether ``user`` (None: somebody without a name) may read, write or delete there."""
        for rule in self.rules:
            if match := rule.names.fullmatch(repository):
                owner = match.groupdict().get("user")
                return any(self._is(user, one, owner) for one in rule.who[action])
        return False

    def _is(self, user: str | None, who: str, owner: str | None) -> bool:
        if who == "*":
            return True
        if user is None:
            return False
        if who == "{user}":
            return user == owner
        return who in ("+", user) or user in self.groups.get(who, ())

    @property
    def public(self) -> bool:
        """Whether anything may be done without a name."""
        return any("*" in who for rule in self.rules for who in rule.who.values())


# %% Reading rules
def read_rules(text: str) -> Rules:
    """The rules in a TOML file; InvalidParameter names what is wrong."""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidParameter(f"not TOML: {error}") from None
    if unknown := value.keys() - {"groups", "repository"}:
        raise InvalidParameter(f"unknown: {', '.join(sorted(unknown))}; want groups, repository")
    groups = {f"@{name}": _names(who, name) for name, who in value.get("groups", {}).items()}
    rules = tuple(_rule(one, groups) for one in value.get("repository", []))
    return Rules(rules, groups)


def _rule(value: dict[str, Any], groups: dict[str, Any]) -> Rule:
    if unknown := value.keys() - {"name", *ACTIONS}:
        raise InvalidParameter(f"unknown in a rule: {', '.join(sorted(unknown))}")
    if not isinstance(value.get("name"), str):
        raise InvalidParameter("a rule without a name: which repositories is it about?")
    who = {action: _names(value.get(action, []), action) for action in ACTIONS}
    if "delete" not in value:
        who["delete"] = who["write"]
    for one in (one for names in who.values() for one in names):
        if one.startswith("@") and one not in groups:
            raise InvalidParameter(f"{one} in the rule for {value['name']}: no such group")
    names = re.escape(value["name"]).replace(r"\*", ".*").replace(r"\{user\}", "(?P<user>[^/]+)", 1)
    return Rule(re.compile(names), who)


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidParameter(f"{where}: want a list of names")
    return tuple(value)
