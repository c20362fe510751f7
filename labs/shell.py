"""The first program of a student's shell in a sandbox: prepares the lab, then becomes the shell.

``python -m labs.shell LAB PLACE ARCHIVE COMMAND…``: loads the image busybox,
breaks what a repair lab has broken, and executes COMMAND.
"""

import os
import sys
from pathlib import Path

from labs.bench import Bench, Wrong
from labs.grader import prepare
from labs.table import get


# %% As a program
def main(arguments: list[str]) -> int:
    """Returns only if the lab could not be prepared."""
    lab, place, archive, *command = arguments
    bench = Bench(Path(place), archive)
    try:
        bench.attempt("version")
        prepare(get(lab), bench)
    except Wrong as wrong:
        sys.stderr.write(f"{wrong.expected}: {wrong.said}\n")
    os.execvp(command[0], command)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
