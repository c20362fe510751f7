"""``minidock runtime``, also installed as ``minidock-runtime``: an OCI runtime for other engines.

What podman, containerd and Docker call is a program with runc's commands
and flags, so that is what this is. Each command is a function
``run(globals, arguments) -> status`` in one of the modules of this package,
imported when it is called: these programs start one of us for every
container, and wait.

The trap is where errors go. An engine does not show our standard error; it
reads the file that it named with ``--log``, as JSON, and takes the last
line of level ``error`` for the reason.

**Interface:** :func:`main`.

**See:** runc(8); OCI runtime command line interface.
"""

from __future__ import annotations

import os
import sys

from minidock.cli.flags import Flag, UsageError, boolean, parse

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from minidock.cli.flags import Values

# %% The commands, and the flags before them
COMMANDS = {
    "checkpoint": ("about", "checkpoint a running container (not supported)"),
    "create": ("making", "create a container"),
    "delete": ("life", "delete any resources held by the container"),
    "events": ("usage", "display container events such as OOM notifications, cpu, memory, and IO"),
    "exec": ("joining", "execute new process inside the container"),
    "features": ("about", "show the enabled features"),
    "kill": (
        "life",
        "send the specified signal (default: SIGTERM) to the container's init process",
    ),
    "list": ("looking", "list containers started by the runtime with the given root"),
    "pause": ("life", "suspend all processes inside the container"),
    "ps": ("looking", "display the processes running inside a container"),
    "restore": ("about", "restore a container from a checkpoint (not supported)"),
    "resume": ("life", "resume all processes that have been previously paused"),
    "run": ("making", "create and run a container"),
    "spec": ("about", "create a new specification file"),
    "start": ("life", "execute the user defined process in a created container"),
    "state": ("looking", "output the state of a container"),
    "update": ("usage", "update container resource constraints"),
}

GLOBALS = [
    Flag("debug", "", "bool", "enable debug logging"),
    Flag("log", "", "string", "set the log file to write logs to (default is '/dev/stderr')"),
    Flag("log-format", "", "string", "set the log format ('text' (default), or 'json')", "text"),
    Flag("root", "", "string", "root directory for storage of container state"),
    Flag("criu", "", "string", ""),
    Flag(
        "systemd-cgroup",
        "",
        "bool",
        "have systemd make the cgroup: cgroupsPath is slice:prefix:name",
    ),
    Flag("rootless", "", "string", "ignore cgroup permission errors", "auto"),
    Flag("help", "h", "bool", "show help"),
    Flag("version", "v", "bool", "print the version"),
]


# %% Running one
def program() -> str:
    """What we were called by: callers that link us to another name see that name."""
    name = os.path.basename(sys.argv[0])
    return name if name not in ("minidock", "__main__.py") else "minidock-runtime"


