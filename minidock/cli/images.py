"""Commands about images.

**Interface:** :data:`COMMANDS`.
"""

import sys
from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.parse import quote

from minidock.cli import progress
from minidock.cli.flags import Flag, PlainError, Usage, need, parse
from minidock.cli.ps import filters
from minidock.cli.table import ago, human_size, local_time, show
from minidock.client import Client, print_messages
from minidock.errors import MiniDockError, NotFound

FLAGS = {
    "images": [
        Flag("all", "a", "bool", "Show all images"),
        Flag("digests", "", "bool", "Show digests"),
        Flag("filter", "f", "filter", "Filter output based on conditions provided"),
        Flag("format", "", "string", "Format output using a custom template"),
        Flag("no-trunc", "", "bool", "Don't truncate output"),
        Flag("quiet", "q", "bool", "Only show image IDs"),
    ],
    "history": [
        Flag("format", "", "string", "Format output using a custom template"),
        Flag("human", "H", "bool", "Print sizes and dates in human readable format", True),
        Flag("no-trunc", "", "bool", "Don't truncate output"),
        Flag("quiet", "q", "bool", "Only show image IDs"),
    ],
    "load": [
        Flag("input", "i", "string", "Read from tar archive file, instead of STDIN"),
        Flag("quiet", "q", "bool", "Suppress the load output"),
    ],
    "import": [
        Flag("change", "c", "list", "Apply Dockerfile instruction to the created image"),
        Flag("message", "m", "string", "Set commit message for imported image"),
        Flag("platform", "", "string", "Set platform if server is multi-platform capable"),
    ],
    "rmi": [
        Flag("force", "f", "bool", "Force removal of the image"),
        Flag("no-prune", "", "bool", "Do not delete untagged parents"),
    ],
    "tag": [],
}

