"""Mounts that were asked for: ``-v``, ``--mount`` and ``--tmpfs`` become one list.

**Interface:** :func:`mounts`.

The trap: ``-v`` makes a directory that is missing on the host, ``--mount``
refuses; both are what Docker does, and scripts rely on either.

**See:** Engine API, ``Mount``; moby ``volume/mounts/linux_parser.go``.
"""

import os
from typing import Any

from minidock.errors import InvalidParameter, NotSupported

Body = dict[str, Any]


# %% One list
def mounts(host: Body) -> list[Body]:
    """``Binds``, ``Mounts`` and ``Tmpfs`` as one list in the form of the API's ``Mounts``."""
    found = [_bind(text) for text in host["Binds"] or []]
    found += [_mount(entry) for entry in host["Mounts"] or []]
    found += [
        {"Type": "tmpfs", "Target": target, "Options": options}
        for target, options in (host["Tmpfs"] or {}).items()
    ]
    seen: set[str] = set()
    for mount in found:
        target = os.path.normpath(mount["Target"])
        if not target.startswith("/") or target == "/":
            problem = f"invalid mount path: '{mount['Target']}' mount path must be absolute"
            if target == "/":
                problem = "invalid specification: destination can't be '/'"
            if mount["Type"] == "bind" and "Mode" in mount:
                text = f"{mount['Source']}:{mount['Target']}"
                raise InvalidParameter(
                    f"invalid volume specification: '{text}': invalid mount config for type"
                    f' "bind": {problem}'
                )
            raise InvalidParameter(problem)
        if target in seen:
            raise InvalidParameter(f"Duplicate mount point: {target}")
        seen.add(target)
    return sorted(found, key=lambda mount: mount["Target"].count("/"))


_BIND_MODES = {
    "rw",
    "ro",
    "z",
    "Z",
    "rprivate",
    "private",
    "rslave",
    "slave",
    "rshared",
    "shared",
}


def _bind(text: str) -> Body:
    """``SOURCE:TARGET[:MODE]``; a source that is missing will be made, as Docker does for ``-v``."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not target:
        raise NotSupported(
            f"anonymous volumes are not supported by MiniDock: {text} (want /host:/target)"
        )
    if not source.startswith("/"):
        raise NotSupported(
            f"named volumes are not supported by MiniDock: {text} (want /host:/target)"
        )
    words = [word for word in mode.split(",") if word]
    for word in words:
        if word not in _BIND_MODES:
            raise InvalidParameter(f"invalid mode: {mode}")
    propagation = next((word for word in words if word not in ("rw", "ro", "z", "Z")), "rprivate")
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": "ro" in words,
        "Mode": mode,
        "Create": True,
        "Propagation": propagation,
    }


def _mount(entry: Body) -> Body:
    """One of ``--mount``; here a missing source is an error, as Docker has it."""
    kind, source = entry.get("Type"), entry.get("Source", "")
    if not entry.get("Target"):
        raise InvalidParameter(
            f'invalid mount config for type "{kind}": field Target must not be empty'
        )
    if kind == "bind":
        options = entry.get("BindOptions") or {}
        create = bool(options.get("CreateMountpoint"))
        if not create and not os.path.exists(source):
            raise InvalidParameter(
                f'invalid mount config for type "bind": bind source path does not exist: {source}'
            )
        return {
            "Type": "bind",
            "Source": source,
            "Target": entry["Target"],
            "ReadOnly": bool(entry.get("ReadOnly")),
            "Create": create,
            "Propagation": options.get("Propagation") or "rprivate",
        }
    if kind == "tmpfs":
        options = entry.get("TmpfsOptions") or {}
        words = [f"size={options['SizeBytes']}"] if options.get("SizeBytes") else []
        words += [f"mode={options['Mode']:o}"] if options.get("Mode") else []
        return {"Type": "tmpfs", "Target": entry["Target"], "Options": ",".join(words)}
    raise NotSupported(
        f"mounts of type {kind!r} are not supported by MiniDock (only bind and tmpfs)"
    )
