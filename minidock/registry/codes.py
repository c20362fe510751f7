"""How a registry refuses: the error codes of the distribution specification.

A refusal is a status of HTTP and a list of codes with a message each, so
that a program can act on the code and a person can read the message. There
are fourteen codes; the status follows from the code almost always.

**Interface:** :class:`RegistryError`, :func:`as_json`, :data:`STATUSES`.

**See:** OCI distribution specification, "Error Codes".
"""

from typing import Any

from minidock.errors import MiniDockError

# %% Codes and statuses
STATUSES = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "SIZE_INVALID": 400,
    "UNAUTHORIZED": 401,
    "DENIED": 403,
    "UNSUPPORTED": 405,
}


class RegistryError(MiniDockError):
    """A request that the registry does not do: a code, a sentence, and what it is about.

    ``status`` where it is not the usual one of the code; ``headers`` go with the answer.
    """

    def __init__(
        self,
        code: str,
        message: str,
        detail: Any = None,
        *,
        status: int = 0,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail
        self.status = status or STATUSES[code]
        self.headers = headers or {}


def as_json(refused: RegistryError) -> dict[str, Any]:
    """The body of the answer."""
    error = {"code": refused.code, "message": str(refused), "detail": refused.detail}
    return {"errors": [{name: value for name, value in error.items() if value is not None}]}
