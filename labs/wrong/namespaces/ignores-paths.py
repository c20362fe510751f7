"""Asks for every kind, also for namespaces that exist already."""

# check: existing
# expect: no bit for the network namespace at
from collections.abc import Iterable

from minidock.errors import NotSupported
from minidock.linux.syscalls import Clone
from minidock.namespaces import kind_of
from minidock.spec.runtime import Namespace


def flags(namespaces: Iterable[Namespace]) -> Clone:
    result = Clone(0)
    for namespace in namespaces:
        kind = kind_of(namespace)
        if kind.name == "time":
            raise NotSupported("time namespaces")
        if kind.name != "cgroup":
            result |= kind.flag
    return result