def main(arguments: list[str] | None = None) -> int:
    """Run the command on the command line; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    log = Log({"log": "", "log-format": "text", "debug": False})
    try:
        values, rest = parse(given, GLOBALS, intersperse=False)
        if values["log-format"] not in ("text", "json"):
            raise UsageError(f"invalid log-format: {values['log-format']}")
        log = Log(values)
        return _run(values, rest, log)
    except UsageError as error:
        log.error("help" if str(error) == "help" else str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:  # a full disk behind our output
        log.error(str(error))
        return 1


def _run(values: Values, rest: list[str], log: Log) -> int:
    if values["version"] or rest[:1] == ["--version"]:
        from minidock.cli.runtime import about

        return about.version()
    if not rest or values["help"] or rest[0] in ("help", "h"):
        print(_help())
        return 0
    name, *words = rest
    if name not in COMMANDS:
        raise UsageError(f"No help topic for '{name}'")
    module = __import__(f"minidock.cli.runtime.{COMMANDS[name][0]}", fromlist=["*"])
    return _guarded(name, module, Call(name, values, words, log))


def _guarded(name: str, module: object, call: Call) -> int:
    """An error becomes one line in the log; ``exec`` has a status of its own for it, as in runc."""
    from minidock.errors import MiniDockError

    if {"--help", "-h"} & set(call.words[:1]):
        print(f"NAME:\n   {program()} {name} - {COMMANDS[name][1]}")
        return 0
    try:
        return int(getattr(module, FUNCTIONS.get(name, name))(call))
    except (MiniDockError, OSError) as error:
        prefix = PREFIXES.get(name, "")
        call.log.error(f"{prefix.format(program())}{error}")
        return 255 if name == "exec" else 1


FUNCTIONS = {"exec": "execute", "list": "list_"}  # what Python has other uses for

PREFIXES = {
    "create": "{} create failed: ",
    "run": "{} run failed: ",
    "exec": "exec failed: ",
}


# %% What a command gets
class Call:
    """The flags before the command's name, the words after it, and where to say what is wrong."""

    __slots__ = ("log", "name", "values", "words")

    def __init__(self, name: str, values: Values, words: list[str], log: Log) -> None:
        self.name = name
        self.values = values
        self.words = words
        self.log = log

    def parse(
        self, flags: list[Flag], least: int, most: int, intersperse: bool = True
    ) -> tuple[Values, list[str]]:
        """The command's own flags and arguments; raises in runc's words if there are too few or many."""
        values, rest = parse(self.words, flags, intersperse)
        if len(rest) < least or len(rest) > most:
            if least == most:
                words = f"requires exactly {least} argument(s)"
            elif len(rest) < least:
                words = f"requires a minimum of {least} argument(s)"
            else:
                words = f"requires a maximum of {most} argument(s)"
            raise UsageError(f'{program()}: "{self.name}" {words}')
        return values, rest

    @property
    def root(self) -> str:
        """``--root``, or the default; without root a directory of the user's own."""
        if self.values["root"]:
            return str(self.values["root"])
        own = os.environ.get("XDG_RUNTIME_DIR")
        if os.geteuid() != 0 and own:
            return f"{own}/minidock-runtime"
        return "/run/minidock-runtime"

    @property
    def rootless(self) -> bool:
        """``--rootless``: whether cgroups are done without that we may not make; ``auto`` looks who we are."""
        text = str(self.values["rootless"])
        if text == "auto":
            return os.geteuid() != 0 or _in_user_namespace()
        try:
            return boolean(text)
        except ValueError:
            raise UsageError(
                f"invalid value for --rootless: {text!r} (true, false or auto)"
            ) from None


def _in_user_namespace() -> bool:
    """Root of a user namespace is not the host's: the host's maps all ids to themselves."""
    with open("/proc/self/uid_map") as file:
        return file.read().split() != ["0", "0", "4294967295"]


# %% The log
class Log:
    """``--log``: a file, or standard error; ``--log-format``: text or JSON, as logrus writes them."""

    def __init__(self, values: dict[str, object]) -> None:
        self._path = str(values["log"])
        self._json = values["log-format"] == "json"
        self.is_debug = bool(values["debug"])

    def error(self, message: str) -> None:
        """Why it failed. If the log is elsewhere, the caller of the command line sees it, too."""
        self._write("error", message)
        if self._path:
            sys.stderr.write(f"{message}\n")

    def warn(self, message: str) -> None:
        """What went wrong without being the end."""
        self._write("warning", message)

    def debug(self, message: str) -> None:
        """With ``--debug``: what is done."""
        if self.is_debug:
            self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        import json
        import time

        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._json:
            line = json.dumps({"level": level, "msg": message, "time": moment})
        else:
            line = f'time="{moment}" level={level} msg={json.dumps(message, ensure_ascii=False)}'
        if not self._path:
            sys.stderr.write(f"{line}\n")
            return
        with open(self._path, "a") as file:
            file.write(f"{line}\n")


def _help() -> str:
    lines = [
        "NAME:",
        f"   {program()} - Open Container Initiative runtime",
        "",
        "USAGE:",
        f"   {program()} [global options] command [command options] [arguments...]",
        "",
        "COMMANDS:",
        *(f"   {name:<10} {about}" for name, (_, about) in COMMANDS.items()),
        "",
        "GLOBAL OPTIONS:",
        *(f"   --{flag.name:<16} {flag.help}" for flag in GLOBALS if flag.help),
    ]
    return "\n".join(lines)
