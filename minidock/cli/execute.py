"""``minidock exec``.

**Interface:** :func:`run`.

**See:** docker/cli ``cli/command/container/exec.go``.
"""

from __future__ import annotations

from minidock.cli import streams
from minidock.cli.flags import Flag, UsageError, parse, usage
from minidock.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import Any

FLAGS = [
    Flag("detach", "d", "bool", "Detached mode: run command in the background"),
    Flag("env", "e", "list", "Set environment variables"),
    Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    Flag("privileged", "", "bool", "Give extended privileges to the command"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("user", "u", "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("workdir", "w", "string", "Working directory inside the container"),
]

HELP = {
    "exec": usage(
        "exec",
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        FLAGS,
    )
}


# %% exec
def run(arguments: list[str]) -> int:
    """``minidock exec``: describe, start, copy, ask for the status."""
    values, rest = parse(arguments, FLAGS, intersperse=False)
    if len(rest) < 2:
        raise UsageError("'minidock exec' requires at least 2 arguments")
    client = Client.from_environment()
    made = client.call("POST", f"/containers/{rest[0]}/exec", _body(values, rest[1:]))["Id"]
    if values["detach"]:
        client.call("POST", f"/exec/{made}/start", {"Detach": True, "Tty": values["tty"]})
        return 0
    raw, early = client.another().hijack(
        f"/exec/{made}/start", {"Detach": False, "Tty": values["tty"]}
    )
    terminal, stdin = values["tty"], values["interactive"]

    def resized() -> None:
        height, width = streams.window_size(0)
        if height:
            client.call("POST", f"/exec/{made}/resize?h={height}&w={width}")

    if terminal and stdin:
        with streams.raw_terminal(0):
            streams.copy(raw, early, terminal, stdin, resized)
    else:
        streams.copy(raw, early, terminal, stdin)
    return int(client.call("GET", f"/exec/{made}/json")["ExitCode"] or 0)


def _body(values: Any, command: list[str]) -> dict[str, Any]:
    return {
        "User": values["user"],
        "Privileged": values["privileged"],
        "Tty": values["tty"],
        "AttachStdin": values["interactive"],
        "AttachStdout": not values["detach"],
        "AttachStderr": not values["detach"],
        "Detach": values["detach"],
        "Env": values["env"] or None,
        "WorkingDir": values["workdir"],
        "Cmd": command,
    }
