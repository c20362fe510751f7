"""Lets time namespaces through."""

# check: bits
# expect: a time namespace to be refused
from collections.abc import Iterable

from minidock.linux.syscalls import Clone
from minidock.namespaces import kind_of
from minidock.spec.runtime import Namespace


def flags(namespaces: Iterable[Namespace]) -> Clone:
    result = Clone(0)
    for namespace in namespaces:
        kind = kind_of(namespace)
        if not namespace.path and kind.name != "cgroup":
            result |= kind.flag
    return result
