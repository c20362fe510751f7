"""Commands about the use of the disk: system df, and everything that prunes.

**Interface:** :data:`COMMANDS`.

The trap: what is pruned does not come back. So each of these asks first, and
says what it is going to take.

**See:** docker/cli ``cli/command/system/df.go``, ``cli/command/formatter/disk_usage.go``.
"""

import json
import sys
from operator import itemgetter
from typing import Any

from minidock.cli.flags import Flag, Usage, Values, need, parse
from minidock.cli.ps import filters
from minidock.cli.table import ago, human_size, print_table, show
from minidock.client import Client

Body = dict[str, Any]

FILTER = Flag("filter", "", "filter", 'Provide filter values (e.g. "label=<key>=<value>")')
FORCE = Flag("force", "f", "bool", "Do not prompt for confirmation")

FLAGS = {
    "container prune": [FILTER, FORCE],
    "image prune": [
        Flag("all", "a", "bool", "Remove all unused images, not just dangling ones"),
        FILTER,
        FORCE,
    ],
    "system prune": [
        Flag("all", "a", "bool", "Remove all unused images not just dangling ones"),
        FILTER,
        FORCE,
        Flag("volumes", "", "bool", "Prune anonymous volumes"),
    ],
    "system df": [
        Flag("format", "", "string", "Format output using a custom template"),
        Flag("verbose", "v", "bool", "Show detailed information on space usage"),
    ],
}

ABOUT = {
    "container prune": "Remove all stopped containers",
    "image prune": "Remove unused images",
    "system prune": "Remove unused data",
    "system df": "Show docker disk usage",
}

HELP = {name: Usage(name, "[OPTIONS]", about, FLAGS[name]) for name, about in ABOUT.items()}


# %% Asking first
def _sure(warning: str, values: Values) -> bool:
    """Whether somebody says yes. No is no failure, and needs no words."""
    if values["force"]:
        return True
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _query(given: list[str]) -> str:
    return filters(given).replace("&", "?", 1)


def _post(kind: str, title: str, key: str, given: list[str]) -> int:
    """Prune one kind of things and list them; returns the bytes."""
    done = Client.from_environment().call("POST", f"/{kind}/prune{_query(given)}")
    if done.get(key):
        print(f"{title}:")
        for one in done[key]:
            print(one if isinstance(one, str) else _deleted(one))
        print()
    return int(done.get("SpaceReclaimed", 0))


def _deleted(entry: Body) -> str:
    (word, what), *_ = entry.items()
    return f"{word.lower()}: {what}"


# %% container, image and system prune
CONTAINERS = ("containers", "Deleted Containers", "ContainersDeleted")
IMAGES = ("images", "Deleted Images", "ImagesDeleted")


def container_prune(arguments: list[str]) -> int:
    """``minidock container prune``."""
    values, rest = parse(arguments, FLAGS["container prune"])
    need(rest, "container prune", 0, 0)
    if not _sure("This will remove all stopped containers.", values):
        return 0
    return _total(_post(*CONTAINERS, values["filter"]))


def image_prune(arguments: list[str]) -> int:
    """``minidock image prune``."""
    values, rest = parse(arguments, FLAGS["image prune"])
    need(rest, "image prune", 0, 0)
    everything = "all images without at least one container associated to them."
    what = everything if values["all"] else "all dangling images."
    if not _sure(f"This will remove {what}", values):
        return 0
    return _total(_post(*IMAGES, _dangling(values)))


def system_prune(arguments: list[str]) -> int:
    """``minidock system prune``."""
    values, rest = parse(arguments, FLAGS["system prune"])
    need(rest, "system prune", 0, 0)
    if not _sure(_everything(values), values):
        return 0
    space = _post(*CONTAINERS, values["filter"])
    _post("networks", "Deleted Networks", "NetworksDeleted", values["filter"])
    if values["volumes"]:
        space += _post("volumes", "Deleted Volumes", "VolumesDeleted", values["filter"])
    space += _post(*IMAGES, _dangling(values))
    space += _post("build", "Deleted build cache objects", "CachesDeleted", [])
    return _total(space)


def _dangling(values: Values) -> list[str]:
    return [*values["filter"], *(["dangling=false"] if values["all"] else ["dangling=true"])]


