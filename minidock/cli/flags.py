"""Flags, as Docker's command line understands them.

``-it`` is two flags, ``--name=x`` and ``--name x`` are the same, ``-p`` may
come again and again, and everything after the image belongs to the program
in the container. argparse can do most of it, in other words than Docker's
and for 6 ms; a table and a loop do all of it.

**Interface:** :class:`Flag`, :func:`parse`, :class:`UsageError`.

**See:** pflag, which Docker's CLI uses.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import Any, NoReturn


# %% A flag
class Flag:
    """``kind`` is ``bool``, ``string``, ``list``, ``int``, ``bytes`` or ``float``."""

    __slots__ = ("default", "help", "kind", "name", "short")

    def __init__(
        self, name: str, short: str = "", kind: str = "string", help: str = "", default: Any = None
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.help = help
        self.default = default


class UsageError(Exception):
    """The command line makes no sense."""


EMPTY: dict[str, Any] = {
    "bool": False,
    "string": "",
    "list": (),
    "int": 0,
    "bytes": 0,
    "float": 0.0,
}

TYPES = {"string": "string", "list": "list", "int": "int", "bytes": "bytes", "float": "decimal"}


# %% Parsing
class Values(dict[str, "Any"]):
    """Flags by name; :attr:`given` are those that were on the command line."""

    def __init__(self, flags: list[Flag]) -> None:
        super().__init__(
            (f.name, f.default if f.default is not None else EMPTY[f.kind]) for f in flags
        )
        for flag in flags:
            if flag.kind == "list":
                self[flag.name] = []
        self.given: set[str] = set()


def parse(
    arguments: list[str], flags: list[Flag], intersperse: bool = True
) -> tuple[Values, list[str]]:
    """The values of the flags, and what is left.

    ``intersperse``: flags may come after the first word that is none (not so
    for ``run`` and ``exec``). Raises :class:`UsageError` in Docker's words.
    """
    values = Values(flags)
    rest: list[str] = []
    names = {flag.name: flag for flag in flags}
    shorts = {flag.short: flag for flag in flags if flag.short}
    todo = list(arguments)
    while todo:
        word = todo.pop(0)
        if word == "--":
            return values, rest + todo
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name not in names:
                raise UsageError("help" if name == "help" else f"unknown flag: --{name}")
            _take(values, names[name], value if equals else None, todo, f"--{name}")
        elif word.startswith("-") and word != "-":
            _shorts(values, shorts, word[1:], todo)
        else:
            rest.append(word)
            if not intersperse:
                return values, rest + todo
    return values, rest


def _shorts(values: Values, shorts: dict[str, Flag], letters: str, todo: list[str]) -> None:
    """``-it``; the last may have its value right behind it, or as the next word."""
    whole = letters
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = shorts.get(letter)
        if flag is None:
            raise UsageError(f"unknown shorthand flag: '{letter}' in -{whole}")
        if flag.kind == "bool" and not letters.startswith("="):
            _take(values, flag, None, todo, f"-{letter}")
            continue
        value = letters.removeprefix("=") if letters else None
        _take(values, flag, value, todo, f"-{letter}")
        return


def _take(values: Values, flag: Flag, value: str | None, todo: list[str], shown: str) -> None:
    if flag.kind == "bool":
        text = "true" if value is None else value
        if text.lower() not in ("true", "false", "1", "0", "t", "f"):
            _invalid(flag, text, f'strconv.ParseBool: parsing "{text}": invalid syntax')
        values[flag.name] = text.lower() in ("true", "1", "t")
    else:
        if value is None:
            if not todo:
                raise UsageError(
                    f"flag needs an argument: {shown if len(shown) > 2 else _bare(shown)}"
                )
            value = todo.pop(0)
        if flag.kind == "list":
            values[flag.name].append(value)
        else:
            values[flag.name] = convert(flag, value)
    values.given.add(flag.name)


def _bare(shown: str) -> str:
    return f"'{shown[1]}' in {shown}"


def convert(flag: Flag, text: str) -> Any:
    """``text`` as a value of the flag's kind."""
    try:
        if flag.kind == "int":
            return int(text)
        if flag.kind == "float":
            return float(text)
        if flag.kind == "bytes":
            return size(text)
    except ValueError as error:
        words = (
            str(error)
            if flag.kind == "bytes"
            else f'strconv.ParseInt: parsing "{text}": invalid syntax'
        )
        _invalid(flag, text, words)
    return text


def _invalid(flag: Flag, text: str, why: str) -> NoReturn:
    shown = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
    raise UsageError(f'invalid argument "{text}" for "{shown}" flag: {why}')


# %% Sizes
UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def size(text: str) -> int:
    """``64m`` in bytes; -1 is no limit. Raises :class:`ValueError` in Docker's words."""
    if text == "-1":
        return -1
    number = text.lower().strip().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        return int(float(number.removesuffix(unit)) * UNITS[unit])
    except (ValueError, KeyError):
        raise ValueError(f"invalid size: '{text}'") from None


# %% Help
def usage(command: str, synopsis: str, about: str, flags: list[Flag]) -> str:
    """The text of ``--help``."""
    lines = [f"Usage:  minidock {command} {synopsis}".rstrip(), "", about]
    if flags:
        lines += ["", "Options:"]
        for flag in sorted(flags, key=lambda one: one.name):
            if not flag.help:
                continue
            short = f"-{flag.short}, " if flag.short else "    "
            kind = "" if flag.kind == "bool" else f" {TYPES.get(flag.kind, flag.kind)}"
            lines.append(f"  {short}--{flag.name + kind:<26} {flag.help}")
    return "\n".join(lines)


def fail(message: str, command: str, status: int) -> NoReturn:
    """Say what is wrong with the command line, and end."""
    sys.stderr.write(f"{message}\n\nRun 'minidock {command} --help' for more information\n")
    raise SystemExit(status)
