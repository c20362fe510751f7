"""The roster: which containers there are, and who is called what.

A client may call a container by its id, by the beginning of its id, or by
its name.

The trap: two containers must never have the same name, even when two
clients ask at the same moment. So names are given out under one lock.

**Interface:** :class:`Roster`.
"""

import secrets
from threading import Lock

from minidock.engine.container import Container
from minidock.engine.names import check_name, random_name
from minidock.errors import Conflict, InvalidParameter, NotFound


# %% The roster
class Roster:
    """All containers of an engine, by id and by name."""

    def __init__(self) -> None:
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._lock = Lock()

    def all(self) -> list[Container]:
        """Everybody, in no order."""
        with self._lock:
            return list(self._containers.values())

    def add(self, container: Container) -> None:
        """From now on it can be found."""
        with self._lock:
            self._containers[container.id] = container
            self._names[container.name] = container.id

    def drop(self, container: Container) -> None:
        """It is gone, and its name is free."""
        with self._lock:
            self._containers.pop(container.id, None)
            if self._names.get(container.name) == container.id:
                del self._names[container.name]

    def find(self, reference: str) -> Container:
        """By id, by name, or by an unambiguous beginning of the id, in this order."""
        bare = reference.removeprefix("/")
        with self._lock:
            known = self._containers.get(bare) or self._containers.get(self._names.get(bare, ""))
            if known is not None:
                return known
            matches = [
                one for key, one in self._containers.items() if bare and key.startswith(bare)
            ]
        if len(matches) > 1:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {reference}")
        if not matches:
            raise NotFound(f"No such container: {reference}")
        return matches[0]

    # %% Names
    def take_name(self, container_id: str, name: str | None) -> str:
        """Give ``name``, or a random one, to ``container_id``."""
        if name:
            check_name(name.removeprefix("/"))
        with self._lock:
            chosen = name.removeprefix("/") if name else random_name()
            while not name and chosen in self._names:
                chosen = f"{random_name()}{secrets.randbelow(100)}"
            if chosen in self._names:
                raise Conflict(
                    f'Conflict. The container name "/{chosen}" is already in use by container'
                    f' "{self._names[chosen]}". You have to remove (or rename) that container to be'
                    " able to reuse that name."
                )
            self._names[chosen] = container_id
        return chosen

    def rename(self, container: Container, name: str) -> str:
        """Give it another name; returns the old one."""
        if not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        with container.lock:
            old = container.name
            if name.removeprefix("/") == old:
                raise InvalidParameter(
                    "Renaming a container with the same name as its current name"
                )
            try:
                container.record["Name"] = self.take_name(container.id, name)
            except (Conflict, InvalidParameter) as error:
                raise type(error)(f"Error when allocating new name: {error}") from None
            container.save()
            with self._lock:
                self._names.pop(old, None)
        return old
