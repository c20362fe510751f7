"""Hooks: programs that run at six moments of a container's life.

A hook is how others take part: it connects a network, registers the
container, loads a driver's libraries. It gets the container's state as JSON
on its standard input, and what it returns decides whether the container
goes on.

====================  ==========================  ==================  ================
hook                  when                        where               if it fails
====================  ==========================  ==================  ================
prestart              namespaces and mounts made  the runtime's       container is over
createRuntime         the same, after prestart    the runtime's       container is over
createContainer       just before the pivot       the container's     container is over
startContainer        just before the program     the container's     container is over
poststart             the program runs            the runtime's       container is over
poststop              after delete                the runtime's       said, no more
====================  ==========================  ==================  ================

The traps. A hook that hangs would hang the engine, hence the time limit: it
is killed, with all that it started. And a hook that does not read its input
is no error, though the pipe breaks.

**Interface:** :func:`run`, :class:`HookFailed`.

**See:** OCI runtime specification, config.md, "POSIX-platform Hooks" and
runtime.md, "Lifecycle".
"""

import json
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from minidock import steps
from minidock.errors import Unavailable
from minidock.linux.syscalls import execute_filtered, raw
from minidock.spec.runtime import Hook

if TYPE_CHECKING:
    from minidock.seccomp import Filter

CLOSE_RANGE_CLOEXEC = 4


# %% Running them
class HookFailed(Unavailable):
    """A hook said no, or took too long."""


def run(
    kind: str, hooks: Sequence[Hook], state: Mapping[str, Any], filtered: "Filter | None" = None
) -> None:
    """Run ``hooks`` one after the other, each with ``state`` on its input; raises at the first that fails.

    ``filtered`` is the container's filter, for those that run in its program's place.
    """
    for number, hook in enumerate(hooks):
        with steps.step(f"run a {kind} hook", call="execve(2)", chapter="runtime", path=hook.path):
            _run(f"error running {kind} hook #{number}", hook, state, filtered)


def _run(what: str, hook: Hook, state: Mapping[str, Any], filtered: "Filter | None") -> None:
    ours_in, theirs_out = os.pipe2(os.O_CLOEXEC)
    theirs_in, ours_out = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(hook, theirs_in, theirs_out, filtered)
    os.close(theirs_in)
    os.close(theirs_out)
    deadline = None if hook.timeout is None else time.monotonic() + hook.timeout
    said = _converse(ours_in, ours_out, json.dumps(state).encode(), deadline)
    if said is None:
        _kill(pid)
        raise HookFailed(f"{what}: {hook.path} did not end within {hook.timeout} s")
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        word = (signal.strsignal(-code) or str(-code)).lower() if code < 0 else ""
        ended = f"signal: {word}" if word else f"exit status {code}"
        text = said.decode(errors="replace").strip()
        raise HookFailed(f"{what}: {ended}, stdout: , stderr: {text}")


def _kill(pid: int) -> None:
    """The hook leads a process group of its own, so that its children die, too."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


# %% Talking to one
def _converse(source: int, sink: int, text: bytes, deadline: float | None) -> bytes | None:
    """Write ``text``, and read all that comes until both ends are closed; None when time is up."""
    os.set_blocking(sink, False)
    said = b""
    waiting = [sink] if text else []
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            readable, writable, _ = select.select([source], waiting, [], left)
            if not readable and not writable:
                return None
            if writable:
                text = _write_some(sink, text)
                if not text:
                    os.close(sink)
                    waiting = []
            if readable:
                piece = os.read(source, 65536)
                if not piece:
                    return said
                said += piece
    finally:
        os.close(source)
        if waiting:
            os.close(sink)


def _write_some(sink: int, text: bytes) -> bytes:
    try:
        return text[os.write(sink, text) :]
    except BrokenPipeError:  # it does not want to know
        return b""


# %% The child
def _become(hook: Hook, stdin: int, output: int, filtered: "Filter | None") -> NoReturn:
    """Exactly the environment of the configuration: what is not there is empty, not ours.

    And none of the files that our caller has left open for us.
    """
    try:
        os.setpgid(0, 0)
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        environment = dict(entry.partition("=")[::2] for entry in hook.env or ())
        arguments = list(hook.args) or [hook.path]
        raw("close_range", 3, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC)
        if filtered is None:
            os.execve(hook.path, arguments, environment)
        execute_filtered(
            hook.path,
            arguments,
            list(hook.env or ()),
            filtered.code,
            filtered.flags,
            filtered.announce,
        )
    except OSError as error:
        os.write(2, f"{hook.path}: {error.strerror}".encode())
    finally:
        os._exit(127)
