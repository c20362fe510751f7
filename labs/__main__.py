"""``minidock-lab``: the command line.

**Interface:** :func:`main`.
"""

import os
import sys


# %% The entry point
def main() -> int:
    """Run the command on the command line; returns the exit status."""
    from labs.cli import run_command

    try:
        status = run_command(sys.argv[1:])
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # and nothing may be left to be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    raise SystemExit(main())
