"""The commands: one small file for each group, imported only when it is called.

**Interface:** :func:`run_command`.

A command is a function ``run(arguments) -> status``. What it needs is
imported when it runs, because ``minidock run`` should not wait for the code
of ``minidock doctor``.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

# %% The table of commands
COMMANDS = {
    "attach": ("attach", "Attach local standard input, output and error to a running container"),
    "bootstrap": ("bootstrap", "Make base images from Debian packages"),
    "commit": ("versions", "Create a new image from a container's changes"),
    "cp": ("copy", "Copy files/folders between a container and the local filesystem"),
    "create": ("run", "Create a new container"),
    "daemon": ("daemon", "Run the daemon in the foreground"),
    "diff": ("containers", "Inspect changes to files in a container's file system"),
    "doctor": ("doctor", "Check whether this host can run containers"),
    "events": ("system", "Get real time events from the daemon"),
    "exec": ("execute", "Execute a command in a running container"),
    "export": ("versions", "Export a container's filesystem as a tar archive"),
    "history": ("images", "Show the history of an image"),
    "images": ("images", "List images"),
    "import": ("images", "Import the contents of a tarball as an image"),
    "info": ("system", "Display system-wide information"),
    "inspect": ("inspect", "Return low-level information on objects"),
    "kill": ("containers", "Kill one or more running containers"),
    "load": ("images", "Load an image from a tar archive"),
    "login": ("registry", "Authenticate to a registry"),
    "logout": ("registry", "Log out from a registry"),
    "logs": ("logs", "Fetch the logs of a container"),
    "network": ("system", "List networks"),
    "pause": ("containers", "Pause all processes within one or more containers"),
    "port": ("containers", "List port mappings of a container"),
    "ps": ("ps", "List containers"),
    "pull": ("registry", "Download an image from a registry"),
    "push": ("registry", "Upload an image to a registry"),
    "registry": ("serve", "Run an image registry"),
    "rename": ("containers", "Rename a container"),
    "restart": ("containers", "Restart one or more containers"),
    "rm": ("containers", "Remove one or more containers"),
    "rmi": ("images", "Remove one or more images"),
    "run": ("run", "Create and run a new container from an image"),
    "runtime": ("runtime", "The OCI runtime that other engines call as minidock-runtime"),
    "save": ("versions", "Save one or more images to a tar archive"),
    "search": ("search", "Search a registry for images"),
    "start": ("containers", "Start one or more stopped containers"),
    "stats": ("stats", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("containers", "Stop one or more running containers"),
    "tag": ("images", "Create a tag that refers to an image"),
    "top": ("containers", "Display the running processes of a container"),
    "unpause": ("containers", "Unpause all processes within one or more containers"),
    "update": ("update", "Update configuration of one or more containers"),
    "version": ("system", "Show the version information"),
    "wait": ("containers", "Block until containers stop, then print their exit codes"),
}

LONG = {  # what there is only with its group's name before it
    "container inspect": ("inspect", "Display detailed information on one or more containers"),
    "container prune": ("usage", "Remove all stopped containers"),
    "image inspect": ("inspect", "Display detailed information on one or more images"),
    "image prune": ("usage", "Remove unused images"),
    "system df": ("usage", "Show disk usage"),
    "system prune": ("usage", "Remove unused data"),
}

EVERYTHING = {**COMMANDS, **LONG}

GROUPS: dict[str, dict[str, str]] = {
    "container": {
        **{
            name: name
            for name in (
                "attach commit cp create diff exec export kill logs pause port rename restart"
                " rm run start stats stop top unpause update wait"
            ).split()
        },
        "inspect": "container inspect",
        "list": "ps",
        "ls": "ps",
        "prune": "container prune",
        "ps": "ps",
        "remove": "rm",
    },
    "image": {
        **{name: name for name in "history import load pull push save tag".split()},
        "inspect": "image inspect",
        "list": "images",
        "ls": "images",
        "prune": "image prune",
        "remove": "rmi",
        "rm": "rmi",
    },
    "system": {"df": "system df", "events": "events", "info": "info", "prune": "system prune"},
}


# %% Finding and running one
def run_command(arguments: list[str]) -> int:
    """Run ``arguments``; an error becomes one line and a status."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name == "help" and rest:
        return _help_about(rest[0])
    if name in ("--help", "-h", "help"):
        print(_help())
        return 0
    if name in ("--version", "-v"):
        from minidock import __version__

        print(f"MiniDock version {__version__}")
        return 0
    if name.startswith("-"):
        return _complain(_unknown_flag(name), "", "Usage:  minidock [OPTIONS] COMMAND [ARG...]")
    if name == "runtime":  # another program, with flags, errors and a log of its own
        from minidock.cli.runtime import main

        return main(rest)
    if name in GROUPS:
        return _group(name, rest)
    if name not in COMMANDS:
        sys.stderr.write(
            f"minidock: unknown command: minidock {name}\n\nRun 'minidock --help' for more information\n"
        )
        return 1
    return _guarded(name, rest)


