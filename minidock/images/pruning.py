"""Rubbish: which images nobody will miss.

An image is *dangling* when it has no name and nothing was made from it:
what is left when a name has moved on. ``prune`` removes those, and with
``--all`` every image that no container uses.

The traps. A nameless image that another was made from is no rubbish, it is
a step on the way that one may want to go back to. And the filters say what
to take (``until``, ``label``) or what to leave (``label!``).

**Interface:** :func:`rubbish`.

**See:** Engine API, "ImagePrune"; moby ``daemon/images/image_prune.go``.
"""

from collections.abc import Callable, Collection, Sequence

from minidock.errors import InvalidParameter
from minidock.images.image import Image
from minidock.images.lineage import Lineage
from minidock.images.listing import Filters, has_label, truth
from minidock.spec.timestamp import parse_moment

KNOWN = {"dangling", "label", "label!", "until"}


# %% Choosing
def rubbish(
    images: Sequence[Image],
    filters: Filters,
    lineage: Lineage,
    used_by: Callable[[str], Collection[str]],
) -> list[Image]:
    """The images to remove. Raises :class:`InvalidParameter` for a filter that makes no sense."""
    for name in set(filters) - KNOWN:
        raise InvalidParameter(f"invalid filter '{name}'")
    only_dangling = truth("dangling", filters.get("dangling", ["true"]))
    limit = moment(filters)
    return [
        one
        for one in images
        if not used_by(one.id)
        and not (only_dangling and (one.references or lineage.has_children(one.id)))
        and (limit is None or one.created / 1e9 < limit)
        and all(has_label(one, label) for label in filters.get("label", ()))
        and not any(has_label(one, label) for label in filters.get("label!", ()))
    ]


def moment(filters: Filters) -> float | None:
    """The filter ``until``: a moment, or a length of time before now."""
    values = filters.get("until", [])
    if len(values) > 1:
        raise InvalidParameter("more than one until filter specified")
    try:
        return parse_moment(values[0]) if values else None
    except ValueError:
        raise InvalidParameter(f"invalid value {values[0]!r} for filter until") from None
