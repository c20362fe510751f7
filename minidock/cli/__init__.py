"""The commands: one small file for each group, imported only when it is called.

**Interface:** :func:`run_command`.

A command is a function ``run(arguments) -> status``. What it needs is
imported when it runs, because ``minidock run`` should not wait for the code
of ``minidock doctor``.
"""

import sys
from importlib import import_module

# %% The table of commands
COMMANDS = {
    "attach": ("attach", "Attach local standard input, output and error to a running container"),
    "bootstrap": ("bootstrap", "Make base images from Debian packages"),
    "create": ("run", "Create a new container"),
    "daemon": ("daemon", "Run the daemon in the foreground"),
    "diff": ("containers", "Inspect changes to files in a container's file system"),
    "doctor": ("doctor", "Check whether this host can run containers"),
    "events": ("system", "Get real time events from the daemon"),
    "exec": ("execute", "Execute a command in a running container"),
    "history": ("images", "Show the history of an image"),
    "images": ("images", "List images"),
    "import": ("images", "Import the contents of a tarball as an image"),
    "info": ("system", "Display system-wide information"),
    "inspect": ("inspect", "Return low-level information on objects"),
    "kill": ("containers", "Kill one or more running containers"),
    "load": ("images", "Load an image from a tar archive"),
    "logs": ("logs", "Fetch the logs of a container"),
    "network": ("system", "List networks"),
    "port": ("containers", "List port mappings of a container"),
    "ps": ("ps", "List containers"),
    "rename": ("containers", "Rename a container"),
    "restart": ("containers", "Restart one or more containers"),
    "rm": ("containers", "Remove one or more containers"),
    "rmi": ("images", "Remove one or more images"),
    "run": ("run", "Create and run a new container from an image"),
    "start": ("containers", "Start one or more stopped containers"),
    "stop": ("containers", "Stop one or more running containers"),
    "tag": ("images", "Create a tag that refers to an image"),
    "top": ("containers", "Display the running processes of a container"),
    "version": ("system", "Show the version information"),
    "wait": ("containers", "Block until containers stop, then print their exit codes"),
}

GROUPS = {
    ("container", "ls"): "ps",
    ("container", "list"): "ps",
    ("image", "ls"): "images",
    ("image", "list"): "images",
    ("image", "history"): "history",
    ("image", "rm"): "rmi",
    ("image", "load"): "load",
    ("image", "import"): "import",
    ("image", "tag"): "tag",
    ("image", "inspect"): "inspect",
    ("container", "inspect"): "inspect",
}


# %% Finding and running one
def run_command(arguments: list[str]) -> int:
    """Run ``arguments``; an error becomes one line and a status."""
    if arguments[:1] in ([], ["--help"], ["-h"], ["help"]):
        print(_help())
        return 0
    if arguments[0] in ("--version", "-v"):
        from minidock import __version__

        print(f"MiniDock version {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("container", "image") and rest:
        name, rest = GROUPS.get((name, rest[0]), rest[0]), rest[1:]
    if name not in COMMANDS:
        sys.stderr.write(
            f"minidock: unknown command: minidock {name}\n\nRun 'minidock --help' for more information\n"
        )
        return 1
    return _guarded(name, rest)


def _guarded(name: str, rest: list[str]) -> int:
    from minidock.cli.flags import UsageError, fail
    from minidock.errors import MiniDockError

    module = import_module(f"minidock.cli.{COMMANDS[name][0]}")
    bad_usage = 125 if name in ("run", "create", "exec") else 1
    try:
        handler = getattr(module, "COMMANDS", {}).get(name, module.run)
        return int(handler(rest))
    except UsageError as error:
        if str(error) == "help":
            print(module.HELP[name])
            return 0
        fail(str(error), name, bad_usage)
    except (MiniDockError, OSError) as error:
        sys.stderr.write(f"{_prefix(name, error)}{error}\n")
        return 125 if name == "run" else 1


def _prefix(name: str, error: Exception) -> str:
    from minidock.errors import Forbidden

    if isinstance(error, (OSError, Forbidden)):
        return "minidock: "
    return (
        "minidock: Error response from daemon: "
        if name == "run"
        else "Error response from daemon: "
    )


def _help() -> str:
    lines = ["Usage:  minidock COMMAND", "", "Docker, written to be read", "", "Commands:"]
    lines += [f"  {name:<11} {about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        [*lines, "", "Run 'minidock COMMAND --help' for more information on a command."]
    )
