"""``minidock search``.

**Interface:** :func:`run`.
"""

import json
from typing import Any
from urllib.parse import quote

from minidock.cli.flags import Flag, Usage, UsageError, parse
from minidock.cli.ps import filters
from minidock.cli.table import show
from minidock.client import Client

FLAGS = [
    Flag("filter", "f", "list", "Filter output based on conditions provided"),
    Flag("format", "", "string", "Pretty-print search using a Go template"),
    Flag("limit", "", "int", "Max number of search results"),
    Flag("no-trunc", "", "bool", "Don't truncate output"),
]

HELP = {"search": Usage("search", "[OPTIONS] TERM", "Search a registry for images", FLAGS)}
WIDEST = 45  # characters of a description


# %% search
def run(arguments: list[str]) -> int:
    """``minidock search``: what a registry finds, the best first."""
    values, rest = parse(arguments, FLAGS)
    if len(rest) != 1:
        raise UsageError("'minidock search' requires 1 argument")
    from minidock.registry import credentials
    from minidock.registry.search import split

    query = f"term={quote(rest[0])}&limit={values['limit']}{filters(values['filter'])}"
    who = credentials.header(split(rest[0])[0])
    answer = Client.from_environment().open("GET", f"/images/search?{query}", headers=who)
    show(json.loads(answer.read()), _columns(values["no-trunc"]), COLUMNS, values["format"])
    return 0


COLUMNS = ["Name", "Description", "StarCount", "IsOfficial"]


def _columns(whole: bool) -> dict[str, Any]:
    return {
        "Name": ("NAME", lambda row: row["name"]),
        "Description": ("DESCRIPTION", lambda row: _short(row["description"], whole)),
        "StarCount": ("STARS", lambda row: str(row["star_count"])),
        "IsOfficial": ("OFFICIAL", lambda row: "[OK]" if row["is_official"] else ""),
        "IsAutomated": ("AUTOMATED", lambda row: "[OK]" if row["is_automated"] else ""),
    }


def _short(text: str, whole: bool) -> str:
    line = text.replace("\n", " ").replace("\r", " ")
    return line if whole or len(line) <= WIDEST else line[: WIDEST - 1] + "…"
