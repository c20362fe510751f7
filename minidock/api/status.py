"""From a kind of error to a status of HTTP: here, and nowhere else.

**Interface:** :func:`status_of`.

**See:** moby ``api/server/httpstatus/status.go``.
"""

from minidock import errors

# %% The table
STATUSES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.NotModified, 304),
    (errors.CommandNotFound, 400),
    (errors.CommandNotExecutable, 400),
    (errors.InvalidParameter, 400),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Forbidden, 403),
    (errors.NotSupported, 501),
    (errors.Unavailable, 503),
)


def status_of(error: BaseException) -> int:
    """The status for ``error``; what we have no kind for is our own failure, 500."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
