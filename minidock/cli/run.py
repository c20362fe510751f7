"""``minidock run`` and ``minidock create``.

**Interface:** :func:`run`, :func:`create`.

The order of requests is what makes ``run`` lose nothing: create, attach
(before the start, not to miss the first byte), wait (before the start, not
to miss the end), start, copy the streams, and the exit status.

**See:** docker/cli ``cli/command/container/run.go``; ``docker run`` on exit
status: 125 the engine, 126 cannot be executed, 127 not found.
"""

from __future__ import annotations

import os
import sys

from minidock.cli import HINT
from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.cli.options import OPTIONS
from minidock.cli.request import body_of, check_pull
from minidock.client import Client, quote
from minidock.errors import MiniDockError, NotFound
from minidock.lean import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, loads, signal

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import Any

RUN_ONLY = [
    Flag("detach", "d", "bool", "Run container in background and print container ID"),
    Flag("sig-proxy", "", "bool", "Proxy received signals to the process", True),
    Flag("detach-keys", "", "string", "Override the key sequence for detaching a container"),
    Flag("explain", "", "bool", "Show every step as it happens"),
    Flag("fault", "", "string", ""),
]

HELP = {
    "run": Usage(
        "run",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        [*OPTIONS, *RUN_ONLY],
    ),
    "create": Usage(
        "create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", OPTIONS
    ),
}


# %% create
def create(arguments: list[str]) -> int:
    """``minidock create``."""
    values, rest = parse(arguments, OPTIONS, intersperse=False)
    need(rest, "create", 1)
    check_pull(values)
    client = Client.from_environment()
    print(make(client, values, body_of(values, rest, attach=True)))
    return 0


def make(client: Client, values: Any, body: dict[str, Any]) -> str:
    """Create the container; returns its id. An image that is missing is asked for, as Docker does."""
    words = [("name", values["name"]), ("platform", values["platform"])]
    query = "&".join(f"{name}={quote(value)}" for name, value in words if value)
    path = f"/containers/create{query and '?' + query}"
    cidfile = values["cidfile"]
    if cidfile and os.path.exists(cidfile):
        raise PlainError(
            "container ID file found, make sure the other container isn't running or delete "
            + cidfile
        )
    made = _made(client, values, path, body)
    for warning in made.get("Warnings") or ():
        sys.stderr.write(f"WARNING: {warning}\n")
    if cidfile:
        with open(cidfile, "x") as file:
            file.write(made["Id"])
    return str(made["Id"])


def _made(client: Client, values: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to the request; the image is pulled before, or when it is missing, or never."""
    if values["pull"] == "always":
        _pull(client, body["Image"], values)
    try:
        return dict(client.call("POST", path, body))
    except NotFound as error:
        if "No such image" not in str(error) or values["pull"] == "never":
            raise
        if not values["quiet"]:
            sys.stderr.write(f"Unable to find image '{_shown(body['Image'])}' locally\n")
    _pull(client, body["Image"], values)
    return dict(client.call("POST", path, body))


def _pull(client: Client, image: str, values: Any) -> None:
    from minidock.cli.registry import fetch
    from minidock.spec.reference import parse as parse_name

    fetch(client, parse_name(image), values["platform"], sys.stderr, values["quiet"])


def _shown(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


# %% run
def run(arguments: list[str]) -> int:
    """``minidock run``."""
    values, rest = parse(arguments, [*OPTIONS, *RUN_ONLY], intersperse=False)
    need(rest, "run", 1)
    check_pull(values)
    if values["detach"] and values["attach"]:
        raise PlainError("conflicting options: cannot specify both --attach and --detach")
    body = body_of(values, rest, attach=not values["detach"])
    if body["Tty"] and body["AttachStdin"]:
        need_terminal()
    client = Client.from_environment()
    if values["fault"]:
        client.headers["X-MiniDock-Fault"] = values["fault"]
    if not values["explain"]:
        return _run(client, values, body)
    from minidock.cli.explain import explained

    with explained(client):
        return _run(client, values, body)


def _run(client: Client, values: Any, body: dict[str, Any]) -> int:
    container = make(client, values, body)
    if values["detach"]:
        _start(client, container)
        print(container)
        return 0
    streams = {name.lower(): body[f"Attach{name}"] for name in ("Stdin", "Stdout", "Stderr")}
    return attached(client, container, {**values, "streams": streams})


def need_terminal(first: str = "") -> None:
    """Somebody who types into a container's terminal must have one; but ``first`` must be there."""
    if not os.isatty(0):
        if first:
            Client.from_environment().call("GET", first)
        raise PlainError("the input device is not a TTY")


def _start(client: Client, container: str) -> None:
    client.call("POST", f"/containers/{container}/start")


# %% attached
def attached(client: Client, container: str, wishes: dict[str, Any]) -> int:
    """Attach, start, copy until the end; returns the container's exit status."""
    from minidock.cli import streams

    wanted, terminal = wishes["streams"], wishes["tty"]
    keys = streams.detach_keys(wishes["detach-keys"])
    query = "".join(f"&{name}=1" for name, wants in wanted.items() if wants)
    raw, early = client.another().hijack(f"/containers/{container}/attach?stream=1{query}")
    condition = "removed" if wishes["rm"] else "next-exit"
    waiter = client.another().open("POST", f"/containers/{container}/wait?condition={condition}")
    try:
        _start(client, container)
    except MiniDockError as error:
        raw.close()
        sys.stderr.write(f"minidock: Error response from daemon: {error}{HINT}\n")
        return status_of(str(error))

    def resized() -> None:
        height, width = streams.window_size(0)
        if height:
            client.call("POST", f"/containers/{container}/resize?h={height}&w={width}")

    with proxied_signals(container, wishes["sig-proxy"] and not terminal):
        stayed = streams.connect(raw, early, terminal, wanted["stdin"], resized, keys)
    if not stayed:
        return 0
    return int(loads(waiter.read())["StatusCode"])


def status_of(message: str) -> int:
    """By the daemon's words, as Docker's command line does it."""
    if "executable file not found" in message or "no such file or directory" in message:
        return 127
    if "permission denied" in message or "is a directory" in message:
        return 126
    return 125


# %% Signals to us are for the program
class proxied_signals:  # noqa: N801 (reads as a statement)
    """Send what we get (Ctrl-C without a terminal, kill) on to the container."""

    def __init__(self, container: str, wanted: bool) -> None:
        self._container = container
        self._wanted = wanted
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if not self._wanted:
            return
        for number in (SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1):
            self._before[number] = signal(number, lambda n, _: self._send(n))

    def _send(self, number: int) -> None:
        """In a thread: a signal may come in the middle of a request on the connection."""

        def send() -> None:
            try:
                Client().call("POST", f"/containers/{self._container}/kill?signal={number}")
            except MiniDockError:
                return  # it has ended in the meantime

        import threading

        threading.Thread(target=send, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal(number, before)


COMMANDS = {"create": create, "run": run}
