"""Which images a client wants to see: the filters of ``docker images``.

The traps. A *pattern* is one of Go's ``path.Match``, in which a star stops
at a slash, not one of the shell. An image of several names is shown with
those that fit. And ``before`` and ``since`` name an image, by whose time of
creation the others are judged, not the time they came here.

**Interface:** :func:`select`, :func:`has_label`, :func:`truth`.

**See:** Engine API, "ImageList"; moby ``daemon/images/images.go``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from minidock.errors import InvalidParameter
from minidock.images.image import Image
from minidock.images.lineage import Lineage
from minidock.spec import reference

Filters = dict[str, list[str]]
Find = Callable[[str], Image]

KNOWN = {"dangling", "label", "before", "since", "reference"}


# %% Selecting
def select(images: Sequence[Image], filters: Filters, find: Find) -> list[Image]:
    """The images that fit all ``filters``, with the names that do.

    Raises :class:`InvalidParameter` for an unknown filter or a bad value, and
    what ``find`` raises for an image that is not there.
    """
    for name in set(filters) - KNOWN:
        raise InvalidParameter(f"invalid filter '{name}'")
    found = [*images]
    for wanted in filters.get("before", ()):
        limit = find(wanted).created
        found = [one for one in found if one.created < limit]
    for wanted in filters.get("since", ()):
        limit = find(wanted).created
        found = [one for one in found if one.created > limit]
    found = [
        one for one in found if all(has_label(one, label) for label in filters.get("label", ()))
    ]
    if "dangling" in filters:
        nameless = truth("dangling", filters["dangling"])
        lineage = Lineage(images)  # what something was made from is not dangling
        found = [
            one
            for one in found
            if nameless == (not one.references and not lineage.has_children(one.id))
        ]
    return _fitting(found, filters["reference"]) if "reference" in filters else found


def has_label(image: Image, label: str) -> bool:
    """``KEY``, or ``KEY=VALUE``."""
    key, equals, value = label.partition("=")
    labels = image.config.config.labels
    return key in labels and (not equals or labels[key] == value)


def truth(name: str, values: list[str]) -> bool:
    """A filter that is true or false."""
    words = {"1": True, "true": True, "0": False, "false": False}
    if len(values) != 1 or values[0].lower() not in words:
        raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
    return words[values[0].lower()]


# %% Names that fit a pattern
def _fitting(images: Sequence[Image], patterns: list[str]) -> list[Image]:
    compiled = [_pattern(one) for one in patterns]
    found = []
    for image in images:
        names = tuple(name for name in image.references if _fits(name, compiled))
        if names:
            found.append(replace(image, references=names))
    return found


def _fits(name: str, patterns: list[re.Pattern[str]]) -> bool:
    """With its tag or without, as people write it."""
    parsed = reference.parse(name)
    return any(
        one.fullmatch(parsed.familiar) or one.fullmatch(parsed.familiar_name) for one in patterns
    )


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Go's ``path.Match`` as a regular expression."""
    out, place = "", 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        if piece is None:
            raise InvalidParameter(f"invalid filter 'reference={text}': syntax error in pattern")
        word, place = piece.group(), piece.end()
        if word in _WILD:
            out += _WILD[word]
        else:  # a class means the same here; everything else means itself
            out += word if word[0] == "[" else re.escape(word.removeprefix("\\"))
    return re.compile(out)


_WILD = {"*": "[^/]*", "?": "[^/]"}
_PIECE = re.compile(r"\\.|\[\^?[^\]\\\[]+\]|[^\\\[]")
