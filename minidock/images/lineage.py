"""Lineage: which image came of which, as in the history of a repository.

A commit in git names its parent. An image does not: its configuration only
tells what was done, step by step, and which layers came of it. But that is
enough. An image whose whole story is the *beginning* of another's story is
an ancestor of it, and the one with the longest such story is the parent.
This holds after a pull, a load or a crash just as well, as nobody has to
remember anything.

The traps. A step may have left no layer (a changed ``CMD``), so the story
is both lists, read side by side. And an image may have no history at all:
then it has no ancestors.

**Interface:** :class:`Lineage`.

**See:** OCI image specification, config.md, "history"; git(1), "commit".
"""

import hashlib
import json
from collections.abc import Iterable, Mapping

from minidock.images.image import Image


# %% Stories
def _story(image: Image) -> list[str]:
    """For each step of the history a digest of all that happened up to it."""
    so_far, layers = hashlib.sha256(), iter(image.config.rootfs.diff_ids)
    told = []
    for entry in image.config.history:
        layer = "" if entry.get("empty_layer") else next(layers, "")
        so_far.update(json.dumps([entry, layer], sort_keys=True).encode())
        told.append(so_far.copy().hexdigest())
    return told


class Lineage:
    """Who descends from whom among ``images``."""

    def __init__(self, images: Iterable[Image]) -> None:
        stories = {image.id: _story(image) for image in images}
        ends = {story[-1]: key for key, story in stories.items() if story}
        self._ancestors: dict[str, dict[int, str]] = {
            key: {n: ends[one] for n, one in enumerate(story[:-1]) if one in ends}
            for key, story in stories.items()
        }
        self._parents = {key: found[max(found)] for key, found in self._ancestors.items() if found}
        self._with_children = set(self._parents.values())

    def ancestors(self, image_id: str) -> Mapping[int, str]:
        """By the step of the history that was their last: the ids of the images that are here."""
        return self._ancestors.get(image_id, {})

    def parent(self, image_id: str) -> str:
        """The id of the nearest ancestor, or nothing."""
        return self._parents.get(image_id, "")

    def has_children(self, image_id: str) -> bool:
        """Whether something here was made from it."""
        return image_id in self._with_children
