"""What registries say when they refuse: codes, and Docker's sentences about them.

A refusal has a status and, as JSON, a list of codes with messages. The
status alone does not do: 404 may mean no such tag or no such repository,
and a registry that does not want to tell which repositories exist says that
access is denied.

**Interface:** :class:`Refused`, :func:`refusal`, :func:`said`,
:func:`about_pull`, :func:`about_push`.

**See:** OCI distribution specification, "Error Codes"; moby
``distribution/errors.go``, which has the sentences.
"""

import json
from http import HTTPStatus

from minidock.errors import Forbidden, MiniDockError, NotFound
from minidock.registry.transport import Answer
from minidock.spec.reference import Reference


# %% A refusal
class Refused(MiniDockError):
    """The registry said no: ``status`` of HTTP, and the ``codes`` it gave."""

    def __init__(self, words: str, status: int, codes: tuple[str, ...]) -> None:
        super().__init__(words)
        self.status = status
        self.codes = codes


def refusal(answer: Answer) -> Refused:
    """The error that an answer stands for; reads its body."""
    data = answer.small()
    words = said(data)
    if not words:
        try:
            reason = HTTPStatus(answer.status).phrase
        except ValueError:
            reason = "unknown"
        words = f"received unexpected HTTP status: {answer.status} {reason}"
        if answer.status == 401:
            words = "unauthorized: authentication required"
    return Refused(words, answer.status, _codes(data))


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
