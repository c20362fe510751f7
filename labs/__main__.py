"""``minidock-lab``: the command line.

**Interface:** :func:`main`.
"""

import sys


# %% The entry point
def main() -> int:
    """Run the command on the command line; returns the exit status."""
    from labs.cli import run_command

    try:
        return run_command(sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141


if __name__ == "__main__":
    raise SystemExit(main())
