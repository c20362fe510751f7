"""Signals by name and by number.

**Interface:** :func:`signal_number`, :func:`stop_signal`.

**See:** signal(7).
"""

import signal

from minidock.engine.container import Container
from minidock.errors import InvalidParameter


# %% From a name to a number
def stop_signal(container: Container) -> int:
    """``STOPSIGNAL`` of the image or ``--stop-signal``; SIGTERM without."""
    return signal_number(container.config.get("StopSignal") or "SIGTERM")


def signal_number(text: str) -> int:
    """``9``, ``KILL`` or ``SIGKILL`` as a number; raises in Docker's words."""
    if text.isdigit() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    number = getattr(signal, name, None)
    if name.startswith("SIGRT") and "+" in name:
        base, _, offset = name.partition("+")
        number = getattr(signal, base, 0) + int(offset) if offset.isdigit() else None
    if not isinstance(number, int):
        raise InvalidParameter(f"Invalid signal: {text}")
    return int(number)
