"""``minidock update``.

**Interface:** :func:`run`.
"""

import sys

from minidock.cli.containers import MANY
from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.cli.options import LIMITS
from minidock.cli.request import limits_of
from minidock.client import Client
from minidock.errors import MiniDockError

FLAGS = [
    *LIMITS,
    Flag("restart", "", "string", "Restart policy to apply when a container exits"),
]

HELP = {"update": Usage("update", MANY, "Update configuration of one or more containers", FLAGS)}


# %% update
def run(arguments: list[str]) -> int:
    """``minidock update``: the same change for every container named."""
    values, names = parse(arguments, FLAGS)
    need(names, "update", 1)
    if not values.given:
        raise PlainError("you must provide one or more flags when using this command")
    body = limits_of(values)
    client = Client.from_environment()
    failures: list[str] = []
    warnings: list[str] = []
    for name in names:
        try:
            warnings += client.call("POST", f"/containers/{name}/update", body)["Warnings"] or []
        except MiniDockError as error:
            failures.append(f"Error response from daemon: {error}")
            continue
        print(name, flush=True)
    for warning in warnings:
        sys.stderr.write(f"{warning}\n")
    if failures:
        raise PlainError("\n".join(failures))
    return 0
