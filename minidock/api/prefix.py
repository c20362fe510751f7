"""The version that a client puts before the path: ``/v1.47/info``.

**Interface:** :func:`split`, :func:`without_version`.

**See:** moby ``api/server/middleware/version.go``.
"""

import re

from minidock.engine.system import API_VERSION, MINIMUM_API_VERSION
from minidock.errors import InvalidParameter

Version = tuple[int, int]


# %% Versions
def split(path: str) -> tuple[Version, str]:
    """The version that is asked for (ours, if none is), and the path without it."""
    match = re.match(r"/v(\d+)\.(\d+)(/.*)", path)
    if match is None:
        return _numbers(API_VERSION), path
    major, minor, rest = match.groups()
    return (int(major), int(minor)), rest


def without_version(path: str) -> str:
    """The path alone.

    Raises:
        InvalidParameter: We do not speak the version before it.
    """
    asked, rest = split(path)
    words = f"client version {asked[0]}.{asked[1]} is too"
    if asked > _numbers(API_VERSION):
        raise InvalidParameter(f"{words} new. Maximum supported API version is {API_VERSION}")
    if asked < _numbers(MINIMUM_API_VERSION):
        raise InvalidParameter(
            f"{words} old. Minimum supported API version is {MINIMUM_API_VERSION},"
            " please upgrade your client to a newer version"
        )
    return rest


def _numbers(version: str) -> Version:
    major, minor = version.split(".")
    return int(major), int(minor)
