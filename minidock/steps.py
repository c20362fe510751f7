"""Steps: one mechanism that explains, undoes, breaks and times.

Starting a container is some thirty acts on the kernel and on the disk. Any
of them can fail, and then the acts before it must be taken back: the mount
unmounted, the address given back, the cgroup removed. Every act goes through
one small primitive::

    with steps.transaction():
        with steps.step("mount the layers", call="mount(2) overlay", chapter="unionfs") as step:
            mount("overlay", target, ...)
            step.undo(unmount, target)

and from that one line come four things:

1. **Explain**: whoever listens (:func:`listening`) receives a :class:`Record`
   of the step, with its call, its chapter and the time it took. This is what
   ``minidock run --explain`` prints.
2. **Undo**: when the transaction is left by an exception, the undos run, the
   newest first.
3. **Faults**: a :class:`Fault` makes the step of a given title fail, or kills
   the process there. The tests do this for every step of ``minidock run``.
4. **Profile**: the records say where the time goes.

The trap: a step crosses processes (daemon, monitor, container init). What
travels between them is :func:`export`, a small dictionary; what comes back
is records, which :func:`relay` hands to the listener here.

When nobody listens and no fault is set, a step costs two look-ups of a
context variable.

**Interface:** :func:`step`, :func:`transaction`, :func:`listening`,
:func:`export`, :func:`adopt`, :func:`relay`.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

from minidock.errors import MiniDockError


# %% What a listener receives
@dataclass(frozen=True, slots=True)
class Record:
    """One step that has happened.

    ``seconds`` is wall time; ``process`` names who did it (``daemon``,
    ``monitor``, ``init``); ``error`` is empty when the step succeeded.
    """

    title: str
    call: str = ""
    chapter: str = ""
    process: str = ""
    seconds: float = 0.0
    details: dict[str, str] = field(default_factory=dict)
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """The record as a JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Fault:
    """What the tests inject at the step ``title``: ``fail`` or ``kill`` (SIGKILL to oneself).

    It strikes when the step has done its act, so that the step's own undo is
    tried too; to the next step it looks like a failure at its start.
    """

    title: str
    how: str


class InjectedFault(MiniDockError):
    """A step failed because a test asked for it."""


# %% Who listens, in this thread of control
@dataclass(frozen=True, slots=True)
class Trace:
    """Where records go, which process makes them, and the fault to inject, if any."""

    listener: Callable[[Record], None] | None = None
    process: str = "daemon"
    fault: Fault | None = None


Undo = tuple[Callable[..., object], tuple[Any, ...]]

_trace: ContextVar[Trace | None] = ContextVar("trace", default=None)
_undos: ContextVar[list[Undo] | None] = ContextVar("undos", default=None)


@contextmanager
def listening(
    listener: Callable[[Record], None] | None,
    process: str = "daemon",
    fault: Fault | None = None,
) -> Iterator[None]:
    """Send the records of all steps in this block to ``listener``, and inject ``fault``."""
    token = _trace.set(Trace(listener, process, fault))
    try:
        yield
    finally:
        _trace.reset(token)


# %% The step
class step:  # noqa: N801 (reads as a statement: `with step(...)`)
    """One act on the kernel or on disk.

    ``title`` says what, in words a student would use, and is unique within
    one operation; ``call`` is the system call or file that does it;
    ``chapter`` is the chapter of the book that tells about it; ``details``
    are the arguments that matter.
    """

    __slots__ = ("_begun", "call", "chapter", "details", "title")

    def __init__(self, title: str, *, call: str = "", chapter: str = "", **details: object) -> None:
        self.title = title
        self.call = call
        self.chapter = chapter
        self.details = details
        self._begun = 0.0

    def undo(self, action: Callable[..., object], *arguments: Any) -> None:
        """Should a later step fail, call ``action(*arguments)``.

        Register it the moment the thing is acquired, not at the end of the
        step: what fails in between must be taken back too.
        """
        undos = _undos.get()
        if undos is not None:
            undos.append((action, arguments))

    def __enter__(self) -> "step":
        trace = _trace.get()
        if trace is not None:
            self._begun = time.perf_counter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        trace = _trace.get()
        if trace is None:
            return
        if trace.listener is not None:
            trace.listener(self._record(trace.process, error))
        fault = trace.fault
        if fault is not None and fault.title == self.title and error is None:
            if fault.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise InjectedFault(f"injected fault at step {self.title!r}")

    def _record(self, process: str, error: BaseException | None) -> Record:
        return Record(
            title=self.title,
            call=self.call,
            chapter=self.chapter,
            process=process,
            seconds=time.perf_counter() - self._begun,
            details={name: str(value) for name, value in self.details.items()},
            error="" if error is None else str(error) or type(error).__name__,
        )


# %% The transaction
@contextmanager
def transaction() -> Iterator[None]:
    """Steps that hold together: leave by an exception and their undos run, newest first.

    A transaction inside another hands its undos to the outer one when it
    succeeds, so that the outer one can still take everything back. An undo
    that fails does not stop the others; what it said is added to the
    exception as a note.
    """
    mine: list[Undo] = []
    token = _undos.set(mine)
    try:
        yield
    except BaseException as error:
        _run_undos(mine, error)
        raise
    finally:
        _undos.reset(token)
    outer = _undos.get()
    if outer is not None:
        outer.extend(mine)


def _run_undos(undos: list[Undo], error: BaseException) -> None:
    while undos:
        action, arguments = undos.pop()
        try:
            action(*arguments)
        except Exception as second:  # noqa: BLE001 (every undo gets its turn)
            error.add_note(f"while undoing: {second}")


# %% Across processes
def export() -> dict[str, Any]:
    """What another process needs to go on with this trace: give it to :func:`adopt` there."""
    trace = _trace.get()
    if trace is None:
        return {}
    fault = None if trace.fault is None else asdict(trace.fault)
    return {"listen": trace.listener is not None, "fault": fault}


@contextmanager
def adopt(
    exported: dict[str, Any], send: Callable[[dict[str, Any]], object], process: str
) -> Iterator[None]:
    """Go on with a trace from another process; records are given to ``send`` as JSON."""
    if not exported:
        yield
        return
    fault = exported.get("fault")

    def listener(record: Record) -> None:
        send(record.as_json())

    listens = listener if exported.get("listen") else None
    with listening(listens, process, Fault(**fault) if fault else None):
        yield


def relay(record: dict[str, Any]) -> None:
    """Hand a record that came from another process to the listener here, if there is one."""
    trace = _trace.get()
    if trace is not None and trace.listener is not None:
        trace.listener(Record(**record))
