"""Values of the OCI and Docker specifications, as frozen dataclasses.

A field here has the name that the specification gives it, in Python's
spelling (``rootfsPropagation`` becomes ``rootfs_propagation``).

**Interface:** :mod:`~minidock.spec.codec` between JSON and dataclasses,
:mod:`~minidock.spec.runtime`, :mod:`~minidock.spec.image`,
:mod:`~minidock.spec.reference`.
"""
