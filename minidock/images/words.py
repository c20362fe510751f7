"""Words of a Dockerfile's line: blanks, quotes, variables.

Blanks part words, quotes keep them together, a backslash takes the meaning
of what follows, ``$NAME`` and ``${NAME:-otherwise}`` stand for a variable's
value: as in a shell, but no shell is asked, because there may be none.

The traps. Single quotes stop variables, double ones do not. A quote may
begin in the middle of a word (``name="two words"``). And there is an old
form with a blank instead of ``=``, in which all the rest is the value.

**Interface:** :func:`words`, :func:`expand`, :func:`assignments`.

**See:** Dockerfile reference, "Environment replacement"; buildkit
``frontend/dockerfile/shell/lex.go``.
"""

import re
from collections.abc import Iterator

from minidock.errors import InvalidParameter

Variables = dict[str, str]


# %% Words
_WORD = re.compile(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s\\'"]|\\$)+""")


def words(text: str) -> list[str]:
    """``text`` at its blanks; quotes and backslashes stay in the words. Raises for an open quote."""
    found, place = [], 0
    text = text.strip()
    while place < len(text):
        match = _WORD.match(text, place)
        if match is None:
            raise InvalidParameter(
                f"unexpected end of statement while looking for matching quote: {text}"
            )
        found.append(match.group())
        place = match.end()
        if place < len(text) and not text[place].isspace():
            raise InvalidParameter(
                f"unexpected end of statement while looking for matching quote: {text}"
            )
        place = len(text) - len(text[place:].lstrip())
    return found


# %% Variables, and quotes removed
_PIECE = re.compile(
    r"""'(?P<exact>[^']*)'|\\(?P<escaped>.)|"(?P<quoted>(?:\\.|[^"\\])*)"
    |\$(?:(?P<name>\w+)|\{(?P<braced>\w+)(?::(?P<how>[-+])(?P<other>[^}]*))?\})""",
    re.VERBOSE,
)


def expand(word: str, variables: Variables) -> str:
    """The word as it is meant: variables replaced, quotes and backslashes gone."""

    def piece(match: re.Match[str]) -> str:
        if match["exact"] is not None:
            return match["exact"]
        if match["escaped"] is not None:
            return match["escaped"]
        if match["quoted"] is not None:
            return _quoted(match["quoted"], variables)
        value = variables.get(match["name"] or match["braced"], "")
        if match["how"] == "-":
            return value or expand(match["other"], variables)
        if match["how"] == "+":
            return expand(match["other"], variables) if value else ""
        return value

    return _PIECE.sub(piece, word)


def _quoted(text: str, variables: Variables) -> str:
    """Within double quotes a backslash is special only before ``"``, ``$`` and itself."""
    pieces = re.split(r'(\\["$\\])', text)
    return "".join(
        one[1] if number % 2 else expand(one.replace("\\", "\\\\").replace("'", "\\'"), variables)
        for number, one in enumerate(pieces)
    )


# %% NAME=VALUE
def assignments(instruction: str, text: str, variables: Variables) -> Iterator[tuple[str, str]]:
    """``A=1 B="2 3"``, or the old form ``A all the rest``. Raises in Docker's words."""
    first, *rest = words(text)
    if "=" not in first:
        if not rest:
            raise InvalidParameter(f"{instruction} must have two arguments")
        value = text.strip()[len(first) :].strip()
        yield expand(first, variables), expand(value, variables)
        return
    for word in (first, *rest):
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidParameter(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        if not name:
            raise InvalidParameter(f"{instruction} names can not be blank")
        yield expand(name, variables), expand(value, variables)
