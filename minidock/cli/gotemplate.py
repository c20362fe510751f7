"""Go templates: what ``--format`` and ``inspect -f`` are written in.

``{{.State.Pid}}``, ``{{range .Mounts}}{{.Source}} {{end}}``, ``{{json .}}``:
a small language, of which this is what people use with Docker: fields,
variables, pipelines, ``if``, ``range``, ``with``, and a dozen functions.

The trap is that a missing field prints ``<no value>`` in a map and is an
error in Go's structures; Docker's clients see both, and so there are two
ways to read a template here. A field of what is no object is always an
error.

**Interface:** :class:`Template`.

**See:** Go's package text/template; docker/cli ``templates/templates.go``.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from minidock.cli.flags import PlainError

MISSING = object()


class TemplateError(PlainError):
    """The template, or what it asks for, makes no sense. Status 64, as Docker's command line has it."""

    status = 64


# %% Words
_TOKEN = re.compile(
    r'\s*("(?:\\.|[^"\\])*"|`[^`]*`|-?\d+(?:\.\d+)?|\$?[A-Za-z_]\w*(?:\.\w+)*|(?:\.\w+)+|\.|\$|:=|[|(),=])'
)


def words(text: str) -> list[str]:
    """The words of what stands between the braces."""
    found, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise TemplateError(
                f"template parsing error: unexpected {text[position:]!r} in command"
            )
        found.append(match.group(1))
        position = match.end()
    return found


# %% The tree of a template
Node = tuple[str, Any]


def _split(text: str) -> list[Node]:
    """Text and actions, with ``{{-`` and ``-}}`` taking away the blanks beside them."""
    nodes: list[Node] = []
    for number, part in enumerate(re.split(r"(\{\{.*?\}\})", text, flags=re.DOTALL)):
        if number % 2 == 0:
            if "{{" in part:
                raise TemplateError("template parsing error: unclosed action")
            nodes.append(("text", part))
            continue
        inside = part[2:-2]
        if inside.startswith("- "):
            nodes[-1] = ("text", nodes[-1][1].rstrip())
            inside = inside[2:]
        trims = inside.endswith(" -")
        inside = inside[:-2] if trims else inside
        if not inside.lstrip().startswith("/*"):
            nodes.append(("action", words(inside)))
        nodes.append(("trim", None) if trims else ("text", ""))
    return _trimmed(nodes)


def _trimmed(nodes: list[Node]) -> list[Node]:
    result: list[Node] = []
    trim = False
    for kind, value in nodes:
        if kind == "trim":
            trim = True
        elif kind == "text":
            result.append(("text", value.lstrip() if trim else value))
            trim = trim and not value.strip()
        else:
            result.append((kind, value))
    return result


class Template:
    """A template, parsed; raises :class:`TemplateError` for one that is none."""

    def __init__(self, text: str, strict: bool = False) -> None:
        """``strict``: a field that is not there is an error, as in Go's structures."""
        self._strict = strict
        self._nodes = _split(text)
        self._position = 0
        self._tree = self._block(())
        if self._position < len(self._nodes):
            raise TemplateError(
                f"template parsing error: unexpected {{{{{self._nodes[self._position][1][0]}}}}}"
            )

    def _block(self, ends: tuple[str, ...]) -> list[Any]:
        """Nodes up to one of ``ends``, which is left for the caller."""
        block: list[Any] = []
        while self._position < len(self._nodes):
            kind, value = self._nodes[self._position]
            if kind == "action" and value and value[0] in ("end", "else"):
                if value[0] in ends:
                    return block
                raise TemplateError(f"template parsing error: unexpected {{{{{value[0]}}}}}")
            self._position += 1
            if kind == "text":
                block.append(value)
            elif value and value[0] in ("if", "range", "with"):
                block.append(self._branch(value[0], value[1:]))
            else:
                block.append(("show", value))
        if ends:
            raise TemplateError("template parsing error: unexpected EOF")
        return block

    def _branch(self, kind: str, condition: list[str]) -> Any:
        then = self._block(("end", "else"))
        other: list[Any] = []
        word = self._nodes[self._position][1]
        self._position += 1
        if word[0] == "else":
            if len(word) > 1:  # else if
                other = [self._branch(word[1], word[2:])]
            else:
                other = self._block(("end",))
                self._position += 1
        return (kind, condition, then, other)

    # %% Rendering
    def render(self, data: Any) -> str:
        """The text for ``data``."""
        out: list[str] = []
        self._run(self._tree, data, {"$": data, "strict": self._strict}, out)
        return "".join(out)

    def _run(self, block: list[Any], dot: Any, variables: dict[str, Any], out: list[str]) -> None:
        for node in block:
            if isinstance(node, str):
                out.append(node)
            elif node[0] == "show":
                names, rest = _declared(node[1])
                value = evaluate(rest, dot, variables)
                if names:
                    variables[names[-1]] = value
                else:
                    out.append(text_of(value))
            else:
                self._choose(node, dot, variables, out)

    def _choose(self, node: Any, dot: Any, variables: dict[str, Any], out: list[str]) -> None:
        kind, condition, then, other = node
        names, rest = _declared(condition)
        value = evaluate(rest, dot, variables)
        if not truth(value):
            self._run(other, dot, variables, out)
        elif kind == "range":
            pairs = sorted(value.items()) if isinstance(value, dict) else list(enumerate(value))
            for key, item in pairs:
                inner = {**variables, **dict(zip(names, [key, item][-len(names) :], strict=False))}
                self._run(then, item, inner, out)
        else:
            inner = {**variables, **({names[-1]: value} if names else {})}
            self._run(then, value if kind == "with" else dot, inner, out)


