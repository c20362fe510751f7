"""``minidock exec``.

**Interface:** :func:`run`.

**See:** docker/cli ``cli/command/container/exec.go``.
"""

from __future__ import annotations

from minidock.cli import streams
from minidock.cli.flags import Flag, OptionError, PlainError, Usage, need, parse
from minidock.cli.values import variable
from minidock.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import Any

FLAGS = [
    Flag("detach", "d", "bool", "Detached mode: run command in the background"),
    Flag("detach-keys", "", "string", "Override the key sequence for detaching a container"),
    Flag("env", "e", "list", "Set environment variables", convert=variable),
    Flag("env-file", "", "list", "Read in a file of environment variables"),
    Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    Flag("privileged", "", "bool", "Give extended privileges to the command"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("user", "u", "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("workdir", "w", "string", "Working directory inside the container"),
]

HELP = {
    "exec": Usage(
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
    need(rest, "exec", 2)
    terminal, stdin = values["tty"], values["interactive"]
    keys = streams.detach_keys(values["detach-keys"])
    if terminal and stdin and not values["detach"]:
        from minidock.cli.run import need_terminal

        need_terminal(f"/containers/{rest[0]}/json")
    client = Client.from_environment()
    made = client.call("POST", f"/containers/{rest[0]}/exec", _body(values, rest[1:]))["Id"]
    if values["detach"]:
        client.call("POST", f"/exec/{made}/start", {"Detach": True, "Tty": values["tty"]})
        return 0
    raw, early = client.another().hijack(
        f"/exec/{made}/start", {"Detach": False, "Tty": values["tty"]}
    )

    def resized() -> None:
        height, width = streams.window_size(0)
        if height:
            client.call("POST", f"/exec/{made}/resize?h={height}&w={width}")

    if not streams.connect(raw, early, terminal, stdin, resized, keys):
        return 0
    status = client.call("GET", f"/exec/{made}/json")["ExitCode"]
    return 1 if status is None else int(status)  # the stream has ended, and nobody knows why


def _body(values: Any, command: list[str]) -> dict[str, Any]:
    variables = values["env"]
    if values["env-file"]:
        from minidock.cli.request import variables_of

        try:
            variables = [*variables_of(values["env-file"]), *variables]
        except OptionError as error:
            raise PlainError(str(error)) from None
    size = streams.window_size(1) if values["tty"] else (0, 0)
    return {
        "User": values["user"],
        "Privileged": values["privileged"],
        "Tty": values["tty"],
        "AttachStdin": values["interactive"] and not values["detach"],
        "AttachStdout": not values["detach"],
        "AttachStderr": not values["detach"],
        "Detach": values["detach"],
        "DetachKeys": values["detach-keys"],
        "ConsoleSize": list(size) if any(size) else None,
        "Env": variables or None,
        "WorkingDir": values["workdir"],
        "Cmd": command,
    }
