"""``state``, ``list`` and ``ps``: what there is.

**Interface:** one function for each.

**See:** OCI runtime specification, runtime.md, "Query State"; ps(1).
"""

from __future__ import annotations

import json
import os

from minidock import cgroups
from minidock.cli.flags import Flag
from minidock.cli.runtime import Call
from minidock.errors import InvalidParameter, Unavailable
from minidock.runtime.store import Entry, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Rows = list[Any]


# %% state
def state(call: Call) -> int:
    """The specification's state as JSON, with what runc adds."""
    _, (container_id,) = call.parse([], 1, 1)
    print(json.dumps(Store(call.root).find(container_id).public(), indent=2))
    return 0


# %% list
def list_(call: Call) -> int:
    """All containers below ``--root``."""
    flags = [
        Flag("format", "f", "string", "select one of: table or json", "table"),
        Flag("quiet", "q", "bool", "display only container IDs"),
    ]
    values, _ = call.parse(flags, 0, 0)
    entries = [{**entry.public(), "owner": _owner(entry)} for entry in Store(call.root)]
    if values["quiet"]:
        for one in entries:
            print(one["id"])
    elif values["format"] == "json":
        print(json.dumps(entries, separators=(",", ":")))
    elif values["format"] == "table":
        _print_table(entries)
    else:
        raise InvalidParameter(f"invalid format option: {values['format']!r} (table or json)")
    return 0


def _owner(entry: Entry) -> str:
    """Whose it is: who made its directory; a number if that user has no name."""
    import pwd

    uid = os.stat(entry.directory).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _print_table(entries: Rows) -> None:
    rows = [["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]]
    for one in entries:
        rows.append([str(one[title.lower()]) for title in rows[0]])
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(6)]
    for row in rows:
        print("".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


# %% ps
def ps(call: Call) -> int:
    """The processes in it: their pids as JSON, or the lines of the host's ``ps`` that are about them."""
    flags = [Flag("format", "f", "string", "select one of: table or json", "table")]
    values, (container_id, *options) = call.parse(flags, 1, 1000, intersperse=False)
    entry = Store(call.root).find(container_id)
    pids = cgroups.open(entry.cgroup).everybody()
    if values["format"] == "json":
        print(json.dumps(pids))
        return 0
    if values["format"] != "table":
        raise InvalidParameter(f"invalid format option: {values['format']!r} (table or json)")
    import subprocess

    try:
        words = ["ps", *(options or ["-ef"])]
        text = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        raise Unavailable("ps needs the program ps: apt-get install procps") from None
    _print_lines(text.splitlines(), set(map(str, pids)))
    return 0


def _print_lines(lines: Rows, pids: set[str]) -> None:
    titles = lines[0].split()
    if "PID" not in titles:
        raise InvalidParameter("couldn't find PID field in ps output")
    column = titles.index("PID")
    print(lines[0])
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > column and fields[column] in pids:
            print(line)
