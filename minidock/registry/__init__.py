"""Registries: where images come from and where they go.

A registry is an HTTP server with two kinds of things in it: blobs, which
are called by their digest, and manifests, which are called by their digest
or by a tag. That is all of it; what is difficult lies around it: who may
(:mod:`.auth`), lines that break (:mod:`.transport`), and doing each thing
only once.

Our own end of it, from the bottom up: :mod:`.transport` sends a request,
whatever it takes; :mod:`.auth` finds the words that a registry wants to
hear; :mod:`.client` knows the requests; :mod:`.transfer` moves one blob;
:mod:`.pull` and :mod:`.push` move an image.

The other end, a registry of our own, from the bottom up: :mod:`.codes` are
the ways in which it refuses; :mod:`.storage` keeps blobs,
:mod:`.storage_uploads` those that are still arriving,
:mod:`.storage_manifests` manifests and tags; :mod:`.gc` throws away what
nobody needs; :mod:`.server_users` knows who may; the other ``server_``
modules are the API, and :mod:`.server` puts them together.

**Interface:** the modules.

**See:** OCI distribution specification 1.1.
"""
