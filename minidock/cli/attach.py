"""``minidock attach``.

**Interface:** :func:`run`.
"""

import json

from minidock.cli import streams
from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.cli.run import proxied_signals
from minidock.client import Client

FLAGS = [
    Flag("no-stdin", "", "bool", "Do not attach STDIN"),
    Flag("sig-proxy", "", "bool", "Proxy all received signals to the process", True),
    Flag("detach-keys", "", "string", "Override the key sequence for detaching a container"),
]

HELP = {"attach": Usage("attach", "[OPTIONS] CONTAINER", "Attach to a running container", FLAGS)}


# %% attach
def run(arguments: list[str]) -> int:
    """``minidock attach``; the status is the container's."""
    values, rest = parse(arguments, FLAGS)
    need(rest, "attach", 1, 1)
    client = Client.from_environment()
    known = client.call("GET", f"/containers/{rest[0]}/json")
    for state, what in (("Paused", "paused"), ("Restarting", "restarting")):
        if known["State"][state]:
            verb = "unpause it first" if state == "Paused" else "wait until it is running"
            raise PlainError(f"You cannot attach to a {what} container, {verb}")
    if not known["State"]["Running"]:
        raise PlainError("You cannot attach to a stopped container, start it first")
    terminal = known["Config"]["Tty"]
    stdin = known["Config"]["OpenStdin"] and not values["no-stdin"]
    keys = streams.detach_keys(values["detach-keys"])
    waiter = client.another().open("POST", f"/containers/{rest[0]}/wait?condition=not-running")
    path = f"/containers/{rest[0]}/attach?stream=1&stdout=1&stderr=1{'&stdin=1' if stdin else ''}"
    raw, early = client.another().hijack(path)

    def resized() -> None:
        height, width = streams.window_size(0)
        if height:
            client.call("POST", f"/containers/{rest[0]}/resize?h={height}&w={width}")

    with proxied_signals(rest[0], values["sig-proxy"] and not terminal):
        stayed = streams.connect(raw, early, terminal, stdin, resized, keys)
    return int(json.loads(waiter.read())["StatusCode"]) if stayed else 0
