"""Writes the limit of both before that of memory, always: setting them first fails."""

# check: swap
# expect: (?s)run -d -m 64m --memory-swap 96m.*memsw.limit_in_bytes: Invalid argument
import os

from minidock.cgroups import write
from minidock.spec.runtime import Memory


def _limit_memory(directory: str, memory: Memory) -> None:
    limits = [
        ("memory.memsw.limit_in_bytes", memory.swap),
        ("memory.limit_in_bytes", memory.limit),
        ("memory.soft_limit_in_bytes", memory.reservation),
        ("memory.swappiness", memory.swappiness),
    ]
    for name, value in limits:
        if value is not None and os.path.exists(f"{directory}/{name}"):
            write(f"{directory}/{name}", str(value))
