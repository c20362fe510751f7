"""``minidock ps``.

**Interface:** :func:`run`.

**See:** docker/cli ``cli/command/formatter/container.go``.
"""

import json
from typing import Any
from urllib.parse import quote

from minidock.cli.flags import Flag, Usage, need, parse
from minidock.cli.table import ago, human_size, show
from minidock.client import Client

FLAGS = [
    Flag("all", "a", "bool", "Show all containers (default shows just running)"),
    Flag("filter", "f", "filter", "Filter output based on conditions provided"),
    Flag(
        "format",
        "",
        "string",
        "Format output using a custom template ('table', 'json' or a Go template)",
    ),
    Flag("last", "n", "int", "Show n last created containers (includes all states)", -1),
    Flag("latest", "l", "bool", "Show the latest created container (includes all states)"),
    Flag("no-trunc", "", "bool", "Don't truncate output"),
    Flag("quiet", "q", "bool", "Only display container IDs"),
    Flag("size", "s", "bool", "Display total file sizes"),
]

HELP = {"ps": Usage("ps", "[OPTIONS]", "List containers", FLAGS)}


# %% ps
def run(arguments: list[str]) -> int:
    """``minidock ps``."""
    values, rest = parse(arguments, FLAGS)
    need(rest, "ps", 0, 0)
    limit = 1 if values["latest"] else max(values["last"], 0)
    query = f"?all={int(values['all'])}&limit={limit}&size={int(values['size'])}{filters(values['filter'])}"
    found = Client.from_environment().call("GET", f"/containers/json{query}") or []
    whole = values["no-trunc"]
    if values["quiet"]:
        for one in found:
            print(one["Id"] if whole else one["Id"][:12])
        return 0
    chosen = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
    chosen += ["Size"] if values["size"] else []
    show(found, columns(whole), chosen, values["format"])
    return 0


def filters(given: list[str]) -> str:
    """``--filter NAME=VALUE`` as the API's query."""
    if not given:
        return ""
    table: dict[str, list[str]] = {}
    for text in given:
        name, _, value = text.partition("=")
        table.setdefault(name.strip().lower(), []).append(value)
    return f"&filters={quote(json.dumps(table))}"


# %% The columns
def columns(whole: bool) -> dict[str, Any]:
    """Name in templates, title, value."""
    return {
        "ID": ("CONTAINER ID", lambda one: one["Id"] if whole else one["Id"][:12]),
        "Image": ("IMAGE", lambda one: one["Image"]),
        "Command": ("COMMAND", lambda one: f'"{_short(one["Command"], whole)}"'),
        "RunningFor": ("CREATED", lambda one: ago(one["Created"])),
        "CreatedAt": ("CREATED AT", lambda one: str(one["Created"])),
        "Status": ("STATUS", lambda one: one["Status"]),
        "State": ("STATE", lambda one: one["State"]),
        "Ports": ("PORTS", lambda one: _ports(one["Ports"] or [])),
        "Names": ("NAMES", lambda one: ",".join(name.lstrip("/") for name in one["Names"])),
        "Labels": (
            "LABELS",
            lambda one: ",".join(f"{k}={v}" for k, v in (one["Labels"] or {}).items()),
        ),
        "Mounts": ("MOUNTS", lambda one: ",".join(m.get("Source", "") for m in one["Mounts"])),
        "Label": ("", lambda one: lambda name: (one["Labels"] or {}).get(name, "")),
        "LocalVolumes": ("LOCAL VOLUMES", lambda one: "0"),
        "Networks": ("NETWORKS", lambda one: ",".join(one["NetworkSettings"]["Networks"])),
        "Size": ("SIZE", lambda one: _size(one)),
    }


def _short(command: str, whole: bool) -> str:
    return command if whole or len(command) <= 20 else f"{command[:19]}…"


def _ports(ports: list[dict[str, Any]]) -> str:
    words = []
    for port in ports:
        inside = f"{port['PrivatePort']}/{port['Type']}"
        outside = f"{port.get('IP', '')}:{port['PublicPort']}->" if port.get("PublicPort") else ""
        words.append(outside + inside)
    return ", ".join(words)


def _size(one: dict[str, Any]) -> str:
    return f"{human_size(one.get('SizeRw', 0))} (virtual {human_size(one.get('SizeRootFs', 0))})"
