"""Mounts: what may stand after ``-v`` and ``--mount``.

``-v`` came first, is short, and guesses: ``/a:/b`` binds a directory,
``a:/b`` is a volume called ``a``, ``/b`` alone a volume without a name.
``--mount`` names every part.

The trap: paths that begin with a dot are relative to where the *command
line* is, and the daemon is somewhere else.

**Interface:** :func:`volumes`, :func:`mount`, :func:`tmpfs`.

**See:** docker/cli ``cli/compose/loader/volume.go``, ``opts/mount.go``.
"""

from __future__ import annotations

import os

from minidock.cli.flags import OptionError, boolean, size

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import Any


# %% -v
def volumes(texts: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The API's ``Binds``, and ``Volumes`` (those without a name)."""
    binds: list[str] = []
    anonymous: dict[str, Any] = {}
    for text in texts:
        if not text:
            raise OptionError("invalid empty volume spec")
        source, *rest = _sections(text)
        if len(text) <= 2 or not rest:
            anonymous[text] = {}
            continue
        if not all((source, *rest)):
            raise OptionError(f"invalid spec: {text}: empty section between colons")
        if len(rest) > 2:
            raise OptionError(f"invalid spec: {text}: too many colons")
        path = os.path.abspath(source) if source.startswith(".") else source
        binds.append(":".join((path, *rest)))
    return binds, anonymous


def _sections(text: str) -> list[str]:
    """What stands between the colons; but ``c:/x`` is one section, a drive of Windows, on Linux too."""
    sections: list[str] = []
    for word in text.split(":"):
        if sections and len(sections[-1]) == 1 and sections[-1].isalpha():
            sections[-1] += f":{word}"
        else:
            sections.append(word)
    return sections


def tmpfs(texts: list[str]) -> dict[str, str]:
    """``TARGET[:OPTIONS]``."""
    return dict(text.partition(":")[::2] for text in texts)


# %% --mount
_PLACES = {
    "bind-propagation": ("BindOptions", "Propagation"),
    "bind-recursive": ("BindOptions", ""),
    "bind-nonrecursive": ("BindOptions", "NonRecursive"),
    "volume-nocopy": ("VolumeOptions", "NoCopy"),
    "volume-subpath": ("VolumeOptions", "Subpath"),
    "volume-label": ("VolumeOptions", "Labels"),
    "volume-driver": ("VolumeOptions", "Name"),
    "volume-opt": ("VolumeOptions", "Options"),
    "tmpfs-size": ("TmpfsOptions", "SizeBytes"),
    "tmpfs-mode": ("TmpfsOptions", "Mode"),
}

_NAMES = {"src": "Source", "source": "Source", "dst": "Target", "destination": "Target"}
_NAMES["target"] = "Target"


def mount(text: str) -> dict[str, Any]:
    """``type=bind,src=…,dst=…[,readonly]``, as a line of comma-separated values (with quotes)."""
    import csv

    fields = next(csv.reader([text]), None)
    if not fields:
        raise ValueError("EOF")
    made: dict[str, Any] = {"Type": "volume"}
    for field in fields:
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals and key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        _put(made, key, value if equals else "true", field)
    return _sound(made)


def _put(made: dict[str, Any], key: str, value: str, field: str) -> None:
    if key == "type":
        made["Type"] = value.lower()
    elif key in _NAMES:
        path = _NAMES[key] == "Source" and value.startswith(".")
        made[_NAMES[key]] = os.path.abspath(value) if path else value
    elif key in ("readonly", "ro"):
        made["ReadOnly"] = _truth(key, value)
    elif key == "consistency":
        made["Consistency"] = value.lower()
    elif key in _PLACES:
        _option(made, key, value)
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _truth(key: str, value: str) -> bool:
    try:
        return boolean(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _option(made: dict[str, Any], key: str, value: str) -> None:
    group, name = _PLACES[key]
    options = made.setdefault(group, {})
    if key in ("volume-label", "volume-opt"):
        where = options if key == "volume-label" else options.setdefault("DriverConfig", {})
        label, _, text = value.partition("=")
        where.setdefault(name, {})[label] = text
    elif key == "volume-driver":
        options.setdefault("DriverConfig", {})["Name"] = value
    elif key in ("volume-nocopy", "bind-nonrecursive"):
        options[name] = _truth(key, value)
    elif key == "bind-recursive":
        _recursive(options, value)
    else:
        try:
            numbers = {"tmpfs-size": size, "tmpfs-mode": lambda text: int(text, 8)}
            options[name] = numbers.get(key, str)(value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None


def _recursive(options: dict[str, Any], value: str) -> None:
    flags = {
        "enabled": None,
        "disabled": "NonRecursive",
        "writable": "ReadOnlyNonRecursive",
        "readonly": "ReadOnlyForceRecursive",
    }
    if value not in flags:
        raise ValueError(
            f"invalid value for bind-recursive: {value}"
            ' (must be "enabled", "disabled", "writable", or "readonly")'
        )
    flag = flags[value]
    if flag is not None:
        options[flag] = True


def _sound(made: dict[str, Any]) -> dict[str, Any]:
    if not made["Type"]:
        raise ValueError("type is required")
    if not made.get("Target"):
        raise ValueError("target is required")
    for group, kind in (
        ("VolumeOptions", "volume"),
        ("BindOptions", "bind"),
        ("TmpfsOptions", "tmpfs"),
    ):
        if group in made and made["Type"] != kind:
            raise ValueError(f"cannot mix '{kind}-*' options with mount type '{made['Type']}'")
    return made