def _total(space: int) -> int:
    print(f"Total reclaimed space: {human_size(space, 4)}")
    return 0


def _everything(values: Values) -> str:
    takes = ["all stopped containers", "all networks not used by at least one container"]
    takes += ["all anonymous volumes not used by at least one container"] * values["volumes"]
    takes += ["all images without at least one container associated to them"] * values["all"]
    takes += ["all dangling images"] * (not values["all"])
    takes += ["all build cache" if values["all"] else "unused build cache"]
    lines = ["This will remove:", *(f"  - {one}" for one in takes)]
    if values["filter"]:
        lines += ["", "  Items to be pruned will be filtered with:"]
        lines += [f"  - {one}" for one in values["filter"]]
    return "\n".join([*lines, ""])


# %% system df
COLUMNS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def df(arguments: list[str]) -> int:
    """``minidock system df``."""
    values, rest = parse(arguments, FLAGS["system df"])
    need(rest, "system df", 0, 0)
    found = Client.from_environment().call("GET", "/system/df")
    if values["verbose"]:
        if values["format"] == "json":
            print(json.dumps(found))
        else:
            _verbose(found)
        return 0
    columns = {name: (title, itemgetter(name)) for name, title in COLUMNS.items()}
    show(_rows(found), columns, [*columns], values["format"], least=10)
    return 0


def _rows(found: Body) -> list[dict[str, str]]:
    images, containers = found["Images"] or [], found["Containers"] or []
    used = [one for one in images if one["Containers"] > 0]
    needed = sum(one["Size"] - one["SharedSize"] for one in used)
    running = [one for one in containers if one["State"] in ("running", "paused", "restarting")]
    written = sum(one["SizeRw"] for one in containers)
    idle = written - sum(one["SizeRw"] for one in running)
    size = found["LayersSize"]
    return [
        _row("Images", len(images), len(used), size, size - needed, share=True),
        _row("Containers", len(containers), len(running), written, idle, share=True),
        _row("Local Volumes", 0, 0, 0, 0, share=True),
        _row("Build Cache", 0, 0, 0, 0, share=False),
    ]


def _row(
    kind: str, total: int, active: int, size: int, free: int, *, share: bool
) -> dict[str, str]:
    part = f" ({free * 100 // size}%)" if share and size else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human_size(size, 4),
        "Reclaimable": human_size(free, 4) + part,
    }


# %% In detail
def _verbose(found: Body) -> None:
    print("Images space usage:\n")
    titles = "REPOSITORY|TAG|IMAGE ID|CREATED|SIZE|SHARED SIZE|UNIQUE SIZE|CONTAINERS".split("|")
    print_table(titles, [_image(one) for one in found["Images"] or []], 10)
    print("\nContainers space usage:\n")
    titles = "CONTAINER ID|IMAGE|COMMAND|LOCAL VOLUMES|SIZE|CREATED|STATUS|NAMES".split("|")
    print_table(titles, [_container(one) for one in found["Containers"] or []], 10)
    print("\nLocal Volumes space usage:\n")
    print_table(["VOLUME NAME", "LINKS", "SIZE"], [], 10)
    print("\nBuild cache usage: 0B\n")
    print_table(
        ["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"], [], 10
    )


def _image(one: Body) -> list[str]:
    repository, _, tag = (one["RepoTags"] or ["<none>:<none>"])[0].rpartition(":")
    own = human_size(one["Size"] - one["SharedSize"], 4)
    sizes = [human_size(one["Size"]), human_size(one["SharedSize"], 4), own]
    return [repository, tag, one["Id"][7:19], ago(one["Created"]), *sizes, str(one["Containers"])]


def _container(one: Body) -> list[str]:
    command = one["Command"] if len(one["Command"]) <= 20 else f"{one['Command'][:19]}…"
    what = [one["Id"][:12], one["Image"], f'"{command}"', "0", human_size(one["SizeRw"])]
    return [*what, ago(one["Created"]), one["Status"], one["Names"][0].lstrip("/")]


COMMANDS = {
    "container prune": container_prune,
    "image prune": image_prune,
    "system prune": system_prune,
    "system df": df,
}
