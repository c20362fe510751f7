"""Changes to how an image runs, in the words of a Dockerfile.

``commit --change 'CMD ["sh"]'`` and ``import --change …`` say lines of a
Dockerfile about an image that nobody builds from one. Here is what each of
the instructions does that only change the configuration.

The traps. A command has two forms: in brackets it is a list of words, which
is executed as it is; otherwise it is text for a shell. A new ``ENTRYPOINT``
makes the old ``CMD`` meaningless, so that goes. A relative ``WORKDIR`` goes
on from the one before.

**Interface:** :func:`apply`.

**See:** Dockerfile reference; moby ``builder/dockerfile`` (BuildFromConfig,
dispatchers.go).
"""

import json
import posixpath
import re
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from minidock.errors import InvalidParameter
from minidock.images.words import Variables, assignments, expand, words
from minidock.spec.image import Execution

Body = dict[str, Any]


# %% One line after the other
def apply(changes: Sequence[str], run: Execution | None = None) -> Execution:
    """``run`` after the lines of a Dockerfile in ``changes``. Raises in Docker's words."""
    now = run or Execution()
    seen: set[str] = set()
    for line in _lines(changes):
        word, _, rest = line.partition(" ")
        instruction = INSTRUCTIONS.get(word.upper())
        if instruction is None:
            raise InvalidParameter(f"{word} is not a valid change command")
        if not rest.strip():
            raise InvalidParameter(f"{word.upper()} requires at least one argument")
        now = instruction(now, rest.strip())
        seen.add(word.upper())
        if word.upper() == "ENTRYPOINT" and "CMD" not in seen:
            now = replace(now, cmd=())
    return now


def _lines(changes: Sequence[str]) -> list[str]:
    """A backslash at the end goes on with the next line; comments say nothing."""
    text = "\n".join(change.replace("\t", " ") for change in changes)
    lines = (line.strip() for line in re.sub(r"\\[ ]*\n", "", text).split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def _variables(run: Execution) -> Variables:
    return dict(entry.split("=", 1) for entry in run.env if "=" in entry)


# %% Commands: CMD, ENTRYPOINT, SHELL, HEALTHCHECK
def _json(text: str) -> tuple[str, ...] | None:
    """The list of words that ``text`` is, if it is one."""
    if text.startswith("["):
        with suppress(ValueError):
            value = json.loads(text)
            if all(isinstance(part, str) for part in value):
                return tuple(value)
    return None


def _command(run: Execution, text: str) -> tuple[str, ...]:
    exact = _json(text)
    return exact if exact is not None else (*(run.shell or ("/bin/sh", "-c")), text)


def _shell(run: Execution, text: str) -> Execution:
    shell = _json(text)
    if not shell:
        raise InvalidParameter("SHELL requires the arguments to be in JSON form")
    return replace(run, shell=shell)


UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def _healthcheck(run: Execution, text: str) -> Execution:
    """``NONE``, or ``[--interval=…] CMD …``; times in nanoseconds, as Docker keeps them."""
    check: Body = {}
    while match := re.match(r"--([a-z-]+)=(\S+)\s*", text):
        name, value = match.groups()
        if name == "retries" and value.isdigit():
            check["Retries"] = int(value)
        elif name in TIMES:
            check[TIMES[name]] = _nanoseconds(value)
        else:
            raise InvalidParameter(f"HEALTHCHECK: bad flag --{name}={value}")
        text = text[match.end() :]
    kind, _, command = text.partition(" ")
    if kind.upper() == "NONE" and not command.strip() and not check:
        return replace(run, healthcheck={"Test": ["NONE"]})
    if kind.upper() != "CMD" or not command.strip():
        raise InvalidParameter(f"Unknown type {kind!r} in HEALTHCHECK (try CMD)")
    exact = _json(command.strip())
    test = ["CMD", *exact] if exact else ["CMD-SHELL", command.strip()]
    return replace(run, healthcheck={"Test": test, **check})


def _nanoseconds(text: str) -> int:
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidParameter(f'time: invalid duration "{text}"')
    return round(sum(float(number) * UNITS[unit] for number, unit in parts) * 1e9)


# %% Maps and lists: ENV, LABEL, EXPOSE, VOLUME, ONBUILD
def _env(run: Execution, text: str) -> Execution:
    """A variable that is there keeps its place."""
    env = list(run.env)
    for name, value in assignments("ENV", text, _variables(run)):
        at = [n for n, entry in enumerate(env) if entry.partition("=")[0] == name]
        env[at[0] if at else len(env) : at[0] + 1 if at else len(env)] = [f"{name}={value}"]
    return replace(run, env=tuple(env))


def _label(run: Execution, text: str) -> Execution:
    new = dict(assignments("LABEL", text, _variables(run)))
    return replace(run, labels={**run.labels, **new})


def _expose(run: Execution, text: str) -> Execution:
    ports: Body = {}
    for word in words(text):
        spec, _, protocol = expand(word, _variables(run)).partition("/")
        first, _, last = spec.partition("-")
        protocol = protocol.lower() or "tcp"
        numbers = (first, last or first)
        if not all(one.isdigit() and int(one) <= 65535 for one in numbers):
            raise InvalidParameter(f"invalid containerPort: {word}")
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidParameter(f"invalid proto: {protocol}")
        if int(numbers[0]) > int(numbers[1]):
            raise InvalidParameter(f"invalid range format for containerPort: {word}")
        ports |= {f"{n}/{protocol}": {} for n in range(int(numbers[0]), int(numbers[1]) + 1)}
    return replace(run, exposed_ports={**run.exposed_ports, **ports})


def _volume(run: Execution, text: str) -> Execution:
    places = _json(text) or [expand(word, _variables(run)) for word in words(text)]
    if not all(place.strip() for place in places):
        raise InvalidParameter("VOLUME specified can not be an empty string")
    return replace(run, volumes={**run.volumes, **{place: {} for place in places}})


def _onbuild(run: Execution, text: str) -> Execution:
    word = text.split()[0].upper()
    if word == "ONBUILD":
        raise InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if word in ("FROM", "MAINTAINER"):
        raise InvalidParameter(f"{word} isn't allowed as an ONBUILD trigger")
    return replace(run, on_build=(*run.on_build, text))


# %% Single words: USER, WORKDIR, STOPSIGNAL
def _only(instruction: str, run: Execution, text: str) -> str:
    found = [expand(word, _variables(run)) for word in words(text)]
    if len(found) != 1 or not found[0]:
        raise InvalidParameter(f"{instruction} requires exactly one argument")
    return found[0]


def _workdir(run: Execution, text: str) -> Execution:
    place = posixpath.join(run.working_dir or "/", expand(text, _variables(run)))
    return replace(run, working_dir=posixpath.normpath(place))


def _stop_signal(run: Execution, text: str) -> Execution:
    word = _only("STOPSIGNAL", run, text)
    name = word.upper() if word.upper().startswith("SIG") else f"SIG{word.upper()}"
    known = word.isdigit() and 0 < int(word) <= 64 or name in signal.Signals.__members__
    if not known and not re.fullmatch(r"SIGRTM(IN(\+\d+)?|AX(-\d+)?)", name):
        raise InvalidParameter(f"Invalid signal: {word}")
    return replace(run, stop_signal=word)


INSTRUCTIONS: dict[str, Callable[[Execution, str], Execution]] = {
    "CMD": lambda run, text: replace(run, cmd=_command(run, text)),
    "ENTRYPOINT": lambda run, text: replace(run, entrypoint=_command(run, text)),
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": lambda run, text: replace(run, user=_only("USER", run, text)),
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