HELP = {
    "images": Usage("images", "[OPTIONS] [REPOSITORY[:TAG]]", "List images", FLAGS["images"]),
    "history": Usage(
        "history", "[OPTIONS] IMAGE", "Show the history of an image", FLAGS["history"]
    ),
    "load": Usage("load", "[OPTIONS]", "Load an image from a tar archive or STDIN", FLAGS["load"]),
    "import": Usage(
        "import",
        "[OPTIONS] file|- [REPOSITORY[:TAG]]",
        "Import a root file system",
        FLAGS["import"],
    ),
    "rmi": Usage("rmi", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", FLAGS["rmi"]),
    "tag": Usage("tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Create a tag", []),
}


# %% images
def run(arguments: list[str]) -> int:
    """``minidock images``."""
    values, rest = parse(arguments, FLAGS["images"])
    need(rest, "images", 0, 1)
    wanted = [*values["filter"], *(f"reference={name}" for name in rest)]
    query = f"/images/json?all={int(values['all'])}{filters(wanted)}"
    found = Client.from_environment().call("GET", query) or []
    whole, digests = values["no-trunc"], values["digests"] or ".Digest" in values["format"]
    rows = [row for image in found for row in _rows(image, digests)]
    if values["quiet"]:
        for image, *_ in rows:
            print(_id(image, whole))
        return 0
    chosen = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
    if values["digests"]:
        chosen.insert(2, "Digest")
    show(rows, _columns(whole), chosen, values["format"])
    return 0


Row = tuple[dict[str, Any], str, str, str]  # image, repository, tag, digest


def _rows(image: dict[str, Any], digests: bool) -> list[Row]:
    """One for each tag; a repository that an image has only by digest gets one, too."""
    tags = [name for name in image["RepoTags"] or () if name != "<none>:<none>"]
    by_digest = dict(name.split("@", 1) for name in image["RepoDigests"] or ())
    rows: list[Row] = []
    for name in tags:
        repository, _, tag = name.rpartition(":")
        digest = by_digest.get(repository, "<none>") if digests else "<none>"
        rows.append((image, repository, tag, digest))
    tagged = {row[1] for row in rows}
    rows += [(image, name, "<none>", by_digest[name]) for name in by_digest if name not in tagged]
    return rows or [(image, "<none>", "<none>", "<none>")]


def _columns(whole: bool) -> dict[str, Any]:
    return {
        "Repository": ("REPOSITORY", lambda row: row[1]),
        "Tag": ("TAG", lambda row: row[2]),
        "Digest": ("DIGEST", lambda row: row[3]),
        "ID": ("IMAGE ID", lambda row: _id(row[0], whole)),
        "CreatedSince": ("CREATED", lambda row: ago(row[0]["Created"])),
        "CreatedAt": ("CREATED AT", lambda row: local_time(row[0]["Created"])),
        "Size": ("SIZE", lambda row: human_size(row[0]["Size"])),
        "Containers": ("CONTAINERS", lambda row: _number(row[0]["Containers"], str)),
        "SharedSize": ("SHARED SIZE", lambda row: _number(row[0]["SharedSize"], human_size)),
    }


def _id(image: dict[str, Any], whole: bool) -> str:
    return str(image["Id"] if whole else image["Id"][7:19])


def _number(value: int, shown: Callable[[int], str]) -> str:
    return "N/A" if value < 0 else shown(value)


# %% history
def history(arguments: list[str]) -> int:
    """``minidock history``."""
    values, rest = parse(arguments, FLAGS["history"])
    need(rest, "history", 1, 1)
    found = Client.from_environment().call("GET", f"/images/{rest[0]}/history") or []
    if values["quiet"]:
        for one in found:
            print(_short_id(one, values["no-trunc"]))
        return 0
    columns = _history_columns(values["no-trunc"], values["human"])
    show(found, columns, ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"], values["format"])
    return 0


def _history_columns(whole: bool, human: bool) -> dict[str, Any]:
    def since(one: dict[str, Any]) -> str:
        return ago(one["Created"]) if human else local_time(one["Created"])

    return {
        "ID": ("IMAGE", lambda one: _short_id(one, whole)),
        "CreatedSince": ("CREATED" if human else "CREATED AT", since),
        "CreatedAt": ("CREATED AT", lambda one: local_time(one["Created"])),
        "CreatedBy": ("CREATED BY", lambda one: _ellipsis(one["CreatedBy"], whole)),
        "Size": ("SIZE", lambda one: human_size(one["Size"]) if human else str(one["Size"])),
        "Comment": ("COMMENT", lambda one: one["Comment"]),
    }


def _short_id(one: dict[str, Any], whole: bool) -> str:
    return str(one["Id"]) if whole else one["Id"].removeprefix("sha256:")[:12]


def _ellipsis(text: str, whole: bool) -> str:
    line = text.replace("\t", " ")
    return line if whole or len(line) <= 45 else f"{line[:44]}…"


# %% load, import
def load(arguments: list[str]) -> int:
    """``minidock load``."""
    values, rest = parse(arguments, FLAGS["load"])
    need(rest, "load", 0, 0)
    quiet = values["quiet"] or not sys.stdout.isatty()
    with _input(values["input"]) as file:
        answer = Client.from_environment().open(
            "POST", f"/images/load?quiet={int(quiet)}", upload=file
        )
        progress.show(answer.lines(), sys.stdout)
    return 0


def import_(arguments: list[str]) -> int:
    """``minidock import``."""
    values, rest = parse(arguments, FLAGS["import"])
    need(rest, "import", 1)
    words = {"repo": rest[1] if len(rest) > 1 else "", "message": values["message"]}
    words |= {"platform": values["platform"]} if values["platform"] else {}
    query = "fromSrc=-" + "".join(f"&{name}={quote(text)}" for name, text in words.items())
    query += "".join(f"&changes={quote(change)}" for change in values["change"])
    with _input("" if rest[0] == "-" else rest[0]) as file:
        print_messages(
            Client.from_environment().open("POST", f"/images/create?{query}", upload=file)
        )
    return 0


def _input(path: str) -> BinaryIO:
    if path:
        try:
            return open(path, "rb")
        except OSError as error:
            raise PlainError(f"open {path}: {(error.strerror or '').lower()}") from None
    if sys.stdin.isatty():
        raise PlainError("requested load from stdin, but stdin is empty")
    return sys.stdin.buffer


# %% rmi, tag
def remove(arguments: list[str]) -> int:
    """``minidock rmi``."""
    values, names = parse(arguments, FLAGS["rmi"])
    need(names, "rmi", 1)
    client, status = Client.from_environment(), 0
    query = f"force={int(values['force'])}&noprune={int(values['no-prune'])}"
    for name in names:
        try:
            for entry in client.call("DELETE", f"/images/{name}?{query}"):
                for word, what in entry.items():
                    print(f"{word}: {what}")
        except MiniDockError as error:
            sys.stderr.write(f"Error response from daemon: {error}\n")
            status |= not (values["force"] and isinstance(error, NotFound))
    return int(status)


def tag(arguments: list[str]) -> int:
    """``minidock tag``."""
    _, rest = parse(arguments, [])
    need(rest, "tag", 2, 2)
    _check_reference(rest[1])
    Client.from_environment().call("POST", f"/images/{rest[0]}/tag?repo={quote(rest[1])}")
    return 0


def _check_reference(text: str) -> None:
    from minidock.errors import InvalidParameter
    from minidock.spec import reference

    try:
        reference.parse(text)
    except InvalidParameter as error:
        raise PlainError(
            f'Error parsing reference: "{text}" is not a valid repository/tag: {error}'
        ) from None


COMMANDS = {
    "images": run,
    "history": history,
    "load": load,
    "import": import_,
    "rmi": remove,
    "tag": tag,
}
