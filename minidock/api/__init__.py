"""The Engine API: Docker's, over a unix socket.

:mod:`.server` is the HTTP, :mod:`.routes` the table of what can be asked,
:mod:`.prefix` the versions in which it can be,
:mod:`.containers` and its neighbours the handlers, :mod:`.status` the one
place where a kind of error becomes a status, :mod:`.trace` MiniDock's own
addition (who listens to steps), :mod:`.daemon` the process around it all.

**See:** Docker Engine API 1.47.
"""
