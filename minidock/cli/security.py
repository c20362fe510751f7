"""``--security-opt seccomp=FILE``: the file is the client's, so the client reads it.

**Interface:** :func:`options`.

**See:** docker/cli ``cli/command/container/opts.go``, ``parseSecurityOpts``,
whose words the messages are.
"""

from __future__ import annotations

from minidock.cli.flags import UsageError

INLINE = ("unconfined", "builtin", "")


# %% Profiles in files
def options(given: list[str]) -> list[str]:
    """``given`` with the contents of the profile in the place of its path."""
    return [_with_contents(option) for option in given]


def _with_contents(option: str) -> str:
    name, equals, value = option.partition("=")
    if not equals:
        name, equals, value = option.partition(":")
    if not equals and option != "no-new-privileges":
        raise UsageError(f'invalid --security-opt: "{option}"')
    if name != "seccomp" or value in INLINE:
        return option
    import json

    try:
        with open(value) as file:
            profile = json.load(file)
    except OSError as error:
        reason = f"open {value}: {(error.strerror or '').lower()}"
        raise UsageError(f"opening seccomp profile ({value}) failed: {reason}") from None
    except ValueError as error:
        raise UsageError(f"compacting json for seccomp profile ({value}) failed: {error}") from None
    return "seccomp=" + json.dumps(profile, separators=(",", ":"))
