"""``spec``, ``features`` and ``--version``: what this runtime is and takes.

**Interface:** :func:`spec`, :func:`features`, :func:`version`.
"""

from __future__ import annotations

import json
import os

from minidock.cli.flags import Flag
from minidock.cli.runtime import Call, program
from minidock.errors import Conflict, NotSupported


# %% spec
def spec(call: Call) -> int:
    """Write a ``config.json`` to begin with."""
    from minidock.runtime import template

    flags = [
        Flag("bundle", "b", "string", "path to the root of the bundle directory"),
        Flag("rootless", "", "bool", "generate a configuration for a rootless container"),
    ]
    values, _ = call.parse(flags, 0, 0)
    path = os.path.join(values["bundle"], "config.json")
    if os.path.exists(path):
        raise Conflict(f"File {path} exists. Remove it first")
    document = template.rootless() if values["rootless"] else template.standard()
    with open(path, "w") as file:
        json.dump(document, file, indent="\t")
    return 0


# %% features
def features(call: Call) -> int:
    """What works, as JSON."""
    from minidock.runtime.features import features as found

    call.parse([], 0, 0)
    print(json.dumps(found(), indent=2))
    return 0


# %% --version
def version() -> int:
    """In runc's form: ``runc version …`` and the version of the specification."""
    import platform

    from minidock import __version__
    from minidock.runtime.features import SPECIFICATION

    print(f"{program()} version {__version__}")
    print("commit: none (run from its source)")
    print(f"spec: {SPECIFICATION}")
    print(f"python: {platform.python_version()}")
    return 0


# %% What it does not do
def checkpoint(call: Call) -> int:
    """Refused: to freeze a process into files and thaw it elsewhere is a program of its own, CRIU."""
    raise NotSupported("MiniDock does not checkpoint containers: call runc, which has CRIU do it")


restore = checkpoint
