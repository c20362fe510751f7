"""The tree in which a student works.

``<home>/<lab>/minidock`` looks like the engine's package: every file and
directory in it is a symbolic link to the engine's, except the modules that
the lab blanks. Python finds this tree first, so ``ls -l`` tells which code
is the student's and which the engine's. No import machinery is involved.

The traps. ``sudo`` makes everything root's: what is made here is given to
the user who called it. And a directory of links would share Python's cache
of compiled files with the engine: only whole directories without a blanked
module are linked, the others are real and have caches of their own.

**Interface:** :func:`home`, :func:`make`, :func:`own_files`, :func:`changed`.
"""

import os
import pwd
import shutil
from pathlib import Path

from labs import splice
from labs.table import HERE, ROOT, Lab
from minidock.errors import Conflict, NotFound


# %% Where
def home() -> Path:
    """``$MINIDOCK_LABS``, or ``minidock-labs`` in the home of the user, not of sudo's root."""
    if "MINIDOCK_LABS" in os.environ:
        return Path(os.environ["MINIDOCK_LABS"]).absolute()
    user = os.environ.get("SUDO_USER")
    base = pwd.getpwnam(user).pw_dir if user and os.geteuid() == 0 else os.path.expanduser("~")
    return Path(base) / "minidock-labs"


def directory(lab: Lab) -> Path:
    """The lab's own; it may not exist yet."""
    return home() / lab.name


def started(lab: Lab) -> Path:
    """The lab's directory; :class:`NotFound` if it was not started."""
    if not directory(lab).is_dir():
        raise NotFound(f"lab {lab.name} is not started: minidock-lab start {lab.name}")
    return directory(lab)


def give_back() -> None:
    """What root has made below :func:`home` belongs to whoever called sudo."""
    if os.geteuid() != 0 or "SUDO_UID" not in os.environ:
        return
    owner = int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", -1))
    for folder, folders, files in os.walk(home()):
        for name in (".", *folders, *files):
            os.chown(os.path.join(folder, name), *owner, follow_symlinks=False)


# %% Making it
def make(lab: Lab, place: Path) -> None:
    """The work copy of ``lab`` at ``place``. Raises :class:`Conflict` if there is one."""
    if place.exists():
        raise Conflict(f"{place} is there already (minidock-lab reset {lab.name} begins anew)")
    place.mkdir(parents=True)
    shutil.copyfile(HERE / "tasks" / f"{lab.name}.md", place / "README.md")
    if not lab.blanks:
        shutil.copyfile(HERE / "tasks" / f"{lab.name}.sh", place / "repair.sh")
        return
    shadow(place, blanked(lab))


def blanked(lab: Lab) -> dict[str, str]:
    """The sources of the modules from which this host's lab takes functions, without them."""
    sources: dict[str, str] = {}
    for entry in lab.here():
        source = sources.get(entry.module) or (ROOT / entry.module).read_text()
        sources[entry.module] = splice.blank(source, entry.todos)
    return sources


def shadow(place: Path, sources: dict[str, str]) -> None:
    """``place/minidock``: the engine by links, with ``sources`` (by path) in place of its files."""
    _mirror(ROOT / "minidock", place / "minidock", {ROOT / name for name in sources})
    for name, source in sources.items():
        (place / name).write_text(source)


def _mirror(engine: Path, copy: Path, own: set[Path]) -> None:
    copy.mkdir()
    for entry in sorted(engine.iterdir()):
        if entry.name == "__pycache__" or entry in own:
            continue
        if any(entry in path.parents for path in own):
            _mirror(entry, copy / entry.name, own)
        else:
            (copy / entry.name).symlink_to(entry)


# %% What is in it
def own_files(place: Path) -> list[Path]:
    """The student's files: what is no link."""
    script = place / "repair.sh"
    if script.exists():
        return [script]
    found = (place / "minidock").rglob("*.py")
    return sorted(path for path in found if not path.is_symlink())


def changed(place: Path) -> float:
    """When a file of the student's was last written, in seconds since the epoch."""
    return max((path.stat().st_mtime for path in own_files(place)), default=0.0)
