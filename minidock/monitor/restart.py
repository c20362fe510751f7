"""Restarting: whether a program that has ended is run again, and when.

Docker's four policies. ``no``; ``on-failure[:N]``, when the exit status is
not 0, at most N times; ``always``; ``unless-stopped``, which is the same but
for what happens when the *daemon* starts (see :mod:`minidock.engine.recovery`).

The trap is a program that dies at once, for ever: it must not take the
whole machine. So each wait is twice as long as the one before, up to a
minute, and only a run of ten seconds makes us trust it again.

**Interface:** :class:`Restarts`.

**See:** moby ``restartmanager/restartmanager.go``.
"""

from dataclasses import dataclass

FIRST_DELAY, LONGEST_DELAY = 0.1, 60.0
TRUSTED_AFTER = 10.0


# %% The policy
@dataclass(slots=True)
class Restarts:
    """The policy of one container, and what has come of it so far."""

    policy: str = "no"
    maximum: int = 0
    count: int = 0
    delay: float = 0.0
    stopped: bool = False

    def next_delay(self, status: int, seconds: float) -> float | None:
        """The run has ended with ``status`` after ``seconds``: how long to wait, or None for the end."""
        if self.stopped or not self._wanted(status):
            return None
        fresh = not self.delay or seconds >= TRUSTED_AFTER
        self.delay = FIRST_DELAY if fresh else min(self.delay * 2, LONGEST_DELAY)
        self.count += 1
        return self.delay

    def _wanted(self, status: int) -> bool:
        if self.policy == "on-failure":
            return status != 0 and not (self.maximum and self.count >= self.maximum)
        return self.policy in ("always", "unless-stopped")
