"""``minidock-runtime``: the runtime as a program of its own.

**Interface:** :func:`main`.
"""

from minidock.cli.runtime import main

__all__ = ["main"]


# %% The program
if __name__ == "__main__":
    raise SystemExit(main())
