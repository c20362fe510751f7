"""Mounts that only the host can open.

Root of a user namespace is nobody in the host's directories: what lies
below a ``0700`` directory it cannot even name, so that its mounts would
fail. And an *idmapped* mount, which shows files as owned by somebody else,
may only be made by who has rights over the file system itself. So before
there is a container, the runtime opens such mounts as files, and the child
inherits them.

The trap: id maps live in a user namespace, and the kernel wants one that
somebody has made. A child that does nothing but wait makes it for us.

**Interface:** :func:`open_all`.

**See:** mount_setattr(2) MOUNT_ATTR_IDMAP, open_tree(2); OCI runtime
specification, config.md, "POSIX-platform Mounts".
"""

import os
import signal
from collections.abc import Sequence

from minidock import namespaces, steps
from minidock.errors import InvalidParameter
from minidock.linux import syscalls
from minidock.linux.mountapi import Attribute, set_attributes
from minidock.linux.syscalls import Clone, Mount
from minidock.rootfs.mounts import open_source
from minidock.rootfs.options import Options
from minidock.spec import runtime as oci


# %% Opening what needs it
def open_all(spec: oci.Spec) -> dict[int, int]:
    """Open mounts by their place in ``spec.mounts``; the caller closes them."""
    in_user_namespace = namespaces.has(spec.linux.namespaces, "user")
    trees: dict[int, int] = {}
    for number, entry in enumerate(spec.mounts):
        options = Options(entry.options)
        mapped = bool(options.idmap or entry.uid_mappings)
        if not (mapped or (in_user_namespace and _is_bind(entry, options))):
            continue
        if not _is_bind(entry, options):
            raise InvalidParameter(f"mount {entry.destination}: only bind mounts can be idmapped")
        if os.geteuid() != 0 and not mapped:
            continue  # what we may not do out here, the child may in its own namespaces
        with steps.step(
            f"open {entry.source}", call="open_tree(2)", chapter="rootfs", idmap=mapped
        ) as step:
            trees[number] = tree = open_source(entry.source, options)
            step.undo(_close, tree)
            if mapped:
                _map(tree, spec, entry, options)
    return trees


def _is_bind(entry: oci.Mount, options: Options) -> bool:
    return entry.type == "bind" or bool(options.flags & Mount.BIND)


def _close(tree: int) -> None:
    try:
        os.close(tree)
    except OSError:
        return  # it had been handed on


# %% Id maps
def _map(tree: int, spec: oci.Spec, entry: oci.Mount, options: Options) -> None:
    """Show the files of ``tree`` through the mount's own maps, or through the container's."""
    userns = _user_namespace(spec, entry)
    try:
        set_attributes(tree, Attribute.IDMAP, recursive=options.idmap == "ridmap", userns=userns)
    finally:
        os.close(userns)


def _user_namespace(spec: oci.Spec, entry: oci.Mount) -> int:
    """An open user namespace with the maps that the mount is to have."""
    if entry.uid_mappings:
        return make_user_namespace(entry.uid_mappings, entry.gid_mappings)
    for namespace in spec.linux.namespaces:
        if namespace.type == "user" and namespace.path:
            return os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    return make_user_namespace(spec.linux.uid_mappings, spec.linux.gid_mappings)


def make_user_namespace(uids: Sequence[oci.IDMapping], gids: Sequence[oci.IDMapping]) -> int:
    """A user namespace with nobody in it, as an open file; it is there as long as that is."""
    pid = syscalls.clone(Clone.NEWUSER)
    if pid == 0:
        while True:
            signal.pause()
    try:
        namespaces.write_id_maps(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
