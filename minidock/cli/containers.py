"""Commands about containers that need few words.

**Interface:** :data:`COMMANDS`.

Most take several names, do one after the other, print each name, and go on
when one fails; the status says whether any did.
"""

import sys
from collections.abc import Callable
from typing import Any

from minidock.cli.flags import Flag, UsageError, Values, parse, usage
from minidock.client import Client
from minidock.errors import MiniDockError, NotModified

TIME = [
    Flag("time", "t", "int", "Seconds to wait before killing the container", -1),
    Flag("signal", "s", "string", "Signal to send to the container"),
]

FLAGS: dict[str, list[Flag]] = {
    "stop": TIME,
    "restart": TIME,
    "kill": [Flag("signal", "s", "string", "Signal to send to the container", "KILL")],
    "rm": [
        Flag("force", "f", "bool", "Force the removal of a running container (uses SIGKILL)"),
        Flag("volumes", "v", "bool", "Remove anonymous volumes associated with the container"),
    ],
    "wait": [],
    "start": [
        Flag("attach", "a", "bool", "Attach STDOUT/STDERR and forward signals"),
        Flag("interactive", "i", "bool", "Attach container's STDIN"),
    ],
    "rename": [],
    "diff": [],
    "top": [],
    "port": [],
}

ABOUT = {
    "stop": "Stop one or more running containers",
    "restart": "Restart one or more containers",
    "kill": "Kill one or more running containers",
    "rm": "Remove one or more containers",
    "wait": "Block until one or more containers stop, then print their exit codes",
    "start": "Start one or more stopped containers",
    "rename": "Rename a container",
    "diff": "Inspect changes to files or directories on a container's filesystem",
    "top": "Display the running processes of a container",
    "port": "List port mappings or a specific mapping for the container",
}

HELP = {
    name: usage(name, "[OPTIONS] CONTAINER...", about, FLAGS[name]) for name, about in ABOUT.items()
}


# %% One after the other
def each(names: list[str], command: str, act: Callable[[str], str]) -> int:
    """``act`` on every name and print what it gives; errors are printed, and make the status 1."""
    if not names:
        raise UsageError(f"'minidock {command}' requires at least 1 argument")
    status = 0
    for name in names:
        try:
            print(act(name), flush=True)
        except NotModified:
            print(name)
        except MiniDockError as error:
            sys.stderr.write(f"Error response from daemon: {error}\n")
            status = 1
    return status


def _verb(
    command: str, query: Callable[[Values], str] = lambda _: ""
) -> Callable[[list[str]], int]:
    """A command that posts to ``/containers/NAME/COMMAND``."""

    def run(arguments: list[str]) -> int:
        values, names = parse(arguments, FLAGS[command])
        client = Client.from_environment()

        def act(name: str) -> str:
            client.call("POST", f"/containers/{name}/{command}{query(values)}")
            return name

        return each(names, command, act)

    return run


def _timing(values: Values) -> str:
    words = [f"t={values['time']}"] if "time" in values.given else []
    words += [f"signal={values['signal']}"] if values["signal"] else []
    return "?" + "&".join(words) if words else ""


# %% rm, wait, start
def remove(arguments: list[str]) -> int:
    """``minidock rm``."""
    values, names = parse(arguments, FLAGS["rm"])
    client = Client.from_environment()

    def act(name: str) -> str:
        query = f"force={int(values['force'])}&v={int(values['volumes'])}"
        client.call("DELETE", f"/containers/{name}?{query}")
        return name

    return each(names, "rm", act)


def wait(arguments: list[str]) -> int:
    """``minidock wait``."""
    _, names = parse(arguments, FLAGS["wait"])
    client = Client.from_environment()
    return each(
        names,
        "wait",
        lambda name: str(client.call("POST", f"/containers/{name}/wait")["StatusCode"]),
    )


def start(arguments: list[str]) -> int:
    """``minidock start``; with ``-a`` its output and status become ours."""
    values, names = parse(arguments, FLAGS["start"])
    client = Client.from_environment()
    if not (values["attach"] or values["interactive"]):
        return _verb("start")(names)
    if len(names) != 1:
        raise UsageError("you cannot start and attach multiple containers at once")
    from minidock.cli.run import attached

    known: dict[str, Any] = client.call("GET", f"/containers/{names[0]}/json")
    wishes = {
        "tty": known["Config"]["Tty"],
        "interactive": values["interactive"] and known["Config"]["OpenStdin"],
        "rm": known["HostConfig"]["AutoRemove"],
        "sig-proxy": True,
    }
    return attached(client, known["Id"], wishes)


# %% rename, diff, top, port
def rename(arguments: list[str]) -> int:
    """``minidock rename``."""
    _, names = parse(arguments, FLAGS["rename"])
    if len(names) != 2:
        raise UsageError("'minidock rename' requires 2 arguments")
    Client.from_environment().call("POST", f"/containers/{names[0]}/rename?name={names[1]}")
    return 0


def diff(arguments: list[str]) -> int:
    """``minidock diff``."""
    _, names = parse(arguments, FLAGS["diff"])
    if len(names) != 1:
        raise UsageError("'minidock diff' requires 1 argument")
    for change in Client.from_environment().call("GET", f"/containers/{names[0]}/changes") or []:
        print(f"{'CAD'[change['Kind']]} {change['Path']}")
    return 0


def top(arguments: list[str]) -> int:
    """``minidock top``."""
    from minidock.cli.table import print_table

    if not arguments:
        raise UsageError("'minidock top' requires at least 1 argument")
    name, *words = arguments
    query = f"?ps_args={'%20'.join(words)}" if words else ""
    found = Client.from_environment().call("GET", f"/containers/{name}/top{query}")
    print_table(found["Titles"], found["Processes"])
    return 0


def port(arguments: list[str]) -> int:
    """``minidock port``."""
    _, rest = parse(arguments, FLAGS["port"])
    if not rest:
        raise UsageError("'minidock port' requires at least 1 argument")
    known = Client.from_environment().call("GET", f"/containers/{rest[0]}/json")
    ports = known["NetworkSettings"]["Ports"]
    if len(rest) == 1:
        for key, bindings in ports.items():
            for one in bindings or ():
                print(f"{key} -> {one['HostIp']}:{one['HostPort']}")
        return 0
    key = rest[1] if "/" in rest[1] else f"{rest[1]}/tcp"
    if not ports.get(key):
        raise MiniDockError(f"No public port '{key}' published for {rest[0]}")
    for one in ports[key]:
        print(f"{one['HostIp']}:{one['HostPort']}")
    return 0


COMMANDS = {
    "stop": _verb("stop", _timing),
    "restart": _verb("restart", _timing),
    "kill": _verb("kill", lambda values: f"?signal={values['signal']}"),
    "start": start,
    "rm": remove,
    "wait": wait,
    "rename": rename,
    "diff": diff,
    "top": top,
    "port": port,
}

run = remove
