"""Flags, as Docker's command line understands them.

``-it`` is two flags, ``--name=x`` and ``--name x`` are the same, ``-p`` may
come again and again, and everything after the image belongs to the program
in the container. argparse can do most of it, in other words than Docker's
and for 6 ms; a table and a loop do all of it.

The trap is that scripts read what Docker says and look at how it ends. A
flag that makes no sense ends with 125, a word too few with 1, and they are
worded differently; there is an exception for each.

**Interface:** :class:`Flag`, :func:`parse`, :func:`need`, :class:`UsageError`,
:class:`ArgumentError`, :class:`OptionError`, :class:`PlainError`.

**See:** pflag and cobra, which Docker's CLI uses; docker/cli ``cli/required.go``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from collections.abc import Callable
    from typing import Any, NoReturn


# %% A flag
class Flag:
    """``kind`` is a word of :data:`EMPTY`; ``convert`` makes the value of a text, or raises ValueError."""

    __slots__ = ("convert", "default", "help", "kind", "name", "short")

    def __init__(
        self,
        name: str,
        short: str = "",
        kind: str = "string",
        help: str = "",
        default: Any = None,
        convert: Callable[[str], Any] | None = None,
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.help = help
        self.default = default
        self.convert = convert or CONVERT.get(kind, str)

    @property
    def many(self) -> bool:
        """Whether it may come again and again."""
        return self.kind in ("list", "map", "filter", "mount", "network", "ulimit")


EMPTY: dict[str, Any] = {
    "bool": False,
    "string": "",
    "list": (),
    "map": (),
    "filter": (),
    "mount": (),
    "network": (),
    "ulimit": (),
    "int": 0,
    "uint16": 0,
    "bytes": 0,
    "decimal": 0,
    "duration": 0,
    "gpu-request": (),
}


# %% What can be wrong with a command line
class UsageError(Exception):
    """A flag that nobody knows, or a value that makes no sense. Status 125."""


class ArgumentError(UsageError):
    """Too few words, or too many. Status 1."""


class OptionError(UsageError):
    """Options of ``run`` that do not go together, or cannot be read. Status 125."""


class PlainError(UsageError):
    """Nothing but the sentence."""

    status = 1


class HelpAsked(Exception):
    """``--help``."""


def complaint(error: UsageError, command: str, synopsis: str) -> tuple[str, int]:
    """What to print, and the status to end with; ``synopsis`` is the ``Usage:`` line of ``command``."""
    text, hint = str(error), f"Run 'minidock {command} --help' for more information"
    if isinstance(error, PlainError):
        return text, error.status
    if isinstance(error, OptionError):
        return f"minidock: {text}\n\n{hint}", 125
    if isinstance(error, ArgumentError):
        if "at least" in text and "at most" not in text:
            hint = hint.replace("Run", "See", 1)
        return f"minidock: {text}\n\n{synopsis}\n\n{hint}", 1
    return f"{text}\n\n{synopsis}\n\n{hint}", 125


def need(words: list[str], command: str, least: int, most: int | None = None) -> None:
    """Raise :class:`ArgumentError` unless there are so many words (``most`` None: or more)."""
    if least <= len(words) and (most is None or len(words) <= most):
        return
    if most == 0:
        raise ArgumentError(f"'minidock {command}' accepts no arguments")
    if most is None:
        number = f"at least {least}"
    elif least == most:
        number = str(least)
    else:
        number = f"at most {most}" if least == 0 else f"at least {least} and at most {most}"
    plural = "" if (most or least) == 1 else "s"
    raise ArgumentError(f"'minidock {command}' requires {number} argument{plural}")


# %% Parsing
class Values(dict[str, "Any"]):
    """Flags by name; :attr:`given` are those that were on the command line."""

    def __init__(self, flags: list[Flag]) -> None:
        super().__init__(
            (f.name, f.default if f.default is not None else EMPTY[f.kind]) for f in flags
        )
        for flag in flags:
            if flag.many:
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
            if name == "help" and name not in names:
                raise HelpAsked
            if name not in names:
                raise UsageError(f"unknown flag: --{name}")
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
    while letters:
        left = letters
        letter, letters = letters[0], letters[1:]
        flag = shorts.get(letter)
        if flag is None:
            raise UsageError(f"unknown shorthand flag: '{letter}' in -{left}")
        if flag.kind == "bool" and not letters.startswith("="):
            _take(values, flag, None, todo, "")
            continue
        value = letters or None
        if value and len(value) > 1:
            value = value.removeprefix("=")
        _take(values, flag, value, todo, f"'{letter}' in -{left}")
        return


def _take(values: Values, flag: Flag, value: str | None, todo: list[str], shown: str) -> None:
    if value is None and flag.kind == "bool":
        value = "true"
    if value is None:
        if not todo:
            raise UsageError(f"flag needs an argument: {shown}")
        value = todo.pop(0)
    try:
        made = flag.convert(value)
    except ValueError as error:
        _invalid(flag, value, str(error))
    if flag.many:
        values[flag.name].append(made)
    else:
        values[flag.name] = made
    values.given.add(flag.name)


def _invalid(flag: Flag, text: str, why: str) -> NoReturn:
    shown = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
    raise UsageError(f'invalid argument "{text}" for "{shown}" flag: {why}')


# %% Texts and values
def boolean(text: str) -> bool:
    """What Go's ``strconv.ParseBool`` takes."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def integer(text: str) -> int:
    """A whole number."""
    return _go_integer(text, "strconv.ParseInt", -(2**63), 2**63 - 1)


