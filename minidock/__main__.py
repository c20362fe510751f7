"""``minidock``: the command line.

Most commands are over in a twentieth of a second, and half of that is
Python's. So the collector of cycles seldom looks (there is next to nothing
to collect), and at the end the process is gone at once, instead of taking
the interpreter apart, object by object.

**Interface:** :func:`main`.
"""

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import NoReturn


# %% The entry point
def main() -> "NoReturn":
    """Run the command on the command line, and end with its status."""
    if sys.argv[1:2] == ["runtime"]:  # another program, which wants to be quicker still
        from minidock.cli.runtime.__main__ import main as runtime

        del sys.argv[1]
        runtime()
    os._exit(_run())


def _run() -> int:
    if sys.argv[1:2] != ["daemon"]:
        gc.set_threshold(50_000)
    from minidock.cli import run_command

    try:
        status = run_command(sys.argv[1:])
        _flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:  # /dev/full and its like, at the very end
        sys.stderr.write(f"minidock: {error}\n")
        return 1


def _flush() -> None:
    """What is in Python's buffers. An output that we were called without is None, and some close theirs."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


if __name__ == "__main__":
    main()
