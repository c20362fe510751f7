"""The door: who asks, and whether this one may.

A client that must say who it is learns how from the answer 401. *Basic* is
name and password with every request. *Bearer* is a token from another
address (here ``/token`` of the same server), which a client fetches with
its name and password, or without any, for what it is about to do.

Why there are two: Docker's client looks once, at ``/v2/``, what is wanted,
and sends nothing where nothing was asked for. With Basic it can be let in
without a name everywhere or nowhere. A registry with public *and* private
repositories has to ask for a token, and give one to everybody: this is why
Docker Hub does it. So we do, when a rule lets anybody in.

A token is a JSON object and a keyed hash of it, both in base64: a JSON Web
Token. The key is made when the server starts, and never leaves it.

**Interface:** :class:`Door`, :class:`Caller`.

**See:** RFC 7617 (Basic), RFC 6750 (Bearer), RFC 7519 (JSON Web Token);
distribution "Token Authentication Specification".
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from minidock.registry.codes import RegistryError
from minidock.registry.server_users import Rules, Users, Watched
from minidock.server import Request, Response

SERVICE = "MiniDock registry"
LIFE = 300  # seconds that a token is good for; a client fetches the next by itself
ACTIONS = {"pull": "read", "push": "write", "delete": "delete"}
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9a-fA-F:.]+\](:[0-9]+)?", re.ASCII)


# %% Who asks
@dataclass(frozen=True, slots=True)
class Caller:
    """A user, or nobody in particular; ``grants`` is what the token is for, None without one."""

    user: str | None = None
    grants: frozenset[tuple[str, str]] | None = None
    named: bool = False  # said who it is, if only by a token for nobody


def _basic(text: str) -> tuple[str, str]:
    try:
        name, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise RegistryError(
            "UNAUTHORIZED", "Authorization: Basic is not base64 of name:password"
        ) from None
    return (name, password) if colon else (name, "")


# %% The door
class Door:
    """Users and rules, either of which may be missing, and tokens."""

    def __init__(
        self, users: Users | None, rules: Watched[Rules] | None, tls: bool, tokens: bool = False
    ) -> None:
        self._users = users
        self._rules = rules
        self._scheme = "https" if tls else "http"
        self._always_tokens = tokens
        self._key = secrets.token_bytes(32)

    @property
    def tokens(self) -> bool:
        """Whether to ask for tokens rather than for names and passwords."""
        public = self._rules is not None and self._rules.value().public
        return self._users is not None and (self._always_tokens or public)

    def who(self, request: Request) -> Caller:
        """Who asks; UNAUTHORIZED if that is not true."""
        if self._users is None:
            return Caller(named=True)
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            name, password = _basic(rest.strip())
            if not self._users.check(name, password):
                raise self.challenge(request, "incorrect username or password")
            return Caller(name, named=True)
        if scheme.lower() == "bearer":
            return self._bearer(request, rest.strip())
        return Caller()

    # %% What they may
    def may(self, user: str | None, action: str, name: str) -> bool:
        """Whether ``user`` may ``read``, ``write`` or ``delete`` in the repository ``name``."""
        if self._rules is not None:
            return self._rules.value().allow(user, action, name)
        return self._users is None or user is not None

    def demand(self, caller: Caller, request: Request, act: str, name: str) -> None:
        """``act`` is ``pull``, ``push`` or ``delete``. UNAUTHORIZED: say who you are; DENIED."""
        if self.may(caller.user, ACTIONS[act], name):
            if caller.grants is None or (name, act) in caller.grants:
                return
        elif caller.user is not None or self._users is None:
            message = f"requested access to the resource is denied: {act} {name}"
            raise RegistryError("DENIED", message)
        wanted = {"pull": "pull", "push": "pull,push", "delete": "delete"}[act]
        error = "" if caller.grants is None else "insufficient_scope"
        scope = f"repository:{name}:{wanted}"
        raise self.challenge(request, "authentication required", scope, error)

    def greet(self, caller: Caller, request: Request) -> None:
        """``/v2/``, where clients learn what is wanted: from nobody in particular, something."""
        if not caller.named:
            raise self.challenge(request, "authentication required")

    def challenge(
        self, request: Request, message: str, scope: str = "", error: str = ""
    ) -> RegistryError:
        """The refusal that tells how to be let in; ``error`` is what is wrong with the token."""
        words = f'Basic realm="{SERVICE}"'
        if self.tokens:
            host = request.headers.get("host", "")
            if not _HOST.fullmatch(host):
                host = "localhost"
            words = f'Bearer realm="{self._scheme}://{host}/token",service="{SERVICE}"'
            words += f',scope="{scope}"' if scope else ""
            words += f',error="{error}"' if error else ""
        return RegistryError("UNAUTHORIZED", message, headers={"WWW-Authenticate": words})

    # %% Tokens
    def token(self, caller: Caller, request: Request) -> Response:
        """``GET /token?scope=repository:NAME:pull,push``: a token for what of it is allowed."""
        granted = []
        for key, scope in request.pairs:
            kind, _, rest = scope.partition(":") if key == "scope" else ("", "", "")
            name, _, acts = rest.rpartition(":")
            if kind != "repository":
                continue
            for act in acts.split(","):
                if act in ACTIONS and self.may(caller.user, ACTIONS[act], name):
                    granted.append([name, act])
        claims = {"sub": caller.user, "exp": int(time.time()) + LIFE, "access": granted}
        token = self._sign(claims)
        return Response(json={"token": token, "access_token": token, "expires_in": LIFE})

    def _sign(self, claims: dict[str, Any]) -> str:
        parts = [_encoded(json.dumps(one).encode()) for one in ({"alg": "HS256"}, claims)]
        return ".".join([*parts, self._signature(".".join(parts))])

    def _signature(self, text: str) -> str:
        return _encoded(hmac.digest(self._key, text.encode(), hashlib.sha256))

    def _bearer(self, request: Request, token: str) -> Caller:
        text, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            message = "the token is not one of ours: it may be from before a restart"
            raise self.challenge(request, message, error="invalid_token")
        middle = text.partition(".")[2]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        if claims["exp"] < time.time():
            raise self.challenge(request, "the token has expired", error="invalid_token")
        grants = frozenset((name, act) for name, act in claims["access"])
        return Caller(claims["sub"], grants, named=True)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
