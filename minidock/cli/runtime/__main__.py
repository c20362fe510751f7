"""``minidock-runtime``: the runtime as a program of its own.

Engines start this program several times for each container, and wait for
it; half of its time is Python's own start. Two things help. The collector of
cycles has nothing to collect in a process that lives for a twentieth of a
second. And ``dataclasses`` imports ``inspect``, and with it ``ast``, ``dis``
and ``tokenize``, just to write the docstring of a class that has none; ours
have one, so an empty module does as well
(``docs/design/0013-runtime.md`` has what was measured).

**Interface:** :func:`main`.
"""

from __future__ import annotations

import gc
import sys
from types import ModuleType

from minidock.cli.runtime.sealed import seal
from minidock.ending import run_and_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

gc.disable()


# %% A start without inspect
def _dataclasses_without_inspect() -> None:
    """Later versions of Python use more of it than that one function: leave them alone."""
    if sys.version_info[:2] != (3, 11) or "inspect" in sys.modules:
        return
    sys.modules["inspect"] = ModuleType("inspect")
    import dataclasses  # noqa: F401 (for everybody who comes later)

    del sys.modules["inspect"]


# %% The program
def main() -> NoReturn:
    """See :func:`minidock.cli.runtime.main`."""
    seal(sys.argv[1:])
    _dataclasses_without_inspect()
    from minidock.cli.runtime import main as run

    run_and_exit("minidock-runtime", run)


if __name__ == "__main__":
    main()
