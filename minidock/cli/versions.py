"""Commands about versions: commit, save, export.

**Interface:** :data:`COMMANDS`.

The trap is an archive that is cut off: a file of that name would look like
a whole one. So it is written under another name and renamed at its end.

**See:** docker/cli ``cli/command/container/commit.go``, ``cli/command/image/save.go``.
"""

from __future__ import annotations

import os
import sys

from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.client import Client, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OUTPUT = Flag("output", "o", "string", "Write to a file, instead of STDOUT")

FLAGS = {
    "commit": [
        Flag("author", "a", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        Flag("change", "c", "list", "Apply Dockerfile instruction to the created image"),
        Flag("explain", "", "bool", "Show every step as it happens"),
        Flag("message", "m", "string", "Commit message"),
        Flag("pause", "p", "bool", "Pause container during commit", True),
    ],
    "save": [OUTPUT],
    "export": [OUTPUT],
}

HELP = {
    "commit": Usage(
        "commit",
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        FLAGS["commit"],
    ),
    "save": Usage(
        "save",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        FLAGS["save"],
    ),
    "export": Usage(
        "export",
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        FLAGS["export"],
    ),
}


# %% commit
def commit(arguments: list[str]) -> int:
    """``minidock commit``."""
    from minidock.cli.explain import explained

    values, rest = parse(arguments, FLAGS["commit"])
    need(rest, "commit", 1, 2)
    words = [
        ("container", rest[0]),
        ("repo", rest[1] if len(rest) > 1 else ""),
        ("comment", values["message"]),
        ("author", values["author"]),
        ("pause", str(int(values["pause"]))),
        *(("changes", change) for change in values["change"]),
    ]
    query = "&".join(f"{name}={quote(value)}" for name, value in words if value)
    client = Client.from_environment()
    with explained(client, values["explain"]):
        print(client.call("POST", f"/commit?{query}")["Id"])
    return 0


# %% save, export
def save(arguments: list[str]) -> int:
    """``minidock save``."""
    values, names = parse(arguments, FLAGS["save"])
    need(names, "save", 1)
    query = "&".join(f"names={quote(name)}" for name in names)
    return _fetch(f"/images/get?{query}", values["output"], "save")


def export(arguments: list[str]) -> int:
    """``minidock export``."""
    values, rest = parse(arguments, FLAGS["export"])
    need(rest, "export", 1, 1)
    return _fetch(f"/containers/{rest[0]}/export", values["output"], "export")


def _fetch(path: str, target: str, verb: str) -> int:
    if not target and sys.stdout.isatty():
        raise PlainError(f"cowardly refusing to {verb} to a terminal. Use the -o flag or redirect")
    pieces = Client.from_environment().open("GET", path).pieces()
    if target and (not os.path.exists(target) or os.path.isfile(target)):
        _write(pieces, target)
    else:  # a pipe, or /dev/null: nothing that one could rename
        with open(target, "wb") if target else sys.stdout.buffer as out:
            out.writelines(pieces)
    return 0


def _write(pieces: Iterator[bytes], target: str) -> None:
    new = f"{target}.{os.getpid()}.part"
    try:
        with open(new, "xb") as file:
            file.writelines(pieces)
        os.rename(new, target)
    except BaseException:
        if os.path.exists(new):
            os.unlink(new)
        raise


COMMANDS = {"commit": commit, "save": save, "export": export}
