"""Hints for the lab ``network``."""

import os
from collections.abc import Iterator

from labs.bench import Bench, Wrong, command


# %% The cable
def cable(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Order, and what is there."""
    yield "A route needs a device that is up and an address by which the gateway can be reached: mind the order."
    for identity in command("minidock", "ps", "-q").out.split()[:1]:
        pid = command("minidock", "inspect", "-f", "{{.State.Pid}}", identity).out.strip()
        for line in command("nsenter", "-n", "-t", pid, "ip", "-br", "addr").out.splitlines():
            yield f"In the container, ip addr says: {line.strip()}"
    yield 'index = there.link("eth0").index; add_address(index, IPv4Interface(…)); set_link(index, up=True); add_route(IPv4Address(…), index).'


# %% The table
def _table() -> Iterator[str]:
    """The chains that the kernel calls now."""
    name = os.environ["MINIDOCK_BRIDGE"]
    text = command("nft", "list", "table", "ip", name)
    if text.status:
        yield f"There is no table {name} in the kernel: nft(8) was not called, or refused what it was given."
        return
    chains = [line.split()[3] for line in text.out.splitlines() if " hook " in line]
    yield f"The table {name} has chains on these hooks now: {', '.join(chains)}."


def outside(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Masquerading."""
    yield "The neighbour does not know 10.200.0.0/24. Whose address must it see to be able to answer?"
    yield from _table()
    yield 'postrouting: ip saddr {subnet} oifname != "{name}" masquerade.'


def published(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Prerouting."""
    yield "A packet that arrives passes prerouting, then the route is chosen: translate before that."
    yield from _table()
    if "masqueraded" in wrong.said:
        yield "Masquerade only what must be: out by another device, from 127.0.0.0/8, or from the subnet itself."


def localhost(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Output."""
    yield "What the host itself sends never passes prerouting."
    yield from _table()
    yield "The answer to a packet from 127.0.0.1 would stay in the container, on its own loopback: masquerade."


def hairpin(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Ourselves."""
    yield "The container calls the host, and is given itself, as its own peer, with its own source address."
    yield 'postrouting: oifname "{name}" ip saddr {subnet} ct status dnat masquerade.'


def not_ours(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Local."""
    yield "The map knows ports, not addresses. Which packets to port N are for us?"
    yield "fib daddr type local jump publish."
