"""``--explain``: every step, as it happens.

**Interface:** :func:`explained`.

A second connection listens to the daemon for the steps of all requests that
carry our token; a thread prints them to stderr while the command goes on.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from minidock.client import Client
from minidock.errors import Unavailable
from minidock.lean import SHUT_RDWR, loads


# %% Listening to our own steps
@contextmanager
def explained(client: Client, wanted: bool = True) -> Iterator[None]:
    """Print the steps of all requests of ``client`` in this block."""
    if not wanted:
        yield
        return
    token = os.urandom(8).hex()
    listener = client.another()
    answer = listener.open("GET", f"/minidock/trace/{token}")
    client.headers["X-MiniDock-Trace"] = token
    over = threading.Event()

    def show() -> None:
        sys.stderr.write(f"{'ms':>8}  {'process':<8} {'step':<40} {'call':<28} chapter\n")
        with suppress(Unavailable):  # it is we who hang up, in the middle, when we have heard all
            for line in answer.lines():
                record = loads(line)
                if record["title"] == "":
                    break
                _print(record)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.wait(0.15)
        listener_socket = listener._connection
        if listener_socket is not None:
            listener_socket.shutdown(SHUT_RDWR)
        thread.join(1)


def _print(record: dict[str, object]) -> None:
    milliseconds = float(str(record["seconds"])) * 1000
    details = record["details"]
    words = " ".join(f"{k}={v}" for k, v in details.items()) if isinstance(details, dict) else ""
    error = f"  FAILED: {record['error']}" if record["error"] else ""
    sys.stderr.write(
        f"{milliseconds:8.2f}  {record['process']:<8} {record['title']:<40} {record['call']:<28}"
        f" {record['chapter']}{error}\n"
    )
    if words:
        sys.stderr.write(f"{'':19} {words[:100]}\n")
    sys.stderr.flush()
