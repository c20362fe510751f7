"""Moments, as the specifications write them: RFC 3339 with nanoseconds, in UTC.

The trap: Python's datetime knows microseconds only, and Docker's clients
compare these strings byte by byte (``docker logs --since``, the order of
events), so the nanoseconds must not be lost on the way.

**Interface:** :func:`now`, :func:`format_time`, :func:`parse_time`, :func:`parse_moment`,
:data:`ZERO`.

**See:** RFC 3339; Go's ``time.RFC3339Nano``.
"""

import time

from minidock.errors import InvalidParameter

# %% Writing and reading a moment
ZERO = "0001-01-01T00:00:00Z"  # how Go writes "never"


def format_time(nanoseconds: int) -> str:
    """``nanoseconds`` since 1970 as ``2024-05-06T07:08:09.012345678Z``."""
    seconds, rest = divmod(nanoseconds, 10**9)
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"


def now() -> str:
    """This moment."""
    return format_time(time.time_ns())


def parse_time(text: str) -> int:
    """Nanoseconds since 1970; 0 for :data:`ZERO`. Raises :class:`InvalidParameter`."""
    if text == ZERO:
        return 0
    try:
        moment, offset = _split_offset(text)
        whole, _, fraction = moment.partition(".")
        import calendar  # and locale with it: who only wants to know the time need not wait for that

        seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
        return (seconds - offset) * 10**9 + int(fraction.ljust(9, "0")[:9] or "0")
    except (ValueError, IndexError):
        raise InvalidParameter(
            f"invalid time {text!r} (want e.g. 2024-05-06T07:08:09.5Z)"
        ) from None


def _split_offset(text: str) -> tuple[str, int]:
    if text.endswith("Z"):
        return text[:-1], 0
    sign, hours, minutes = text[-6], text[-5:-3], text[-2:]
    if sign not in "+-":
        raise ValueError(text)
    return text[:-6], int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60)


# %% What people type
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def parse_moment(text: str) -> float:
    """Seconds since 1970: from such a number, a date, or a length of time before now (``1h30m``).

    A date without a zone is in the local one. Raises :class:`ValueError`.
    """
    if text.replace(".", "", 1).isdigit():
        return float(text)
    import re

    lengths = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)", text)
    if lengths and "".join(number + unit for number, unit in lengths) == text:
        return time.time() - sum(float(number) * _UNITS[unit] for number, unit in lengths)
    from datetime import datetime

    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
