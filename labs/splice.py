"""Taking functions out of a source text, and putting others in.

A lab blanks functions of the engine; a wrong answer changes some; the
solution prints them. All three work on the text, by the line numbers that
:mod:`ast` gives, so that everything around stays as it is, comments and all.

The trap is drift: a function that the engine no longer has under that name
would silently not be blanked. So an unknown name is an error here, and the
tests blank every lab.

**Interface:** :func:`functions`, :func:`blank`, :func:`change`, :func:`text_of`.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


# %% Where a function stands
@dataclass(frozen=True, slots=True)
class Place:
    """Lines ``first`` to ``last``, decorators included; the body after the docstring begins at ``body``."""

    first: int
    body: int
    last: int
    indent: int


def functions(source: str) -> dict[str, Place]:
    """The functions of a module and the methods of its classes, as ``name`` and ``Class.name``."""
    return dict(_walk(ast.parse(source).body, ""))


def _walk(nodes: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Place]]:
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            yield from _walk(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            told = ast.get_docstring(node) is not None
            body = (node.body[0].end_lineno or 0) + 1 if told else node.body[0].lineno
            yield prefix + node.name, Place(first, body, node.end_lineno or 0, node.col_offset + 4)


def _find(source: str, name: str) -> Place:
    found = functions(source)
    if name not in found:
        raise LookupError(f"no function {name!r} (there are {', '.join(found)})")
    return found[name]


# %% Taking out, putting in
def text_of(source: str, name: str) -> str:
    """The lines of the function ``name``. Raises :class:`LookupError` if there is none."""
    place = _find(source, name)
    return "\n".join(source.splitlines()[place.first - 1 : place.last])


def blank(source: str, todos: Mapping[str, str]) -> str:
    """``source`` with the bodies of the functions in ``todos`` gone, and what is to be done in their place."""
    lines = source.splitlines()
    for name, place in _last_first(source, todos):
        pad = " " * place.indent
        comments = [f"{pad}# {line}".rstrip() for line in f"TODO: {todos[name]}".splitlines()]
        comments.append(f'{pad}raise NotImplementedError("{name} is yours to write")')
        lines[place.body - 1 : place.last] = comments
    return "\n".join(lines) + "\n"


def change(source: str, names: Iterable[str], old: str, new: str) -> str:
    """``source`` in which ``new`` stands for ``old`` in the functions ``names``.

    Raises :class:`LookupError` if none of them has ``old``.
    """
    lines, found = source.splitlines(), False
    for name, place in _last_first(source, names):
        text = text_of(source, name) + "\n"
        if old in text:
            lines[place.first - 1 : place.last] = text.replace(old, new).splitlines()
            found = True
    if not found:
        raise LookupError(f"no {old!r} in {', '.join(names)}")
    return "\n".join(lines) + "\n"


def _last_first(source: str, names: Iterable[str]) -> list[tuple[str, Place]]:
    """From the end of the text to its beginning, so that line numbers stay true."""
    places = [(name, _find(source, name)) for name in names]
    return sorted(places, key=lambda one: one[1].first, reverse=True)
