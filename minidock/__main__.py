"""``minidock``: the command line.

Most commands are over in a twentieth of a second, and half of that is
Python's. So the collector of cycles seldom looks: there is next to nothing
to collect.

**Interface:** :func:`main`.
"""

import gc
import sys

from minidock.ending import run_and_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


# %% The entry point
def main() -> "NoReturn":
    """Run the command on the command line, and end with its status."""
    if sys.argv[1:2] == ["runtime"]:  # another program, which wants to be quicker still
        from minidock.cli.runtime.__main__ import main as runtime

        del sys.argv[1]
        runtime()
    run_and_exit("minidock", _run)


def _run() -> int:
    if sys.argv[1:2] != ["daemon"]:
        gc.set_threshold(50_000)
    from minidock.cli import run_command

    return run_command(sys.argv[1:])


if __name__ == "__main__":
    main()
