"""``minidock stats``.

**Interface:** :func:`run`.

**See:** docker/cli ``cli/command/container/stats_helpers.go``.
"""

import json
import sys
from typing import Any

from minidock.cli.flags import Flag, Usage, parse
from minidock.cli.table import binary_size, human_size, show
from minidock.client import Client
from minidock.errors import NotFound

FLAGS = [
    Flag("all", "a", "bool", "Show all containers (default shows just running)"),
    Flag("format", "", "string", "Format output using a custom template"),
    Flag("no-stream", "", "bool", "Disable streaming stats and only pull the first result"),
    Flag("no-trunc", "", "bool", "Do not truncate output"),
]

HELP = {
    "stats": Usage(
        "stats",
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        FLAGS,
    )
}


# %% stats
def run(arguments: list[str]) -> int:
    """``minidock stats``: a table, and on a terminal one after the other."""
    values, names = parse(arguments, FLAGS)
    client = Client.from_environment()
    while True:
        samples = _samples(client, names, values["all"])
        text_above = "\x1b[2J\x1b[H" if not values["no-stream"] and sys.stdout.isatty() else ""
        sys.stdout.write(text_above)
        show(samples, _columns(values["no-trunc"]), CHOSEN, values["format"])
        sys.stdout.flush()
        if values["no-stream"]:
            return 0


def _samples(client: Client, names: list[str], everybody: bool) -> list[Any]:
    """One of each; the containers are asked all at once, as each takes its second to answer."""
    wanted = names or [
        one["Id"] for one in client.call("GET", f"/containers/json?all={int(everybody)}") or []
    ]
    answers = []
    for name in wanted:
        try:
            answers.append(client.another().open("GET", f"/containers/{name}/stats?stream=0"))
        except NotFound:
            if names:
                raise
    return [json.loads(answer.read()) for answer in answers]


# %% The columns
CHOSEN = ("Container", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")


def processor_share(now: dict[str, Any]) -> float:
    """Per cent of one processor between two samples."""
    used, before = now["cpu_stats"], now["precpu_stats"]
    ours = used["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    host = (used.get("system_cpu_usage") or 0) - (before.get("system_cpu_usage") or 0)
    return 100.0 * ours / host * used["online_cpus"] if host > 0 and ours > 0 else 0.0


def _memory(one: dict[str, Any]) -> tuple[int, int]:
    return one["memory_stats"].get("usage", 0), one["memory_stats"].get("limit", 0)


def _network(one: dict[str, Any]) -> str:
    found = (one.get("networks") or {}).values()
    return " / ".join(human_size(sum(n[key] for n in found)) for key in ("rx_bytes", "tx_bytes"))


def _blocks(one: dict[str, Any]) -> str:
    entries = one["blkio_stats"].get("io_service_bytes_recursive") or []
    return " / ".join(
        human_size(sum(e["value"] for e in entries if e["op"].lower() == op))
        for op in ("read", "write")
    )


def _columns(whole: bool) -> dict[str, Any]:
    def identity(one: dict[str, Any]) -> str:
        return str(one["id"] if whole else one["id"][:12])

    return {
        "Container": ("CONTAINER ID", identity),
        "ID": ("CONTAINER ID", identity),
        "Name": ("NAME", lambda one: one["name"].lstrip("/")),
        "CPUPerc": ("CPU %", lambda one: f"{processor_share(one):.2f}%"),
        "MemUsage": ("MEM USAGE / LIMIT", lambda one: " / ".join(map(binary_size, _memory(one)))),
        "MemPerc": (
            "MEM %",
            lambda one: f"{100.0 * _memory(one)[0] / (_memory(one)[1] or 1):.2f}%",
        ),
        "NetIO": ("NET I/O", _network),
        "BlockIO": ("BLOCK I/O", _blocks),
        "PIDs": ("PIDS", lambda one: str(one["pids_stats"].get("current", 0))),
    }
