"""Images: a stack of layers, a configuration, and any number of names.

Which there are, the :mod:`.catalog` knows; here is what can be done with
them: show, load, save, commit, import, remove.

The traps. Removing an image means taking away a name; only the last one
takes the image, and a container made from it forbids even that. What nobody
has given a name may still be a step on the way to something that has one:
then it is no rubbish. And a name without a tag means the tag ``latest``,
but to save it means all tags.

**Interface:** :class:`Images`, :class:`Image`.

**See:** OCI image specification; Engine API, "Image"; moby
``daemon/images/image_delete.go`` for the words.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from minidock import steps
from minidock.errors import Conflict, InvalidParameter
from minidock.images import image as views
from minidock.images import load as loader
from minidock.images.catalog import Catalog
from minidock.images.changes import apply
from minidock.images.commit import NewLayer, Note, compose, pack_layer
from minidock.images.image import Image
from minidock.images.layers import diff_id_of, keep_layer, temporary
from minidock.images.listing import Filters, select
from minidock.images.pruning import rubbish
from minidock.images.save import Chosen, save
from minidock.spec import image as oci
from minidock.spec import platform as platforms
from minidock.spec import reference
from minidock.spec.image import Execution

Body = dict[str, Any]
Users = Callable[[str], Sequence[str]]  # the containers that were made from an image


# %% Showing them
class Images(Catalog):
    """The images of an engine; safe to use from many threads."""

    def listed(
        self,
        filters: Filters,
        *,
        everything: bool = False,
        shared: bool = False,
        containers: Callable[[str], int] | None = None,
    ) -> "Sequence[Body]":
        """The API's list of ``ImageSummary``; numbers that take time only where they are asked for.

        Nameless steps on the way to others are shown only with ``everything``.
        """
        known, lineage = self.list(), self.lineage
        owners: dict[str, int] = {}
        for image in known:
            for chain in set(image.chains):
                owners[chain] = owners.get(chain, 0) + 1
        return [
            views.summary(
                image,
                lineage.parent(image.id),
                _shared(image, owners) if shared else -1,
                containers(image.id) if containers else -1,
            )
            for image in select(known, filters, self.get)
            if everything or image.references or not lineage.has_children(image.id)
        ]

    def inspect(self, name: str) -> Body:
        """The API's ``ImageInspect``."""
        image = self.get(name)
        driver = "overlay2" if self.driver.name == "overlay" else self.driver.name
        parent = self.lineage.parent(image.id)
        return views.inspect(image, driver, self._places(image), parent)

    def _places(self, image: Image) -> Mapping[str, str] | None:
        """Where the layers of overlay lie, in Docker's words for it; a whole tree needs none."""
        if self.driver.name != "overlay" or not image.chains:
            return None
        *below, top = [str(self.driver.root / self.driver.directory(one)) for one in image.chains]
        lower = {"LowerDir": ":".join(reversed(below))} if below else {}
        return {**lower, "UpperDir": top}

    def history(self, name: str) -> "Sequence[Body]":
        """The API's ``ImageHistory``."""
        image = self.get(name)
        found = ((n, self.find(key)) for n, key in self.lineage.ancestors(image.id).items())
        return views.history(image, {number: one for number, one in found if one})

    # %% Loading and saving
    def load(
        self, archive: BinaryIO, say: Callable[[Body], None], *, quiet: bool = False
    ) -> "Sequence[str]":
        """Load the images of an archive; returns their names, or ids where they have none."""
        with self.adding():
            images = loader.load(archive, self.store, self.driver, None if quiet else say)
            return [shown for one in images for shown in self._name(one, say)]

    def _name(self, loaded: loader.Loaded, say: Callable[[Body], None]) -> Iterator[str]:
        """Give an image its names; one that was here already keeps the manifest that it has."""
        with self._lock:
            self._refresh()
            known = self._known.get(loaded.id)
            manifest = self._descriptor(known) if known else loaded.manifest
        if not loaded.names:
            self.store.name(manifest, None)
            say({"stream": f"Loaded image ID: {loaded.id}\n"})
            yield loaded.id
        for name in loaded.names:
            shown = reference.parse(name).familiar
            with self._lock:
                self._refresh()
                there = self._manifests.get(self._names.get(name, ""))
                before = there.id if there else loaded.id
                self.store.name(manifest, name)
            if before != loaded.id:
                say(
                    {
                        "stream": f"The image {shown} already exists, renaming the old one with ID"
                        f" {before} to empty string\n"
                    }
                )
            say({"stream": f"Loaded image: {shown}\n"})
            yield shown

    def chosen(self, names: Sequence[str]) -> "Sequence[Chosen]":
        """What ``save`` of these names means: an id goes without names, a bare name with all tags."""
        found: dict[str, Chosen] = {}
        for name in names:
            image_names = self._tags(name)
            for image, full in image_names:
                before = found[image.id].names if image.id in found else ()
                new = (full,) if full and full not in before else ()
                found[image.id] = Chosen(image, (*before, *new))
        return [*found.values()]

    def _tags(self, name: str) -> "Sequence[tuple[Image, str]]":
        if ":" not in name.rpartition("/")[2] and "@" not in name:
            tags = [*self._all_tags(name)]
            if tags:
                return tags
        image = self.get(name)
        by_name = self._by_name(name) is not None and not reference.parse(name).digest
        return [(image, str(reference.parse(name)) if by_name else "")]

    def _all_tags(self, name: str) -> Iterator[tuple[Image, str]]:
        with suppress(InvalidParameter):  # it may be an id, and no name at all
            wanted = reference.parse(name).name
            for full, image in self.named():
                if "@" not in full and reference.parse(full).name == wanted:
                    yield image, full

    def save(self, chosen: "Sequence[Chosen]", out: BinaryIO) -> None:
        """Write the archive; what is in it stays for as long as that takes."""
        with self.adding():
            save(chosen, self.store, out)

    # %% New ones
    def commit(
        self,
        base: Image,
        pack: Callable[[BinaryIO], object],
        run: Execution,
        note: Note,
        name: str | None,
    ) -> str:
        """Make an image of ``base`` and the layer that ``pack`` writes; returns its id."""
        wanted = str(_taggable(name)) if name else None
        with self.adding():
            below = self.ensure_layers(base)
            with pack_layer(self.store, pack) as (path, diff_id):
                layer = None
                if diff_id:
                    chain = oci.chain_ids([*base.config.rootfs.diff_ids, diff_id])[-1]
                    parent = below[-1] if below else None
                    blob = keep_layer(path, diff_id, chain, parent, self.store, self.driver)
                    layer = NewLayer(diff_id, blob)
            return self._publish(base, layer, run, note, platforms.here(), wanted)

    def import_rootfs(
        self,
        archive: BinaryIO,
        name: str | None,
        changes: Sequence[str],
        message: str,
        platform: str = "",
    ) -> str:
        """Make an image with one layer from a tar of a root file system; returns its id."""
        wanted = str(_taggable(name)) if name else None
        run, note = apply(changes), Note(comment=message or "Imported from -")
        on = platforms.parse(platform) if platform else platforms.here()
        with self.adding():
            with temporary(self.store, archive) as path:
                diff_id = diff_id_of(path)
                blob = keep_layer(path, diff_id, diff_id, None, self.store, self.driver)
            return self._publish(None, NewLayer(diff_id, blob), run, note, on, wanted)

    def _publish(
        self,
        base: Image | None,
        layer: NewLayer | None,
        run: Execution,
        note: Note,
        on: platforms.Platform,
        name: str | None,
    ) -> str:
        manifest, image_id = compose(self.store, base, layer, run, note, on)
        with (
            steps.step("name the image", call="rename(2)", chapter="images", name=name or ""),
            self._lock,
        ):
            self.store.name(manifest, name)
        return image_id

    # %% Removing
    def remove(
        self, name: str, *, force: bool = False, prune: bool = True, used_by: Users
    ) -> "Sequence[Body]":
        """Take a name away; with the last of them the image. Refused while a container is made from it.

        ``prune``: its nameless ancestors go, too, unless somebody needs them.
        """
        with self._lock:
            image = self.get(name)
            by_name = self._by_name(name) is not None
            users = used_by(image.id)
            if by_name and (names := image.losing(name)) != set(image.references):
                return self._untag(sorted(names))
            short = users[0][:12] if users else ""
            if users and not force:
                _refuse(name, image, short, by_name)
            if not by_name and not image.has_one_name and not force:
                raise Conflict(
                    f"conflict: unable to delete {image.id[7:19]} (must be forced) - image is"
                    " referenced in multiple repositories"
                )
            if not by_name and self.lineage.has_children(image.id):
                raise Conflict(
                    f"conflict: unable to delete {image.id[7:19]} (cannot be forced) - image has"
                    " dependent child images"
                )
            removed = self._untag(image.references)
            if users or self.lineage.has_children(image.id):
                return removed
            with steps.step(
                "remove the image", call="unlink(2)", chapter="images", id=image.id[:19]
            ):
                return [*removed, *self._delete(image, prune, used_by)]

    def _untag(self, names: Sequence[str]) -> "Sequence[Body]":
        self.store.unname(names)
        return [{"Untagged": reference.parse(name).familiar} for name in names]

    def _delete(self, image: Image, prune: bool, used_by: Users) -> "Sequence[Body]":
        """The image, then those that only led to it."""
        parent = self.lineage.parent(image.id)
        ours = [key for key, one in self._manifests.items() if one.id == image.id]
        self.store.forget(ours)
        for key in ours:  # one that was cut off when it had its name already
            self.leases.give_back(key)
        swept = self._sweep()
        gone = [chain for chain in reversed(image.chains) if chain in swept]
        deleted = [{"Deleted": key} for key in (image.id, *gone)]
        if not prune or not parent:
            return deleted
        above = self.get(parent)
        if above.references or self.lineage.has_children(parent) or used_by(parent):
            return deleted
        return [*deleted, *self._delete(above, prune, used_by)]

    def prune(self, filters: Filters, used_by: Users) -> Body:
        """The API's ``ImagePrune``: remove what nobody will miss; says what, and how much it was."""
        with self._lock:
            before, removed = self._trees(), list[Body]()
            for image in rubbish(self.list(), filters, self.lineage, used_by):
                if self._by_id(image.id):  # not gone already, with one that came of it
                    removed += self._untag(image.references)
                    if not self.lineage.has_children(image.id):
                        removed += self._delete(image, True, used_by)
            return {"ImagesDeleted": removed or None, "SpaceReclaimed": before - self._trees()}

    def layers_size(self) -> int:
        """The bytes of all layers, each counted once."""
        return self._trees()


# %% Words and numbers
def _shared(image: Image, owners: Mapping[str, int]) -> int:
    """The bytes of the layers that other images have, too."""
    pairs = zip(image.chains, image.sizes, strict=True)
    return sum(size for chain, size in pairs if owners[chain] > 1)


def _refuse(name: str, image: Image, user: str, by_name: bool) -> None:
    if by_name:
        raise Conflict(
            f'conflict: unable to remove repository reference "{name}" (must force) - container'
            f" {user} is using its referenced image {image.id[7:19]}"
        )
    raise Conflict(
        f"conflict: unable to delete {image.id[7:19]} (must be forced) - image is being used by"
        f" container {user}"
    )


def _taggable(name: str) -> reference.Reference:
    """A name to give. Raises :class:`InvalidParameter` for a digest, which is nobody's to give."""
    wanted = reference.parse(name)
    if wanted.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    return wanted
