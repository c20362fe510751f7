"""What labs there are: ``labs.toml``, as values.

**Interface:** :func:`all_labs`, :func:`get`, :class:`Lab`.

The trap: the table names chunks and functions of the engine, and points for
checks; each of them can be renamed elsewhere. :func:`problems` says what no
longer fits, and a test asks it.
"""

import importlib.util
import os
import shutil
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from labs import splice
from minidock import cgroups
from minidock.errors import InvalidParameter, NotFound

HERE = Path(__file__).parent
ROOT = HERE.parent


# %% A lab
@dataclass(frozen=True, slots=True)
class Blank:
    """Functions of one chunk that are taken away; ``only`` is ``v1`` or ``v2``: hosts of that kind."""

    module: str
    chunk: str
    todos: dict[str, str]
    only: str = ""

    def applies(self) -> bool:
        """Whether this host is of the kind."""
        return self.only in ("", cgroup_version())


@dataclass(frozen=True, slots=True)
class Check:
    """A check: its points, and where to read when it fails."""

    name: str
    points: int
    read: str


@dataclass(frozen=True, slots=True)
class Lab:
    """A row of the table. A repair lab blanks nothing: its answer is ``repair.sh``."""

    name: str
    title: str
    chapter: str
    needs: tuple[str, ...]
    blanks: tuple[Blank, ...]
    checks: tuple[Check, ...]

    @property
    def points(self) -> int:
        """The most that can be had."""
        return sum(check.points for check in self.checks)

    def here(self) -> list[Blank]:
        """The blanks that this host has."""
        return [blank for blank in self.blanks if blank.applies()]


def cgroup_version() -> str:
    """``v2``, or ``v1``, which a hybrid host counts as."""
    return "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1"


# %% What a lab needs of the host
def missing(lab: Lab) -> list[str]:
    """Those of the lab's ``needs`` (``program:NAME``, ``cgroup:CONTROLLER``, ``filesystem:TYPE``) that are not here."""
    return [need for need in lab.needs if not _has(*need.split(":"))]


def _has(kind: str, name: str) -> bool:
    if kind == "program":
        return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None
    if kind == "cgroup":
        if cgroup_version() == "v1":
            return name in cgroups.host().controllers
        return name in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    if kind == "filesystem":
        return name in Path("/proc/filesystems").read_text().split()
    raise InvalidParameter(f"labs.toml: unknown need {kind}:{name}")


# %% Reading the table
@cache
def all_labs() -> dict[str, Lab]:
    """All labs, in the table's order, by name."""
    with open(HERE / "labs.toml", "rb") as file:
        rows = tomllib.load(file)["lab"]
    return {row["name"]: _lab(row) for row in rows}


def _lab(row: dict[str, Any]) -> Lab:
    return Lab(
        row["name"],
        row["title"],
        row["chapter"],
        tuple(row["needs"]),
        tuple(Blank(**entry) for entry in row.get("blank", [])),
        tuple(Check(name, **entry) for name, entry in row["checks"].items()),
    )


def get(name: str) -> Lab:
    """The lab ``name``; :class:`NotFound`, with the names there are."""
    lab = all_labs().get(name)
    if lab is None:
        raise NotFound(f"no lab {name!r} (there are {', '.join(all_labs())})")
    return lab


# %% Whether it still fits the engine
def problems() -> list[str]:
    """One line for each name in the table that nothing has."""
    found = []
    for lab in all_labs().values():
        found += [f"{lab.name}: {line}" for blank in lab.blanks for line in _misfits(blank)]
        if importlib.util.find_spec(f"labs.checks.{lab.name}") is None:
            found.append(f"{lab.name}: no labs/checks/{lab.name}.py")
        for path in (f"tasks/{lab.name}.md", f"hints/{lab.name}.py"):
            if not (HERE / path).exists():
                found.append(f"{lab.name}: no labs/{path}")
        if not (ROOT / "chapters" / f"{lab.chapter}.md").exists():
            found.append(f"{lab.name}: no chapter {lab.chapter}")
    return found


def _misfits(blank: Blank) -> list[str]:
    from tools.chunks import split

    source = (ROOT / blank.module).read_text()
    chunks = {chunk.title: chunk for chunk in split(blank.module, source)}
    chunk = chunks.get(blank.chunk)
    if chunk is None:
        return [f"{blank.module} has no chunk {blank.chunk!r}"]
    places = splice.functions(source)
    return [
        f"{name} does not stand in chunk {blank.chunk!r} of {blank.module}"
        for name in blank.todos
        if name not in places or not chunk.first <= places[name].first <= chunk.last
    ]
