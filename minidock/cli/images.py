"""Commands about images.

**Interface:** :data:`COMMANDS`.
"""

import sys
from typing import Any, BinaryIO
from urllib.parse import quote

from minidock.cli.flags import Flag, PlainError, need, parse, usage
from minidock.cli.ps import filters
from minidock.cli.table import ago, human_size, show
from minidock.client import Client, print_messages
from minidock.errors import MiniDockError

FLAGS = {
    "images": [
        Flag("all", "a", "bool", "Show all images"),
        Flag("digests", "", "bool", "Show digests"),
        Flag("filter", "f", "filter", "Filter output based on conditions provided"),
        Flag("format", "", "string", "Format output using a custom template"),
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
    ],
    "rmi": [
        Flag("force", "f", "bool", "Force removal of the image"),
        Flag("no-prune", "", "bool", "Do not delete untagged parents"),
    ],
    "tag": [],
}

HELP = {
    "images": usage("images", "[OPTIONS] [REPOSITORY[:TAG]]", "List images", FLAGS["images"]),
    "load": usage("load", "[OPTIONS]", "Load an image from a tar archive or STDIN", FLAGS["load"]),
    "import": usage(
        "import",
        "[OPTIONS] file|- [REPOSITORY[:TAG]]",
        "Import a root file system",
        FLAGS["import"],
    ),
    "rmi": usage("rmi", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", FLAGS["rmi"]),
    "tag": usage("tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Create a tag", []),
}


# %% images
def run(arguments: list[str]) -> int:
    """``minidock images``."""
    values, rest = parse(arguments, FLAGS["images"])
    need(rest, "images", 0, 1)
    wanted = [*values["filter"], *(f"reference={name}" for name in rest[:1])]
    found = Client.from_environment().call("GET", f"/images/json?all=0{filters(wanted)}") or []
    rows = [(image, tag) for image in found for tag in image["RepoTags"] or ["<none>:<none>"]]
    whole = values["no-trunc"]
    if values["quiet"]:
        for image, _ in rows:
            print(image["Id"] if whole else image["Id"][7:19])
        return 0
    chosen = [
        "Repository",
        "Tag",
        *(["Digest"] if values["digests"] else []),
        "ID",
        "CreatedSince",
        "Size",
    ]
    show(rows, _columns(whole), chosen, values["format"])
    return 0


def _columns(whole: bool) -> dict[str, Any]:
    return {
        "Repository": ("REPOSITORY", lambda row: row[1].rpartition(":")[0]),
        "Tag": ("TAG", lambda row: row[1].rpartition(":")[2]),
        "Digest": (
            "DIGEST",
            lambda row: (row[0]["RepoDigests"] or ["@<none>"])[0].rpartition("@")[2],
        ),
        "ID": ("IMAGE ID", lambda row: row[0]["Id"] if whole else row[0]["Id"][7:19]),
        "CreatedSince": ("CREATED", lambda row: ago(row[0]["Created"])),
        "CreatedAt": ("CREATED AT", lambda row: str(row[0]["Created"])),
        "Size": ("SIZE", lambda row: human_size(row[0]["Size"])),
    }


# %% load, import
def load(arguments: list[str]) -> int:
    """``minidock load``."""
    values, rest = parse(arguments, FLAGS["load"])
    need(rest, "load", 0, 0)
    with _input(values["input"]) as file:
        print_messages(Client.from_environment().open("POST", "/images/load?quiet=1", upload=file))
    return 0


def import_(arguments: list[str]) -> int:
    """``minidock import``."""
    values, rest = parse(arguments, FLAGS["import"])
    need(rest, "import", 1)
    query = f"fromSrc=-&repo={quote(rest[1] if len(rest) > 1 else '')}&message={quote(values['message'])}"
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
    for name in names:
        try:
            for entry in client.call("DELETE", f"/images/{name}?force={int(values['force'])}"):
                for word, what in entry.items():
                    print(f"{word}: {what}")
        except MiniDockError as error:
            sys.stderr.write(f"Error response from daemon: {error}\n")
            status = 1
    return status


def tag(arguments: list[str]) -> int:
    """``minidock tag``."""
    _, rest = parse(arguments, [])
    need(rest, "tag", 2, 2)
    Client.from_environment().call("POST", f"/images/{rest[0]}/tag?repo={quote(rest[1])}")
    return 0


COMMANDS = {"images": run, "load": load, "import": import_, "rmi": remove, "tag": tag}
