"""Pulls and pushes, as the engine does them: one set of locks, and events.

**Interface:** :class:`Transfers`.

**See:** Engine API, "ImageCreate", "ImagePush", "DistributionInspect",
"SystemAuth".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minidock.engine.events import Events
from minidock.errors import InvalidParameter, MiniDockError
from minidock.images import Images
from minidock.registry.auth import Credentials
from minidock.registry.client import Repository, login
from minidock.registry.progress import Progress, Say
from minidock.registry.pull import Locks, Pull
from minidock.registry.push import Push
from minidock.registry.search import search
from minidock.registry.settings import Settings
from minidock.registry.transport import Cancel
from minidock.registry.words import about_pull, about_push
from minidock.spec import image as oci
from minidock.spec import platform as platforms
from minidock.spec.codec import decode
from minidock.spec.reference import Reference, parse

Body = dict[str, Any]


# %% Transfers
class Transfers:
    """What the engine does with registries; from many threads at once."""

    def __init__(self, images: Images, settings: Settings, bus: Events) -> None:
        self._images = images
        self._settings = settings
        self._bus = bus
        self._locks = Locks()

    @contextmanager
    def _repository(
        self, name: Reference, who: Credentials, acts: str, cancel: Cancel | None
    ) -> Iterator[Repository]:
        repository = Repository(self._settings, name.domain, name.path, who, acts, cancel)
        try:
            yield repository
        finally:
            repository.close()

    def pull(
        self, name: Reference, platform: str, who: Credentials, say: Say, cancel: Cancel
    ) -> None:
        """Pull one image; an error is in Docker's words."""
        wanted = platforms.parse(platform) if platform else None
        with self._repository(name, who, "pull", cancel) as repository:
            try:
                repository.open()
                image = Pull(self._images, repository, Progress(say), self._locks).run(name, wanted)
            except MiniDockError as error:
                raise about_pull(error, name) from error
        self._bus.publish("image", "pull", name.familiar, name=name.familiar_name, image=image)

    def pull_all(self, name: Reference, who: Credentials, say: Say, cancel: Cancel) -> None:
        """Pull all tags of a repository."""
        with self._repository(name, who, "pull", cancel) as repository:
            try:
                repository.open()
                tags = repository.tags()
            except MiniDockError as error:
                raise about_pull(error, name) from error
        newer = False

        def hear(message: Body) -> None:
            """One status for all of them, at the end."""
            nonlocal newer
            status = str(message.get("status", ""))
            newer = newer or status.startswith("Status: Downloaded")
            if not status.startswith("Status: "):
                say(message)

        for tag in tags:
            self.pull(Reference(name.domain, name.path, tag), "", who, hear, cancel)
        words = "Downloaded newer image for" if newer else "Image is up to date for"
        say({"status": f"Status: {words} {name.familiar_name}"})

    def push(self, name: Reference, tag: str, who: Credentials, say: Say, cancel: Cancel) -> None:
        """Push one tag, or all (an empty one)."""
        if name.digest:
            raise InvalidParameter("cannot push a digest reference")
        with self._repository(name, who, "pull,push", cancel) as repository:
            try:
                Push(self._images, repository, Progress(say), self._locks).run(name, tag)
            except MiniDockError as error:
                raise about_push(error) from error
        self._bus.publish("image", "push", name.familiar, name=name.familiar_name)

    # %% Asking
    def distribution(self, text: str, who: Credentials) -> Body:
        """The API's ``DistributionInspect``: what a name leads to, without fetching it."""
        name = parse(text)
        with self._repository(name, who, "pull", None) as repository:
            try:
                repository.open()
                content = repository.manifest(name.digest or name.tag)
                found = _platforms(repository, content.data)
            except MiniDockError as error:
                raise about_pull(error, name) from error
        size, kind = len(content.data), content.media_type
        descriptor = {"mediaType": kind, "digest": content.digest, "size": size}
        return {"Descriptor": descriptor, "Platforms": found}

    def search(
        self, term: str, limit: int, filters: dict[str, list[str]], who: Credentials
    ) -> list[Body]:
        """What the registry that ``term`` names has of it."""
        return search(self._settings, term, limit, filters, who)

    def login(self, body: Body) -> Body:
        """The API's ``POST /auth``."""
        return dict(login(self._settings, Credentials.from_json(body)))


def _platforms(repository: Repository, data: bytes) -> list[Body]:
    """Those of an index's entries, or the one of a single image's configuration."""
    from minidock.images.store import entry_of

    value = entry_of(data)
    if isinstance(value.get("manifests"), list):
        return [dict(one["platform"]) for one in value["manifests"] if one.get("platform")]
    manifest = decode(oci.Manifest, value)
    config = entry_of(repository.small_blob(manifest.config.digest))
    known = {name: config.get(name) for name in ("architecture", "os", "variant")}
    return [{name: text for name, text in known.items() if text}]
