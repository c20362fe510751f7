"""What registries say when they refuse: codes, and Docker's sentences about them.

A refusal has a status and, as JSON, a list of codes with messages. The
status alone does not do: 404 may mean no such tag or no such repository,
and a registry that does not want to tell which repositories exist says that
access is denied. And who brings a token that is not good for this is told "unauthorized" in the
body, as if he had brought none; what is wrong with it stands in the challenge.

**Interface:** :func:`challenges`, :class:`Refused`, :func:`refusal`, :func:`said`,
:func:`about_pull`, :func:`about_push`.

**See:** OCI distribution specification, "Error Codes"; RFC 6750, 3.1
(what is wrong with a token); moby ``distribution/errors.go``, which has the sentences.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from minidock.errors import Forbidden, MiniDockError, NotFound
from minidock.registry.transport import Answer
from minidock.spec.reference import Reference


# %% Challenges
@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to say who one is; ``scheme`` in lower case."""

    scheme: str
    values: dict[str, str]


_VALUE = re.compile(r'([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?\s*')
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|\Z)")


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """What ``WWW-Authenticate`` offers; one header may hold several challenges."""
    found: list[Challenge] = []
    for text in headers:
        at = 0
        while (scheme := _SCHEME.match(text, at)) is not None:
            at, values = scheme.end(), {}
            while (match := _VALUE.match(text, at)) is not None:
                quoted = match[2]
                values[match[1].lower()] = (
                    match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                )
                at = match.end()
            found.append(Challenge(scheme[1].lower(), values))
    return found


# %% A refusal
VERDICTS = {
    "invalid_token": ("unauthorized", "authentication required"),
    "insufficient_scope": ("denied", "requested access to the resource is denied"),
}


class Refused(MiniDockError):
    """The registry said no: ``status`` of HTTP, and the ``codes`` it gave."""

    def __init__(self, words: str, status: int, codes: tuple[str, ...]) -> None:
        super().__init__(words)
        self.status = status
        self.codes = codes


def refusal(answer: Answer) -> Refused:
    """The error that an answer stands for; reads its body."""
    data = answer.small()
    codes, words = _codes(data), said(data)
    if answer.status == 401 and (judged := _judged(answer.headers("WWW-Authenticate"))):
        codes, words = (judged[0].upper(), *codes), ": ".join(judged)
    if not words:
        try:
            reason = HTTPStatus(answer.status).phrase
        except ValueError:
            reason = "unknown"
        words = f"received unexpected HTTP status: {answer.status} {reason}"
        if answer.status == 401:
            words = "unauthorized: authentication required"
    return Refused(words, answer.status, codes)


def _judged(headers: Iterable[str]) -> tuple[str, str] | None:
    """What the registry thinks of the token, as it says with the challenge for another one."""
    for one in challenges(headers):
        known = VERDICTS.get(one.values.get("error", ""))
        if one.scheme == "bearer" and known:
            return known[0], one.values.get("error_description") or known[1]
    return None


def said(data: bytes) -> str:
    """The registry's own words: ``manifest unknown: …``; empty if it gave none."""
    found = []
    for entry in _entries(data):
        code = str(entry.get("code", "unknown")).lower().replace("_", " ")
        found.append(f"{code}: {entry.get('message') or code}")
    return (
        found[0]
        if len(found) == 1
        else "".join(f"{one}\n" for one in found) and ("errors:\n" + "\n".join(found))
    )


def _codes(data: bytes) -> tuple[str, ...]:
    return tuple(str(entry.get("code", "")) for entry in _entries(data))


def _entries(data: bytes) -> list[dict[str, object]]:
    try:
        value = json.loads(data)
    except ValueError:
        return []
    if not isinstance(value, dict):
        return []
    if "details" in value and "errors" not in value:  # a token server's way
        return [{"code": "unauthorized", "message": value["details"]}]
    entries = value.get("errors")
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


# %% Docker's sentences
def about_pull(error: MiniDockError, reference: Reference) -> MiniDockError:
    """What ``docker pull`` says about ``error``."""
    if not isinstance(error, Refused):
        return error
    if "DENIED" in error.codes or ("UNAUTHORIZED" in error.codes and error.status == 403):
        return NotFound(
            f"pull access denied for {reference.familiar_name}, repository does not exist or may"
            f" require 'docker login': {error}"
        )
    if "NAME_UNKNOWN" in error.codes:
        return NotFound(f"repository {reference.familiar_name} not found: {error}")
    if "MANIFEST_UNKNOWN" in error.codes or error.status == 404:
        words = error if error.codes else "manifest unknown: manifest unknown"
        return NotFound(f"manifest for {reference.familiar} not found: {words}")
    return error


def about_push(error: MiniDockError) -> MiniDockError:
    """What ``docker push`` says about ``error``."""
    if isinstance(error, Refused) and "DENIED" in error.codes:
        return Forbidden(str(error))
    return error
