"""The runtime: from a bundle to a running container.

An OCI runtime takes a *bundle* (a root file system and a ``config.json``)
and makes a container of it in two acts: *create* builds everything but does
not run the program, *start* runs it. In between the caller can look at what
was made, connect streams, or change its mind.

The work is divided between two processes. The parent (:mod:`.container`)
makes the cgroup, clones the child into new namespaces, and writes what only
an outsider may write: the id maps, the child's place in the cgroup. The
child (:mod:`.init`) furnishes the namespaces from within: mounts, devices,
host name, identity. They talk over a socket pair (:mod:`.sync`) that closes
by itself when the child executes the program.

**Interface:** :func:`minidock.runtime.container.create`,
:func:`minidock.runtime.execute.execute`.

**See:** OCI runtime specification, runtime.md, "Lifecycle"; clone(2).
"""
