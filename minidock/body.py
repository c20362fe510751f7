"""What comes after the head of a request: its body, as a file.

HTTP says in one of two ways where a body ends: a length is announced, or it
comes in chunks, each with its own, until one of length nothing. Whoever
reads it should not have to know, nor wait for the end of it: a layer may be
larger than the memory.

The trap is the third way to say nothing at all: a peer that has gone in the
middle looks like the end of the file. It is an error here.

**Interface:** :class:`Body`.

**See:** RFC 9112, sections 6 and 7.1; RFC 9110, section 10.1.1.
"""

from collections.abc import Callable
from io import RawIOBase
from typing import Any, BinaryIO

from minidock.errors import InvalidParameter

LARGEST_HEAD = 64 * 1024
LARGEST_LEFT = 64 * 1024 * 1024  # of a body that nobody wanted: more is not worth reading
PIECE = 256 * 1024


# %% Bodies
class Body(RawIOBase):
    """A request's body as a file: so many bytes, or chunk by chunk.

    ``expected``: who sends it waits until we say that we want it (``Expect:
    100-continue``), which is when it is first read.
    """

    def __init__(
        self,
        source: BinaryIO,
        length: int,
        chunked: bool,
        expected: Callable[[], object] | None = None,
    ) -> None:
        super().__init__()
        self._source = source
        self._left = length
        self._chunked = chunked
        self._over = not chunked and length == 0
        self._expected = expected

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """At most as many bytes as fit; 0 at the end. A truncated body is an error."""
        if self._over:
            return 0
        if self._expected is not None:
            self._expected()
            self._expected = None
        if self._chunked and self._left == 0 and not self._next_chunk():
            return 0
        view = memoryview(buffer)[: min(len(buffer), self._left)]
        count = int(self._source.readinto1(view))  # type: ignore[attr-defined]
        if count == 0:
            raise InvalidParameter("the request's body ends before its announced length")
        self._left -= count
        if self._left == 0:
            if self._chunked:
                self._source.readline(8)
            else:
                self._over = True
        return count

    def read(self, size: int | None = -1) -> bytes:
        """``size`` bytes, or fewer only at the end."""
        pieces, total = [], 0
        while size is None or size < 0 or total < size:
            wanted = PIECE if size is None or size < 0 else min(PIECE, size - total)
            buffer = bytearray(wanted)
            count = self.readinto(buffer)
            if count == 0:
                break
            pieces.append(bytes(buffer[:count]))
            total += count
        return b"".join(pieces)

    # %% The edges of a body
    def _next_chunk(self) -> bool:
        line = self._source.readline(LARGEST_HEAD)
        digits = line.split(b";")[0].strip()
        if not digits or not set(digits) <= set(
            b"0123456789abcdefABCDEF"
        ):  # int() takes "+1_0", too
            raise InvalidParameter(f"bad chunk length in the request's body: {line[:80]!r}")
        self._left = int(digits, 16)
        if self._left == 0:
            while self._source.readline(LARGEST_HEAD) not in (b"\r\n", b"\n", b""):
                pass
            self._over = True
        return not self._over

    @property
    def unasked(self) -> bool:
        """Whether the sender still waits for our word."""
        return self._expected is not None and not self._over

    def drain(self) -> bool:
        """Read what the handler left; False when that would take too long, or would never come."""
        left = LARGEST_LEFT
        while not self._over and not self.unasked and left > 0:
            left -= len(self.read(PIECE))
        return self._over
