"""Commands about the daemon.

**Interface:** :data:`COMMANDS`.
"""

import json
import time
from typing import Any

from minidock import __version__
from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.cli.logs import moment
from minidock.cli.ps import filters
from minidock.cli.table import print_table
from minidock.client import VERSION, Client

FORMAT = Flag(
    "format", "f", "string", "Format output using a custom template ('json' or a Go template)"
)

EVENTS = [
    Flag("filter", "f", "filter", "Filter output based on conditions provided"),
    Flag("format", "", "string", "Format output using a custom template"),
    Flag("since", "", "string", "Show all events created since timestamp"),
    Flag("until", "", "string", "Stream events until this timestamp"),
]

HELP = {
    "version": Usage("version", "[OPTIONS]", "Show the version information", [FORMAT]),
    "info": Usage("info", "[OPTIONS]", "Display system-wide information", [FORMAT]),
    "events": Usage("events", "[OPTIONS]", "Get real time events from the daemon", EVENTS),
    "network": Usage("network", "ls | inspect NAME", "List or inspect networks", []),
}


# %% version, info
def version(arguments: list[str]) -> int:
    """``minidock version``."""
    values, rest = parse(arguments, [FORMAT])
    need(rest, "version", 0, 0)
    server = Client.from_environment().call("GET", "/version")
    client = {
        "Version": __version__,
        "ApiVersion": VERSION[1:],
        "Os": "linux",
        "Arch": server["Arch"],
    }
    if values["format"]:
        return _templated({"Client": client, "Server": server}, values["format"])
    print(
        f"Client: MiniDock\n Version:           {client['Version']}\n API version:       {client['ApiVersion']}"
    )
    print(f"\nServer: {server['Platform']['Name']}\n Engine:")
    for title, key in (
        ("Version", "Version"),
        ("API version", "ApiVersion"),
        ("Minimum API", "MinAPIVersion"),
        ("Kernel", "KernelVersion"),
        ("OS/Arch", "Arch"),
    ):
        print(f"  {title + ':':<17} {server[key]}")
    return 0


def info(arguments: list[str]) -> int:
    """``minidock info``."""
    values, rest = parse(arguments, [FORMAT])
    need(rest, "info", 0, 0)
    server = Client.from_environment().call("GET", "/info")
    if values["format"]:
        return _templated(server, values["format"])
    for title, key in (
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
        ("Total Memory", "MemTotal"),
        ("Name", "Name"),
        ("Docker Root Dir", "DockerRootDir"),
    ):
        print(f"{title}: {server[key]}")
    return 0


def _templated(value: Any, template: str) -> int:
    if template == "json":
        print(json.dumps(value))
        return 0
    from minidock.cli.gotemplate import Template

    print(Template(template, strict=True).render(value))
    return 0


# %% events
def events(arguments: list[str]) -> int:
    """``minidock events``."""
    values, rest = parse(arguments, EVENTS)
    need(rest, "events", 0, 0)
    query = "?x=1" + "".join(f"&{n}={moment(values[n])}" for n in ("since", "until") if values[n])
    answer = Client.from_environment().open("GET", f"/events{query}{filters(values['filter'])}")
    for line in answer.lines():
        event = json.loads(line)
        if values["format"]:
            _templated(event, values["format"])
        else:
            print(_line(event), flush=True)
    return 0


def _line(event: dict[str, Any]) -> str:
    seconds, rest = divmod(event["timeNano"], 10**9)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) + f".{rest:09}"
    zone = time.strftime("%z", time.localtime(seconds))
    actor = event["Actor"]
    attributes = ", ".join(f"{k}={v}" for k, v in sorted(actor["Attributes"].items()))
    return f"{stamp}{zone[:3]}:{zone[3:]} {event['Type']} {event['Action']} {actor['ID']} ({attributes})"


# %% network
def network(arguments: list[str]) -> int:
    """``minidock network ls`` and ``inspect``."""
    verb, *names = arguments or ["ls"]
    client = Client.from_environment()
    if verb in ("ls", "list"):
        rows = [
            [one["Id"][:12], one["Name"], one["Driver"], one["Scope"]]
            for one in client.call("GET", "/networks")
        ]
        print_table(["NETWORK ID", "NAME", "DRIVER", "SCOPE"], rows)
        return 0
    if verb == "inspect" and names:
        print(json.dumps([client.call("GET", f"/networks/{name}") for name in names], indent=4))
        return 0
    raise PlainError(f"unknown command: minidock network {verb}")


COMMANDS = {"version": version, "info": info, "events": events, "network": network}

run = info
