"""``--storage-opt``: how large a layer may be, and what a driver wants to know.

An archive of a few kilobytes can say that it holds a petabyte of zeros, or
a billion empty files. (A limit on the *ratio* would be no help: a file of
zeros is honest, and a thousand times smaller when it is compressed.) So
there is a limit on what comes out, far above what anybody has seen, and the
operator can set another.

**Interface:** :class:`Limits`, :func:`limits`, :func:`read_options`, :func:`size_of`.

**See:** dockerd(8), ``--storage-opt``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minidock.errors import InvalidParameter

LIMITS = frozenset({"layer.size", "layer.entries"})


# %% What a layer may be
@dataclass(frozen=True, slots=True)
class Limits:
    """``size`` counts the files' bytes as ``ls`` shows them; ``deepest`` directories within directories."""

    size: int = 1 << 38
    entries: int = 10_000_000
    deepest: int = 1024


def limits(options: Mapping[str, int]) -> Limits:
    """The limits that ``options`` set."""
    standard = Limits()
    return Limits(
        options.get("layer.size", standard.size), options.get("layer.entries", standard.entries)
    )


# %% Reading options
def read_options(options: Sequence[str], known: frozenset[str]) -> dict[str, int]:
    """``NAME=SIZE`` as a dictionary. Raises :class:`InvalidParameter`, naming the option."""
    found = {}
    for option in options:
        name, _, value = option.partition("=")
        if name not in known:
            raise InvalidParameter(
                f"unknown storage option {name!r} (this driver has: {', '.join(sorted(known))})"
            )
        found[name] = size_of(value, option)
    return found


def size_of(text: str, option: str) -> int:
    """``10g``, ``512m``, ``4096``: in bytes (or pieces)."""
    number, unit = text.strip().lower().removesuffix("b"), 1
    if number[-1:] in tuple("kmgt"):
        number, unit = number[:-1], 1 << 10 * ("kmgt".index(number[-1]) + 1)
    if not number.isdecimal() or int(number) == 0:
        raise InvalidParameter(f"invalid storage option {option!r}: a size like 20g is wanted")
    return int(number) * unit