def short_number(text: str) -> int:
    """A whole number of 16 bits."""
    return _go_integer(text, "strconv.ParseUint", 0, 2**16 - 1)


def _go_integer(text: str, function: str, least: int, most: int) -> int:
    try:
        if text != text.strip() or "_" in text:
            raise ValueError
        number = int(text)
    except ValueError:
        raise ValueError(f'{function}: parsing "{text}": invalid syntax') from None
    if not least <= number <= most:
        why = "invalid syntax" if least == 0 > number else "value out of range"
        raise ValueError(f'{function}: parsing "{text}": {why}')
    return number


UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def size(text: str) -> int:
    """``64m`` in bytes."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    suffix = text[len(digits) :].lower()
    unit = suffix if suffix == "b" else suffix.removesuffix("b").removesuffix("i")
    try:
        if not digits[:1].isdigit() or "_" in digits:
            raise ValueError
        number = float(digits)
    except ValueError:
        raise ValueError(f"invalid size: '{text}'") from None
    if unit not in UNITS:
        raise ValueError(f"invalid suffix: '{suffix}'")
    return int(number * UNITS[unit])


def swap_size(text: str) -> int:
    """The same, or -1 for no limit."""
    return -1 if text == "-1" else size(text)


def billionths(text: str) -> int:
    """``1.5`` (or ``3/2``) processors in billionths of one."""
    from fractions import Fraction

    try:
        number = Fraction(text) * 10**9
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if number.denominator != 1:
        raise ValueError("value is too precise")
    return int(number)


DURATIONS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
DURATIONS["h"] = 60 * DURATIONS["m"]


def duration(text: str) -> int:
    """``1m30s`` in nanoseconds."""
    import re

    sign = -1 if text.startswith("-") else 1
    bare = text[1:] if text[:1] in ("-", "+") else text
    parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)", bare)
    if bare == "0":
        return 0
    if not parts or "".join(number + unit for number, unit in parts) != bare:
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * round(sum(float(number) * DURATIONS[unit] for number, unit in parts))


def condition(text: str) -> str:
    """``NAME=VALUE`` after ``--filter``."""
    if text and "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    return text


CONVERT: dict[str, Callable[[str], Any]] = {
    "bool": boolean,
    "int": integer,
    "uint16": short_number,
    "bytes": size,
    "decimal": billionths,
    "duration": duration,
    "filter": condition,
}


# %% Help
WIDTH = 80


class Usage:
    """The text of ``--help``; laid out when somebody wants to see it."""

    __slots__ = ("_about", "_command", "_flags", "_synopsis")

    def __init__(self, command: str, synopsis: str, about: str, flags: list[Flag]) -> None:
        self._command = command
        self._synopsis = synopsis
        self._about = about
        self._flags = flags

    def __str__(self) -> str:
        lines = [f"Usage:  minidock {self._command} {self._synopsis}".rstrip(), "", self._about]
        shown = [flag for flag in sorted(self._flags, key=lambda one: one.name) if flag.help]
        if shown:
            heads = [_head(flag) for flag in shown]
            column = max(len(head) for head in heads) + 3
            lines += ["", "Options:"]
            for head, flag in zip(heads, shown, strict=True):
                first, *rest = _wrap(flag.help, WIDTH - column)
                lines.append(f"{head:<{column}}{first}")
                lines += [" " * column + line for line in rest]
        return "\n".join(lines)


def _head(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    return f"  {short}--{flag.name}{'' if flag.kind == 'bool' else f' {flag.kind}'}"


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
