"""The storekeeper: what lies in the store, who needs it, and what can go.

Images know nothing of containers, containers nothing of each other; who
wants to throw something away must ask all of them. Here they are asked, and
here everybody is told what has happened to an image.

The traps. Layers are shared, so the sizes of images do not add up to what
the disk has lost; each layer counts once. And what is removed is counted by
looking before and after, not by what it was said to be worth.

**Interface:** :class:`Storekeeper`.

**See:** Engine API, "SystemDataUsage", "ImagePrune", "ContainerPrune"; moby
``daemon/disk_usage.go``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from minidock.engine import looking, views
from minidock.engine.container import Container
from minidock.engine.lifecycle import Lifecycle
from minidock.engine.roster import Roster
from minidock.errors import InvalidParameter
from minidock.images.listing import Filters
from minidock.images.pruning import moment
from minidock.images.save import Chosen
from minidock.spec.reference import parse
from minidock.spec.timestamp import parse_time

Body = dict[str, Any]
Bodies = list[Body]
Say = Callable[[Body], None]


# %% Who uses what
class Storekeeper:
    """Acts that need both images and containers, and news about images."""

    def __init__(self, lifecycle: Lifecycle, roster: Roster) -> None:
        self._lifecycle = lifecycle
        self._images = lifecycle.images
        self._roster = roster

    def used_by(self, image_id: str) -> Iterator[Container]:
        """The containers that were made from an image."""
        return (one for one in self._roster.all() if one.record["Image"] == image_id)

    def _users(self, image_id: str) -> list[str]:
        return [one.id for one in self.used_by(image_id)]

    def _tell(self, action: str, image_id: str, name: str = "") -> None:
        self._lifecycle.events.publish("image", action, image_id, name=name or image_id)

    # %% Acts on images
    def load(self, archive: BinaryIO, say: Say, quiet: bool) -> None:
        """``docker load``."""
        for name in self._images.load(archive, say, quiet=quiet):
            self._tell("load", self._images.get(name).id, name)

    def import_(
        self,
        archive: BinaryIO,
        name: str | None,
        changes: Sequence[str],
        message: str,
        platform: str,
    ) -> str:
        """``docker import``; returns the id."""
        made = self._images.import_rootfs(archive, name, changes, message, platform)
        self._tell("import", made, name or "")
        return made

    def save(self, chosen: Sequence[Chosen], out: BinaryIO) -> None:
        """``docker save``."""
        self._images.save(chosen, out)
        for one in chosen:
            self._tell("save", one.image.id, parse(one.names[0]).familiar if one.names else "")

    def tag(self, source: str, name: str) -> None:
        """``docker tag``."""
        self._images.tag(source, name)
        self._tell("tag", self._images.get(source).id, parse(name).familiar)

    def remove(self, name: str, *, force: bool, prune: bool) -> Bodies:
        """Untag it, and remove what then has no name; refused while a container is made from it."""
        image_id = self._images.get(name).id
        removed = self._images.remove(name, force=force, prune=prune, used_by=self._users)
        for entry in removed:
            self._tell("untag" if "Untagged" in entry else "delete", image_id, name)
        return [*removed]

    # %% Throwing away
    def prune_images(self, filters: Filters) -> Body:
        """The API's ``ImagePruneResponse``."""
        done = self._images.prune(filters, self._users)
        for entry in done["ImagesDeleted"] or ():
            for word, what in entry.items():
                self._tell("untag" if word == "Untagged" else "delete", what)
        self._pruned("image", done["SpaceReclaimed"])
        return done

    def prune_containers(self, filters: Filters) -> Body:
        """The API's ``ContainerPruneResponse``: those that do not run, and that the filters take."""
        for name in set(filters) - {"label", "label!", "until"}:
            raise InvalidParameter(f"invalid filter '{name}'")
        limit = moment(filters)
        limit = time.time() if limit is None else limit
        removed, space = [], 0
        for one in self._roster.all():
            if one.status in ("created", "exited") and _fits(one, filters, limit):
                space += looking.sizes(one, self._images, self._lifecycle.driver)["SizeRw"]
                self._lifecycle.remove(one, force=False)
                removed.append(one.id)
        self._pruned("container", space)
        return {"ContainersDeleted": removed or None, "SpaceReclaimed": space}

    def _pruned(self, kind: str, space: int) -> None:
        self._lifecycle.events.publish(kind, "prune", "", reclaimed=str(space))

    # %% How much there is
    def usage(self, kinds: Sequence[str]) -> Body:
        """The API's ``SystemDataUsage``; of ``kinds``, or of all."""
        for kind in set(kinds) - {"container", "image", "volume", "build-cache"}:
            raise InvalidParameter(f"unknown object type: {kind}")
        wanted = kinds or ("container", "image")
        found: Body = {
            "LayersSize": 0,
            "Images": None,
            "Containers": None,
            "Volumes": [],
            "BuildCache": [],
            "BuilderSize": 0,
        }
        if "image" in wanted:
            found["LayersSize"] = self._images.layers_size()
            found["Images"] = self._images.listed(
                {}, shared=True, containers=lambda key: len(self._users(key))
            )
        if "container" in wanted:
            found["Containers"] = [self._summary(one) for one in self._roster.all()]
        return found

    def _summary(self, container: Container) -> Body:
        lifecycle = self._lifecycle
        known = views.summary(container, lifecycle.bridge)
        return {**known, **looking.sizes(container, self._images, lifecycle.driver)}


def _fits(container: Container, filters: Filters, limit: float) -> bool:
    labels = {name: values for name, values in filters.items() if name == "label"}
    without = [{"label": [value]} for value in filters.get("label!", ())]
    return (
        parse_time(container.record["Created"]) / 1e9 <= limit
        and views.matches(container, labels, [])
        and not any(views.matches(container, one, []) for one in without)
    )
