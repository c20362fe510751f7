"""Programs that must succeed, and what they said when they do not.

**Interface:** :func:`run`, :func:`say`, :func:`since_begin`, :class:`Failed`, :class:`NotHere`.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

_BEGAN = time.monotonic()


class Failed(Exception):
    """Something outside went wrong; the text is for a person to act on."""


class NotHere(Exception):
    """This computer lacks what is needed; nobody's fault who wrote this."""


def run(
    *command: str,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """What ``command`` prints. Raises :class:`Failed` with the end of what it complained of."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            env=env,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not installed (./setup --vm installs it)") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command[:4])} … has not ended after {timeout:.0f} s") from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        reason = "\n  ".join(words[-12:]) or f"status {done.returncode}"
        raise Failed(f"{' '.join(command)[:200]} failed:\n  {reason}")
    return done.stdout.decode(errors="replace")


def since_begin() -> float:
    """Seconds since the program began."""
    return time.monotonic() - _BEGAN


def say(text: str) -> None:
    """A line of progress, and when."""
    print(f"[{since_begin():5.0f} s] {text}", file=sys.stderr, flush=True)
