"""How a command ends: all that it wrote goes out, and then the process is gone at once.

Python would take the interpreter apart, object by object, for nobody.

**Interface:** :func:`run_and_exit`.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from collections.abc import Callable
    from typing import NoReturn


# %% The end of a command
def run_and_exit(name: str, command: "Callable[[], int]") -> "NoReturn":
    """Run ``command``, called ``name`` in messages, and end the process with the status that it gives."""
    try:
        status = command()
        for stream in (sys.stdout, sys.stderr):
            # None: we were called without it; closed: by the command itself
            if stream is not None and not stream.closed:
                stream.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = 141
    except OSError as error:  # /dev/full and its like, at the very end
        sys.stderr.write(f"{name}: {error}\n")
        status = 1
    os._exit(status)
