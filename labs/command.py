"""``minidock`` in a sandbox: the engine of the work copy, as the files are now.

A daemon has read its modules when it started; a student who has changed one
since would be puzzled by the old behaviour. So a daemon that is older than
the newest file is ended first (its containers go on), and the command
starts another.

**Interface:** :func:`main`.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


# %% The command
def main() -> int:
    """Run ``minidock`` with this process's arguments; returns its status."""
    end_old_daemon(Path(os.environ["MINIDOCK_RUN"]) / "minidock.pid")
    from minidock.__main__ import main as minidock

    return minidock()


def end_old_daemon(pidfile: Path) -> None:
    """End the daemon if a file of the student's is newer than it."""
    try:
        started = pidfile.stat().st_mtime
        pid = int(pidfile.read_text())
    except (FileNotFoundError, ValueError):
        return
    if newest() <= started:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while pidfile.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def newest() -> float:
    """When one of the modules that shadow the engine's was last written."""
    shadow = Path(sys.path[0]) / "minidock"
    files = (path for path in shadow.rglob("*.py") if not path.is_symlink())
    return max((path.stat().st_mtime for path in files), default=0.0)
