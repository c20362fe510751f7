"""Quota: how much the images of an engine may take of the disk.

Whoever adds an image spends what it writes: blobs, extracted layers, and
what is only there for the time. When there is nothing left to spend, the
attempt fails, and what it has written goes as after any other failure.

The traps. The size that an archive or a registry announces may be a lie,
and a small archive may inflate to a large tree (a *bomb*): only what is
written counts. And what others keep is counted once, when nobody is adding
anything; so while several add at once, what a failed one has given back is
seen only after the last of them.

**Interface:** :class:`Quota`, :class:`QuotaExceeded`, :func:`size_of`.

**See:** docker-registry and containerd have none; Docker's ``overlay2.size``
limits one container, by a project quota of the file system (xfs_quota(8)).
"""

from collections.abc import Callable
from threading import Lock

from minidock.errors import InvalidParameter, Unavailable

UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


# %% Spending
class QuotaExceeded(Unavailable):
    """There is not enough left of the quota."""


class Quota:
    """``limit`` in bytes (None: none); ``measure`` says how many are taken."""

    def __init__(self, limit: int | None, measure: Callable[[], int]) -> None:
        self.limit = limit
        self._measure = measure
        self._used = 0
        self._lock = Lock()

    def look(self) -> None:
        """Count what there is. Call it when nothing is being added."""
        if self.limit is not None:
            with self._lock:
                self._used = self._measure()

    def spend(self, size: int) -> None:
        """``size`` more bytes are written. Raises :class:`QuotaExceeded` if that is too much."""
        if self.limit is None:
            return
        with self._lock:
            if self._used + size > self.limit:
                raise QuotaExceeded(
                    f"the quota of the image store is exceeded: {shown(self.limit)} are allowed,"
                    f" {shown(self._used)} are in use, and {shown(size)} more are needed"
                    " (remove images, `minidock system prune`, or raise --store-quota)"
                )
            self._used += size


# %% Sizes as people write them
def size_of(text: str) -> int | None:
    """``500M``, ``2g``, ``1073741824``; nothing or 0 is no limit. Raises :class:`InvalidParameter`."""
    digits = text.strip().lower().removesuffix("ib").rstrip("bkmgt")
    unit = text.strip().lower().removeprefix(digits).removesuffix("ib").removesuffix("b")
    try:
        return int(float(digits or "0") * UNITS[unit]) or None
    except (ValueError, KeyError, OverflowError):
        raise InvalidParameter(
            f"invalid size {text!r} for --store-quota: want e.g. 500M or 2G"
        ) from None


def shown(size: int) -> str:
    """``12.3MB``."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g}{unit}"
