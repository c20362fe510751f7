"""Reading a bundle: ``config.json``, as it is and as a value.

The trap is zeros. The specification knows properties that are absent;
engines in Go send the zero value for what they do not care about.

**Interface:** :func:`read`, :func:`without_zeros`.

**See:** OCI runtime specification, bundle.md, config.md.
"""

import json
from typing import Any

from minidock.errors import InvalidParameter, NotFound
from minidock.spec.codec import decode
from minidock.spec.runtime import Spec


# %% Reading it
def read(bundle: str) -> tuple[bytes, Spec]:
    """``config.json`` as it is and as a :class:`Spec`. Raises what is wrong with it, in one line."""
    try:
        with open(f"{bundle}/config.json", "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise NotFound("JSON specification file config.json not found") from None
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"config.json is not JSON: {error}") from None
    if isinstance(document, dict) and isinstance(document.get("linux"), dict):
        resources = document["linux"].get("resources")
        if isinstance(resources, dict):
            document["linux"]["resources"] = without_zeros(resources)
    return text, decode(Spec, document)


ZERO_COUNTS = ("swappiness", "idle", "classID")


def without_zeros(resources: dict[str, Any]) -> dict[str, Any]:
    """A limit of 0 is no limit: engines in Go send zeros for what they do not care about."""
    result: dict[str, Any] = {}
    for name, value in resources.items():
        found = without_zeros(value) if isinstance(value, dict) else value
        empty = found in (None, "", {}, []) or (found == 0 and found is not False)
        if not empty or name in ZERO_COUNTS:
            result[name] = found
    return result
