"""Hints for the lab ``repair``: the machine is asked what is wrong with it."""

import json
from collections.abc import Iterator
from pathlib import Path

from labs.bench import Bench, Wrong, command
from labs.checks.repair import V2, _group, before


# %% The container
def same(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """No way back but from the start."""
    yield "stop, restart and rm end the process. Repair what is around it while it runs."


def thawed(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The freezer."""
    pid = before()["pid"]
    status = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "State" in line
    ]
    yield f"/proc/{pid}/status says {status[0]!r}; /proc/{pid}/cgroup says in which groups it is."
    file = "cgroup.freeze" if V2 else "freezer.state"
    yield f"Write {'0' if V2 else 'THAWED'} into {_group('freezer', before()['id']) / file}."


def processes(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The limit."""
    group = _group("pids", before()["id"])
    yield f"pids.current says {(group / 'pids.current').read_text().strip()}; how many may there be?"
    found = json.loads(command("minidock", "inspect", "shop").out)[0]
    yield f"inspect says HostConfig.PidsLimit {found['HostConfig']['PidsLimit']}: write that into {group}/pids.max."


# %% Files, cable, port
def files(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Another mount namespace."""
    pid = before()["pid"]
    yield f"findmnt shows your mounts. The shop's are in /proc/{pid}/mountinfo."
    yield f"nsenter -t {pid} -m umount /www."


def cable(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Another network namespace."""
    pid = before()["pid"]
    yield f"nsenter -t {pid} -n ip addr; nsenter -t {pid} -n ip route."
    yield "ip link set eth0 up; and then: ip route add default via 10.200.0.1."


def published(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The map."""
    yield "nft list ruleset. The chain publish asks two maps; what should be in them?"
    yield (
        "nft add element ip lab0 one_address "
        f"'{{ 127.0.0.1 . tcp . 8080 : {before()['address']} . 80 }}'."
    )