def _module(name: str) -> ModuleType:
    """The module of a command, by what the import statement itself does: importlib costs 2 ms."""
    module = f"minidock.cli.{EVERYTHING[name][0]}"
    return __import__(module, fromlist=["*"])


def _group(group: str, rest: list[str]) -> int:
    """``minidock container ls``: the long names."""
    members = GROUPS[group]
    if not rest or rest[0] == "--help":
        lines = [f"  {verb:<9} {EVERYTHING[name][1]}" for verb, name in sorted(members.items())]
        print("\n".join([f"Usage:  minidock {group} COMMAND", "", "Commands:", *lines]))
        return 0
    if rest[0] in members:
        return _guarded(members[rest[0]], rest[1:])
    sys.stderr.write(
        f"minidock: unknown command: minidock {group} {rest[0]}\n\nUsage:  minidock {group}\n\n"
        f"Run 'minidock {group} --help' for more information\n"
    )
    return 1


def _unknown_flag(word: str) -> str:
    if word.startswith("--"):
        return f"unknown flag: {word.partition('=')[0]}"
    return f"unknown shorthand flag: '{word[1:2]}' in {word}"


# %% What can go wrong
HINT = "\n\nRun 'minidock run --help' for more information"


def _guarded(name: str, rest: list[str]) -> int:
    from minidock.cli.flags import HelpAsked, UsageError
    from minidock.errors import MiniDockError

    module = _module(name)
    try:
        handler = getattr(module, "COMMANDS", {}).get(name) or module.run
        return int(handler(rest))
    except HelpAsked:
        print(module.HELP[name])
        return 0
    except UsageError as error:
        return _complain(error, name, str(module.HELP[name]).partition("\n\n")[0])
    except (MiniDockError, OSError) as error:
        hint = HINT if name == "run" else ""
        sys.stderr.write(f"{_prefix(name, error)}{error}{hint}\n")
        return 125 if name == "run" else 1


def _complain(error: Exception | str, name: str, synopsis: str) -> int:
    from minidock.cli.flags import UsageError, complaint

    known = error if isinstance(error, UsageError) else UsageError(str(error))
    text, status = complaint(known, name, synopsis)
    sys.stderr.write(text.replace("minidock  --help", "minidock --help") + "\n")
    return status


def _prefix(name: str, error: Exception) -> str:
    """Who says so: the daemon, or we ourselves."""
    if not getattr(error, "from_daemon", False):
        return "minidock: "
    words = "Error response from daemon: "
    return f"minidock: {words}" if name == "run" else words


# %% Help
def _help_about(name: str) -> int:
    if name in GROUPS:
        return _group(name, [])
    if name not in COMMANDS:
        sys.stderr.write(f"unknown help topic: {name}\n")
        return 1
    if name == "runtime":
        return run_command([name, "--help"])
    print(_module(name).HELP[name])
    return 0


def _help() -> str:
    lines = [
        "Usage:  minidock [OPTIONS] COMMAND",
        "",
        "Docker, written to be read",
        "",
        "Commands:",
    ]
    lines += [f"  {name:<11} {about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        [*lines, "", "Run 'minidock COMMAND --help' for more information on a command."]
    )
