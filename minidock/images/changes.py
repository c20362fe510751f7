"""Changes to how an image runs, in the words of a Dockerfile.

``import --change 'CMD ["sh"]'`` says one line of a Dockerfile about an image
that nobody builds from one.

The trap is the two forms of a command: in brackets it is a list of words,
which is executed as it is; otherwise it is text for a shell.

**Interface:** :func:`apply`.

**See:** Dockerfile reference; moby ``builder/dockerfile`` (BuildFromConfig).
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from minidock.errors import InvalidParameter
from minidock.spec.image import Execution

Body = dict[str, Any]


# %% One line after the other
def apply(changes: Sequence[str]) -> Execution:
    """Lines of a Dockerfile: ``CMD``, ``ENTRYPOINT``, ``ENV``, ``EXPOSE``, ``LABEL``, ``USER``, …"""
    run = Execution()
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        rest = rest.strip()
        if word.upper() in ("CMD", "ENTRYPOINT"):
            named: dict[str, Any] = {word.lower(): _command(rest)}
            run = replace(run, **named)
        elif word.upper() == "ENV":
            run = replace(run, env=(*run.env, rest if "=" in rest else rest.replace(" ", "=", 1)))
        elif word.upper() == "EXPOSE":
            ports: Body = {port if "/" in port else f"{port}/tcp": {} for port in rest.split()}
            run = replace(run, exposed_ports={**run.exposed_ports, **ports})
        elif word.upper() == "LABEL":
            key, _, value = rest.partition("=")
            run = replace(run, labels={**run.labels, key: value.strip('"')})
        elif word.upper() in ("USER", "WORKDIR", "STOPSIGNAL"):
            field = {"USER": "user", "WORKDIR": "working_dir", "STOPSIGNAL": "stop_signal"}
            text: dict[str, Any] = {field[word.upper()]: rest}
            run = replace(run, **text)
        elif word.upper() == "VOLUME":
            run = replace(run, volumes={**run.volumes, rest: {}})
        else:
            raise InvalidParameter(f"{word} is not a valid change command")
    return run


def _command(text: str) -> tuple[str, ...]:
    if text.startswith("["):
        with suppress(ValueError):
            return tuple(str(part) for part in json.loads(text))
    return ("/bin/sh", "-c", text)
