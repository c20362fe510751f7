"""Writes the memory limit before the other, always: raising both fails."""

# check: changes
# expect: (?s)apply\(\) to set both limits to 256 MB.*memory.limit_in_bytes
import os

from minidock.cgroups import write
from minidock.spec.runtime import Memory


def _limit_memory(directory: str, memory: Memory) -> None:
    limits = [
        ("memory.limit_in_bytes", memory.limit),
        ("memory.memsw.limit_in_bytes", memory.swap),
        ("memory.soft_limit_in_bytes", memory.reservation),
        ("memory.swappiness", memory.swappiness),
    ]
    for name, value in limits:
        if value is not None and os.path.exists(f"{directory}/{name}"):
            write(f"{directory}/{name}", str(value))
