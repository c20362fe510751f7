"""``minidock attach``.

**Interface:** :func:`run`.
"""

import json

from minidock.cli import streams
from minidock.cli.flags import Flag, UsageError, parse, usage
from minidock.cli.run import proxied_signals
from minidock.client import Client
from minidock.errors import Conflict

FLAGS = [
    Flag("no-stdin", "", "bool", "Do not attach STDIN"),
    Flag("sig-proxy", "", "bool", "Proxy all received signals to the process", True),
    Flag("detach-keys", "", "string", "Override the key sequence for detaching a container"),
]

HELP = {"attach": usage("attach", "[OPTIONS] CONTAINER", "Attach to a running container", FLAGS)}


# %% attach
def run(arguments: list[str]) -> int:
    """``minidock attach``; the status is the container's."""
    values, rest = parse(arguments, FLAGS)
    if len(rest) != 1:
        raise UsageError("'minidock attach' requires 1 argument")
    client = Client.from_environment()
    known = client.call("GET", f"/containers/{rest[0]}/json")
    if not known["State"]["Running"]:
        raise Conflict("You cannot attach to a stopped container, start it first")
    terminal = known["Config"]["Tty"]
    stdin = known["Config"]["OpenStdin"] and not values["no-stdin"]
    waiter = client.another().open("POST", f"/containers/{rest[0]}/wait?condition=not-running")
    path = f"/containers/{rest[0]}/attach?stream=1&stdout=1&stderr=1&stdin={int(stdin)}"
    raw, early = client.another().hijack(path)
    with proxied_signals(rest[0], values["sig-proxy"] and not terminal):
        if terminal and stdin:
            with streams.raw_terminal(0):
                stayed = streams.copy(raw, early, terminal, stdin)
        else:
            stayed = streams.copy(raw, early, terminal, stdin)
    return int(json.loads(waiter.read())["StatusCode"]) if stayed else 0
