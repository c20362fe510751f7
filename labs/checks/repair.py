"""Lab ``repair``: a container in which five things are broken, and which must go on running.

:func:`break_it` breaks it; what was right is noted in a file of the sandbox.
"""

import json
import os
from pathlib import Path
from typing import Any

from labs.bench import PATIENCE, Bench, Wrong, command, expect, mounts, wait_for
from labs.table import cgroup_version

V2 = cgroup_version() == "v2"
PAGE = "Fresh bread"


# %% Before, and the damage
def break_it(bench: Bench) -> None:
    """A container ``shop`` that serves a page on a port of the host; then the damage."""
    page = f"mkdir /www && echo {PAGE} > /www/index.html && exec httpd -f -p 80 -h /www"
    options = ("--name", "shop", "-p", "127.0.0.1:8080:80", "--pids-limit", "32")
    box = bench.box(*options, run=("sh", "-c", page))
    expect(wait_for(lambda: page_of() == PAGE), "the shop to be open", command(*FETCH).last)
    found = box.inspect()
    note = {"id": box.id, "pid": box.pid, "started": found["State"]["StartedAt"]}
    note["address"] = found["NetworkSettings"]["IPAddress"]
    _note().write_text(json.dumps(note))
    enter = ("nsenter", "-t", str(box.pid))
    command(*enter, "-m", "mount", "-t", "tmpfs", "dust", "/www")
    command(*enter, "-n", "ip", "link", "set", "eth0", "down")
    command("nft", "flush", "map", "ip", os.environ["MINIDOCK_BRIDGE"], "one_address")
    _group("pids", box.id).joinpath("pids.max").write_text("1")
    freezer = _group("freezer", box.id)
    state = ("cgroup.freeze", "1") if V2 else ("freezer.state", "FROZEN")
    freezer.joinpath(state[0]).write_text(state[1])


def _note() -> Path:
    return Path(os.environ["MINIDOCK_LAB_SANDBOX"]) / "shop.json"


def before() -> dict[str, Any]:
    """What was noted before the damage."""
    found: dict[str, Any] = json.loads(_note().read_text())
    return found


def _group(controller: str, identity: str) -> Path:
    tree = "/sys/fs/cgroup" if V2 else f"/sys/fs/cgroup/{controller}"
    return Path(tree) / "minidock" / identity


FETCH = (
    "busybox", "timeout", str(int(PATIENCE)), "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"
)  # fmt: skip


def page_of() -> str:
    """What the shop's customers see."""
    return command(*FETCH).out.strip()


# %% The same container still runs
def same(bench: Bench) -> None:
    """The container is the one that it was, and was never stopped."""
    was = before()
    found = json.loads(bench.minidock("inspect", "shop"))[0]
    expect(
        found["Id"] == was["id"],
        f"the container {was['id'][:12]}",
        f"shop is another, {found['Id'][:12]}",
    )
    expect(
        found["State"]["Pid"] == was["pid"],
        f"process {was['pid']}, which served the customers before",
        f"inspect says {found['State']['Pid']} (started {found['State']['StartedAt']}): it was stopped",
    )


def _pid() -> int:
    pid = int(before()["pid"])
    if not Path(f"/proc/{pid}").exists():
        raise Wrong(
            f"process {pid} of the shop to live", "the kernel knows no such process: it was ended"
        )
    return pid


# %% Its cgroup
def thawed(bench: Bench) -> None:
    """Its processes run."""
    _pid()
    group = _group("freezer", before()["id"])
    file = group / ("cgroup.events" if V2 else "freezer.state")
    state = file.read_text().split()
    frozen = "frozen 1" in " ".join(state) if V2 else state != ["THAWED"]
    expect(not frozen, "the shop's processes not to be frozen", f"{file} says {' '.join(state)}")


def processes(bench: Bench) -> None:
    """It may have as many processes as it was given (--pids-limit 32)."""
    _pid()
    file = _group("pids", before()["id"]) / "pids.max"
    limit = file.read_text().strip()
    expect(
        limit != "1",
        "room for more than one process",
        f"{file} says {limit}: fork(2) fails with EAGAIN",
    )
    expect(limit == "32", "the limit of 32 that the shop was started with", f"{file} says {limit}")


# %% Its files and its cable
def files(bench: Bench) -> None:
    """/www shows what is in it."""
    pid = _pid()
    over = [line[4] for line in mounts(pid) if line[4] == "/www"]
    expect(
        not over,
        "nothing mounted over /www in the shop's mount namespace",
        f"/proc/{pid}/mountinfo has {len(over)} mount(s) there",
    )
    page = Path(f"/proc/{pid}/root/www/index.html")
    text = page.read_text().strip() if page.exists() else "(no such file)"
    expect(text == PAGE, f"{PAGE!r} in /www/index.html", f"it says {text}")


def cable(bench: Bench) -> None:
    """eth0 is up, and the shop has its way out again."""
    enter = ("nsenter", "-n", "-t", str(_pid()), "ip", "-4")
    link = command(*enter, "-br", "link", "show", "eth0").out
    expect(",UP," in link, "eth0 to be up", f"ip link says: {link.strip()}")
    addresses = command(*enter, "-br", "addr", "show", "eth0").out
    wanted = before()["address"]
    expect(
        wanted in addresses, f"the address {wanted} on eth0", f"ip addr says: {addresses.strip()}"
    )
    routes = command(*enter, "route").out.strip()
    expect(
        "default via 10.200.0.1" in routes,
        "a default route by 10.200.0.1 (a device that goes down loses its routes)",
        f"ip route says: {routes or 'none'}",
    )


def published(bench: Bench) -> None:
    """Customers get bread at 127.0.0.1:8080."""
    name = os.environ["MINIDOCK_BRIDGE"]
    text = command("nft", "list", "map", "ip", name, "one_address").out
    elements = [
        one.strip() for one in text.partition("elements = {")[2].partition("}")[0].split(",")
    ]
    expect(any(elements), f"an element in the map one_address of table {name}", "the map is empty")
    wanted = f"127.0.0.1 . tcp . 8080 : {before()['address']} . 80"
    expect(wanted in elements, f"the element {wanted}", f"nft says: {', '.join(elements)}")
    done = command(*FETCH)
    expect(done.out.strip() == PAGE, f"the page {PAGE!r}", f"wget says: {done.last}")
