"""Commands about containers that need few words.

**Interface:** :data:`COMMANDS`.

Most take several names, do one after the other, print each name, and go on
when one fails; the status says whether any did.
"""

import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from minidock.cli.flags import Flag, PlainError, Usage, Values, need, parse
from minidock.client import Client
from minidock.errors import MiniDockError, NotFound, NotModified

TIME = [
    Flag("timeout", "t", "int", "Seconds to wait before killing the container"),
    Flag("time", "", "int"),
    Flag("signal", "s", "string", "Signal to send to the container"),
]

FLAGS: dict[str, list[Flag]] = {
    "stop": TIME,
    "restart": TIME,
    "kill": [Flag("signal", "s", "string", "Signal to send to the container")],
    "rm": [
        Flag("force", "f", "bool", "Force the removal of a running container (uses SIGKILL)"),
        Flag("link", "l", "bool", "Remove the specified link"),
        Flag("volumes", "v", "bool", "Remove anonymous volumes associated with the container"),
    ],
    "wait": [],
    "start": [
        Flag("attach", "a", "bool", "Attach STDOUT/STDERR and forward signals"),
        Flag("detach-keys", "", "string", "Override the key sequence for detaching a container"),
        Flag("interactive", "i", "bool", "Attach container's STDIN"),
    ],
    "pause": [],
    "unpause": [],
    "rename": [],
    "diff": [],
    "top": [],
    "port": [],
}

MANY = "[OPTIONS] CONTAINER [CONTAINER...]"

ABOUT = {
    "stop": (MANY, "Stop one or more running containers"),
    "restart": (MANY, "Restart one or more containers"),
    "kill": (MANY, "Kill one or more running containers"),
    "rm": (MANY, "Remove one or more containers"),
    "wait": (MANY[10:], "Block until one or more containers stop, then print their exit codes"),
    "start": (MANY, "Start one or more stopped containers"),
    "pause": (MANY[10:], "Pause all processes within one or more containers"),
    "unpause": (MANY[10:], "Unpause all processes within one or more containers"),
    "rename": ("CONTAINER NEW_NAME", "Rename a container"),
    "diff": ("CONTAINER", "Inspect changes to files or directories on a container's filesystem"),
    "top": ("CONTAINER [ps OPTIONS]", "Display the running processes of a container"),
    "port": (
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
    ),
}

HELP = {
    name: Usage(name, synopsis, about, FLAGS[name]) for name, (synopsis, about) in ABOUT.items()
}


# %% One after the other
def each(names: list[str], command: str, act: Callable[[str], str], forgiving: bool = False) -> int:
    """``act`` on every name and print what it gives; errors are printed, and make the status 1.

    ``forgiving``: something that is not there is said, and is no failure.
    """
    need(names, command, 1)
    status = 0
    for name in names:
        try:
            print(act(name), flush=True)
        except NotModified:
            print(name)
        except MiniDockError as error:
            sys.stderr.write(f"Error response from daemon: {error}\n")
            status = 0 if forgiving and isinstance(error, NotFound) and not status else 1
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
    words = [f"t={values[name]}" for name in ("timeout", "time") if name in values.given]
    words += [f"signal={values['signal']}"] if values["signal"] else []
    return "?" + "&".join(words) if words else ""


# %% rm, wait, start
def remove(arguments: list[str]) -> int:
    """``minidock rm``; with ``-f`` what is not there is as good as removed."""
    values, names = parse(arguments, FLAGS["rm"])
    client = Client.from_environment()
    words = [("force", "force"), ("link", "link"), ("v", "volumes")]
    query = "&".join(f"{key}=1" for key, name in words if values[name])

    def act(name: str) -> str:
        client.call("DELETE", f"/containers/{name}{query and '?' + query}")
        return name

    return each(names, "rm", act, forgiving=values["force"])


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
    need(names, "start", 1)
    if values["attach"] or values["interactive"]:
        if len(names) > 1:
            raise PlainError("you cannot start and attach multiple containers at once")
        return _start_attached(names[0], values)
    client, failed = Client.from_environment(), []
    for name in names:
        try:
            client.call("POST", f"/containers/{name}/start")
        except NotModified:
            pass
        except MiniDockError as error:
            sys.stderr.write(f"Error response from daemon: {error}\n")
            failed.append(name)
            continue
        print(name, flush=True)
    if failed:
        raise PlainError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(name: str, values: Values) -> int:
    from minidock.cli.run import attached

    client = Client.from_environment()
    known: dict[str, Any] = client.call("GET", f"/containers/{name}/json")
    wishes = {
        "tty": known["Config"]["Tty"],
        "streams": {
            "stdin": values["interactive"] and known["Config"]["OpenStdin"],
            "stdout": True,
            "stderr": True,
        },
        "rm": known["HostConfig"]["AutoRemove"],
        "sig-proxy": True,
        "detach-keys": values["detach-keys"],
    }
    return attached(client, known["Id"], wishes)


# %% rename, diff, top, port
def rename(arguments: list[str]) -> int:
    """``minidock rename``."""
    _, names = parse(arguments, FLAGS["rename"])
    need(names, "rename", 2, 2)
    path = f"/containers/{names[0]}/rename?name={quote(names[1])}"
    try:
        Client.from_environment().call("POST", path)
    except MiniDockError as error:
        raise PlainError(
            f"Error response from daemon: {error}\nError: failed to rename container named {names[0]}"
        ) from None
    return 0


def diff(arguments: list[str]) -> int:
    """``minidock diff``."""
    _, names = parse(arguments, FLAGS["diff"])
    need(names, "diff", 1, 1)
    for change in Client.from_environment().call("GET", f"/containers/{names[0]}/changes") or []:
        print(f"{'CAD'[change['Kind']]} {change['Path']}")
    return 0


def top(arguments: list[str]) -> int:
    """``minidock top``; what follows the name is for ps(1)."""
    from minidock.cli.table import print_table

    _, words = parse(arguments, FLAGS["top"], intersperse=False)
    need(words, "top", 1)
    query = f"?ps_args={quote(' '.join(words[1:]))}" if words[1:] else ""
    found = Client.from_environment().call("GET", f"/containers/{words[0]}/top{query}")
    print_table(found["Titles"], found["Processes"])
    return 0


def port(arguments: list[str]) -> int:
    """``minidock port``."""
    _, rest = parse(arguments, FLAGS["port"])
    need(rest, "port", 1, 2)
    known = Client.from_environment().call("GET", f"/containers/{rest[0]}/json")
    ports = known["NetworkSettings"]["Ports"]
    if len(rest) == 1:
        for key, bindings in sorted(ports.items()):
            for one in bindings or ():
                print(f"{key} -> {one['HostIp']}:{one['HostPort']}")
        return 0
    key = rest[1] if "/" in rest[1] else f"{rest[1]}/tcp"
    if not ports.get(key):
        raise PlainError(f"Error: No public port '{rest[1]}' published for {rest[0]}")
    for one in ports[key]:
        print(f"{one['HostIp']}:{one['HostPort']}")
    return 0


COMMANDS = {
    "stop": _verb("stop", _timing),
    "restart": _verb("restart", _timing),
    "kill": _verb("kill", lambda v: f"?signal={quote(v['signal'])}" if v["signal"] else ""),
    "pause": _verb("pause"),
    "unpause": _verb("unpause"),
    "start": start,
    "rm": remove,
    "wait": wait,
    "rename": rename,
    "diff": diff,
    "top": top,
    "port": port,
}

run = remove
