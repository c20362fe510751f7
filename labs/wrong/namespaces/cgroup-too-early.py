"""Asks clone(2) for the cgroup namespace, too."""

# check: bits
# expect: no CLONE_NEWCGROUP
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
        if not namespace.path:
            result |= kind.flag
    return result
