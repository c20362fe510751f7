"""``minidock inspect``.

**Interface:** :func:`run`.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.client import Client
from minidock.errors import NotFound

FLAGS = [
    Flag(
        "format", "f", "string", "Format output using a custom template ('json' or a Go template)"
    ),
    Flag("size", "s", "bool", "Display total file sizes if the type is container"),
    Flag("type", "", "string", "Only inspect objects of the given type"),
]

HELP = {
    "inspect": Usage(
        "inspect", "[OPTIONS] NAME|ID [NAME|ID...]", "Return low-level information", FLAGS
    )
}

for _kind in ("container", "image"):
    HELP[f"{_kind} inspect"] = Usage(
        f"{_kind} inspect",
        f"[OPTIONS] {_kind.upper()} [{_kind.upper()}...]",
        f"Display detailed information on one or more {_kind}s",
        FLAGS,
    )

PLACES = {"container": "/containers/{}/json", "image": "/images/{}/json", "network": "/networks/{}"}


# %% inspect
def run(arguments: list[str]) -> int:
    """``minidock inspect``: a container, an image or a network, whichever has the name."""
    values, names = parse(arguments, FLAGS)
    need(names, "inspect", 1)
    if values["type"] and values["type"] not in PLACES:
        known = ", ".join(f'"{name}"' for name in PLACES)
        raise PlainError(f'unknown type: "{values["type"]}": must be one of {known}')
    client = Client.from_environment()
    found, status = [], 0
    for name in names:
        entry = _find(client, name, values["type"], values["size"])
        if entry is None:
            status = 1
            if not values["type"]:
                sys.stderr.write(f"Error: No such object: {name}\n")
        else:
            found.append(entry)
    _show(found, values["format"])
    return status


def _find(client: Client, name: str, kind: str, size: bool) -> Any:
    for path in [PLACES[kind]] if kind else PLACES.values():
        try:
            return client.call("GET", path.format(name) + ("?size=1" if size else ""))
        except NotFound as error:
            if kind:
                sys.stderr.write(f"Error response from daemon: {error}\n")
    return None


def _show(found: list[Any], template: str) -> None:
    if not template:
        print(json.dumps(found, indent=4))
        return
    if template == "json":
        for entry in found:
            print(json.dumps(entry))
        return
    from minidock.cli.gotemplate import Template

    compiled = Template(template, strict=True)
    for entry in found:
        print(compiled.render(entry))


def _of(kind: str) -> Callable[[list[str]], int]:
    return lambda arguments: run([f"--type={kind}", *arguments])


COMMANDS = {"container inspect": _of("container"), "image inspect": _of("image")}
