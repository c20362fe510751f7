"""Who may: the words that a registry wants to hear, and where to get them.

A registry that wants to know who asks answers 401 and says in
``WWW-Authenticate`` how: ``Basic`` wants name and password with every
request; ``Bearer`` names another server (the *realm*) that gives out
tokens, each good for some minutes and for certain acts on certain
repositories (the *scope*).

The traps. A token that pulls does not push: ask for what will be needed. A
token is not good for ever, and a push may take longer than it lives. And
whoever answers decides where our password goes: a realm without TLS for a
registry with it gets nothing.

**Interface:** :class:`Credentials`, :class:`Authorizer`.

**See:** distribution "Token Authentication Specification"; RFC 9110, 11.6.1
(``WWW-Authenticate``), RFC 7617 (Basic); Engine API, "Authentication".
"""

import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import urlencode, urlsplit

from minidock.errors import Forbidden, InvalidParameter
from minidock.registry.transport import Answer, Cancel, Transport
from minidock.registry.words import Challenge, challenges, said


class Unauthorized(Forbidden):
    """The registry wants to know who asks, or does not believe it."""


# %% Who asks
@dataclass(frozen=True, slots=True)
class Credentials:
    """What the Engine API calls ``AuthConfig``; never shown, not even in a traceback."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server: str = ""

    @classmethod
    def from_json(cls, value: Any) -> "Credentials":
        """From the Engine API's ``AuthConfig``."""
        if not isinstance(value, dict):
            raise InvalidParameter("invalid X-Registry-Auth header: not a JSON object")
        names = ("username", "password", "identitytoken", "registrytoken", "serveraddress")
        known = [str(value.get(name) or "") for name in names]
        if not known[0] and value.get("auth"):
            known[0], _, known[1] = _plain(str(value["auth"])).partition(":")
        return cls(*known)

    @classmethod
    def from_header(cls, text: str) -> "Credentials":
        """From ``X-Registry-Auth``: JSON in base64url, with or without its padding."""
        if not text:
            return cls()
        try:
            return cls.from_json(json.loads(_plain(text)))
        except ValueError as error:
            raise InvalidParameter(f"invalid X-Registry-Auth header: {error}") from None

    @property
    def basic(self) -> str:
        """The words of RFC 7617."""
        both = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(both).decode()}"


def _plain(text: str) -> str:
    standard = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"not base64: {error}") from None


# %% Tokens
@dataclass(frozen=True, slots=True)
class Token:
    """``until`` is a moment of time.monotonic(); ``refresh`` stands in for the password later."""

    text: str = field(repr=False)
    until: float
    refresh: str = field(default="", repr=False)


MARGIN = 10.0  # seconds: a token that ends on the way is of no use


class Authorizer:
    """The ``Authorization`` of requests to one registry by one user."""

    def __init__(self, transport: Transport, host: str, credentials: Credentials) -> None:
        self._transport = transport
        self._host = host
        self._credentials = credentials
        self._offers: list[Challenge] = []
        self._secure = True
        self._tokens: dict[str, Token] = {}
        self._lock = Lock()

    def heard(self, answer: Answer) -> bool:
        """Take note of what a 401 offers; whether it offers anything."""
        offers = challenges(answer.headers("WWW-Authenticate"))
        self._offers = offers or self._offers
        self._secure = urlsplit(answer.url).scheme == "https"
        return bool(offers)

    def headers(self, scopes: tuple[str, ...], cancel: Cancel | None = None) -> dict[str, str]:
        """What to send along for an act that needs ``scopes``; raises if there is nothing to say."""
        for offer in self._offers:
            if offer.scheme == "bearer" and offer.values.get("realm"):
                return {"Authorization": f"Bearer {self._token(offer, scopes, cancel)}"}
            if offer.scheme == "basic":
                if not self._credentials.username:
                    raise Unauthorized("no basic auth credentials")
                return {"Authorization": self._credentials.basic}
        return {}

    def forget(self, scopes: tuple[str, ...]) -> None:
        """The token for ``scopes`` was refused: ask for another."""
        with self._lock:
            self._tokens.pop(" ".join(scopes), None)

    def _token(self, offer: Challenge, scopes: tuple[str, ...], cancel: Cancel | None) -> str:
        if self._credentials.registry_token:
            return self._credentials.registry_token
        key = " ".join(scopes)
        with self._lock:
            known = self._tokens.get(key)
            if known is None or known.until < time.monotonic():
                known = self._tokens[key] = self.fetch(offer, scopes, cancel)
            return known.text

    # %% Fetching a token
    def fetch(
        self,
        offer: Challenge,
        scopes: tuple[str, ...],
        cancel: Cancel | None = None,
        offline: bool = False,
    ) -> Token:
        """Ask the realm. ``offline``: ask for a refresh token, too, as login does."""
        realm = offer.values["realm"]
        self._check(realm)
        pairs = [("service", offer.values.get("service", ""))]
        who = self._credentials
        if who.identity_token:
            pairs += [("grant_type", "refresh_token"), ("refresh_token", who.identity_token)]
            pairs += [("client_id", "minidock"), ("scope", " ".join(scopes))]
            form = urlencode([pair for pair in pairs if pair[1]]).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._transport.send("POST", realm, headers, form, cancel)
        else:
            pairs += [("scope", scope) for scope in scopes]
            pairs += [("account", who.username)] if who.username else []
            pairs += [("offline_token", "true"), ("client_id", "minidock")] if offline else []
            query = urlencode([pair for pair in pairs if pair[1]])
            url = f"{realm}{'&' if urlsplit(realm).query else '?'}{query}"
            headers = {"Authorization": who.basic} if who.username else {}
            answer = self._transport.send("GET", url, headers, None, cancel)
        with answer:
            return _read_token(answer)

    def refresh_token(self) -> str:
        """What may be kept instead of the password; empty if the registry has no such thing."""
        for offer in self._offers:
            if offer.scheme == "bearer" and offer.values.get("realm"):
                token = self.fetch(offer, (), offline=True)
                with self._lock:
                    self._tokens[""] = token
                return token.refresh
        return ""

    def _check(self, realm: str) -> None:
        scheme = urlsplit(realm).scheme
        if scheme not in ("http", "https"):
            raise Unauthorized(f"the registry {self._host} names no token server: {realm!r}")
        insecure = self._transport.settings.is_insecure(urlsplit(realm).netloc)
        if scheme == "http" and self._secure and not insecure:
            raise Unauthorized(
                f"the registry {self._host} wants the password sent to {realm} without TLS"
            )


def _read_token(answer: Answer) -> Token:
    data = answer.small()
    if answer.status in (401, 403):
        raise Unauthorized(said(data) or "unauthorized: incorrect username or password")
    if answer.status != 200:
        raise Unauthorized(f"failed to fetch oauth token: unexpected status: {answer.status}")
    try:
        value = json.loads(data)
        text = str(value.get("token") or value["access_token"])
        life = max(float(value.get("expires_in") or 60), 60.0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unauthorized("authorization server did not include a token in the response") from None
    return Token(text, time.monotonic() + life - MARGIN, str(value.get("refresh_token") or ""))