def _declared(command: list[str]) -> tuple[list[str], list[str]]:
    """``$k, $v := …``: the names, and the rest."""
    for mark in (":=", "="):
        if mark in command:
            at = command.index(mark)
            return [word for word in command[:at] if word != ","], command[at + 1 :]
    return [], command


# %% Values
def evaluate(command: list[str], dot: Any, variables: dict[str, Any]) -> Any:
    """A pipeline: each command's value is the last argument of the next."""
    value: Any = MISSING
    depth = 0
    part: list[str] = []
    parts: list[list[str]] = []
    for word in command:
        depth += {"(": 1, ")": -1}.get(word, 0)
        if word == "|" and depth == 0:
            parts.append(part)
            part = []
        else:
            part.append(word)
    for one in [*parts, part]:
        value = _call(one, dot, variables, value)
    return value


def _call(command: list[str], dot: Any, variables: dict[str, Any], piped: Any) -> Any:
    if not command:
        raise TemplateError("template parsing error: missing value for command")
    name, rest = command[0], command[1:]
    if name in FUNCTIONS:
        arguments = _arguments(rest, dot, variables)
        if piped is not MISSING:
            arguments.append(piped)
        try:
            return FUNCTIONS[name](*arguments)
        except (TypeError, IndexError, KeyError, ValueError) as error:
            raise TemplateError(f"template: error calling {name}: {error}") from None
    values = _arguments(command, dot, variables)
    return values[0](*values[1:]) if callable(values[0]) else values[0]


def _arguments(command: list[str], dot: Any, variables: dict[str, Any]) -> list[Any]:
    values, position = [], 0
    while position < len(command):
        if command[position] == "(":
            end, depth = position + 1, 1
            while depth:
                depth += {"(": 1, ")": -1}.get(command[end], 0)
                end += 1
            values.append(evaluate(command[position + 1 : end - 1], dot, variables))
            position = end
        else:
            values.append(_value(command[position], dot, variables))
            position += 1
    return values


def _value(word: str, dot: Any, variables: dict[str, Any]) -> Any:
    if word[0] == '"':
        return json.loads(word)
    if word[0] == "`":
        return word[1:-1]
    if word in ("true", "false", "nil"):
        return {"true": True, "false": False, "nil": None}[word]
    if word[0].isdigit() or word[0] == "-":
        return float(word) if "." in word else int(word)
    if word[0] == "$":
        name, _, path = word.partition(".")
        if name not in variables:
            raise TemplateError(f'template parsing error: undefined variable "{name}"')
        return _walk(variables[name], path, variables["strict"])
    if word[0] == ".":
        return _walk(dot, word[1:], variables["strict"])
    raise TemplateError(f'template parsing error: function "{word}" not defined')


def _walk(value: Any, path: str, strict: bool) -> Any:
    for name in filter(None, path.split(".")):
        if value is None or value is MISSING:
            return MISSING
        if not isinstance(value, dict):
            raise TemplateError(
                f"template: can't evaluate field {name} in type {type(value).__name__}"
            )
        value = value.get(name, MISSING)
        # A field begins with a capital letter; what does not is a key of a map, and may be absent.
        if value is MISSING and strict and name[0].isupper():
            error = TemplateError(
                f'template parsing error: template: executing "" at <.{path}>:'
                f' map has no entry for key "{name}"'
            )
            error.status = 1
            raise error
    return value


def truth(value: Any) -> bool:
    """Empty, zero and absent are false."""
    return value is not MISSING and bool(value)


def text_of(value: Any) -> str:
    """As Go prints it."""
    if value is MISSING or value is None:
        return "<no value>" if value is MISSING else "<nil>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + " ".join(map(text_of, value)) + "]"
    if isinstance(value, dict):
        return (
            "map[" + " ".join(f"{key}:{text_of(item)}" for key, item in sorted(value.items())) + "]"
        )
    return str(value)


# %% Functions
def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, MISSING) if isinstance(value, dict) else value[key]
    return value


def _printf(pattern: str, *values: Any) -> str:
    shown = [value if isinstance(value, (int, float)) else text_of(value) for value in values]
    return re.sub(r"%[vq]", lambda m: "%s" if m.group() == "%v" else '"%s"', pattern) % tuple(shown)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(None if value is MISSING else value, separators=(",", ":")),
    "index": _index,
    "len": len,
    "printf": _printf,
    "println": lambda *values: " ".join(map(text_of, values)) + "\n",
    "print": lambda *values: "".join(map(text_of, values)),
    "join": lambda values, between: between.join(map(text_of, values)),
    "split": lambda value, between: value.split(between),
    "lower": lambda value: value.lower(),
    "upper": lambda value: value.upper(),
    "title": lambda value: value.title(),
    "truncate": lambda value, length: value[:length],
    "pad": lambda value, before, after: " " * before + value + " " * after,
    "not": lambda value: not truth(value),
    "and": lambda *values: next((value for value in values if not truth(value)), values[-1]),
    "or": lambda *values: next((value for value in values if truth(value)), values[-1]),
    "eq": lambda value, *others: any(value == other for other in others),
    "ne": lambda value, other: value != other,
    "lt": lambda value, other: value < other,
    "le": lambda value, other: value <= other,
    "gt": lambda value, other: value > other,
    "ge": lambda value, other: value >= other,
    "slice": lambda value, *at: value[slice(*at)],
}
