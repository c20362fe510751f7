"""An assembler for the kernel's first machine: classic BPF.

Long before eBPF there was a machine for looking at packets: one register
(A), a few words of memory, jumps that go only forward, so that every program
ends. tcpdump compiles to it, and seccomp took it over: the "packet" is the
number and the arguments of a system call, the verdict is what it returns.

An instruction is eight bytes: a code, the distances to jump if a test is
true and if it is false, and a constant. The traps are those distances: they
have eight bits, while a program may have 4,096 instructions; and a word has
32 bits, while arguments have 64.

Because jumps go forward, a program is easiest written *from its end*: what
one jumps to is there already, and its distance is known. Where it is too
far, a copy of the verdict, or an unconditional jump (which has 32 bits), is
put in reach.

**Interface:** :class:`Assembler`, :data:`MAX_INSTRUCTIONS`.

**See:** Linux Documentation/networking/filter.rst, <linux/bpf_common.h>;
McCanne and Jacobson, "The BSD Packet Filter" (1993).
"""

import struct

from minidock.errors import InvalidParameter

# %% The few instructions that a filter needs
LOAD, AND, JUMP, RETURN = 0x20, 0x54, 0x05, 0x06
IF_EQUAL, IF_GREATER, IF_GREATER_OR_EQUAL = 0x15, 0x25, 0x35

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
REACH = 253  # an eight-bit distance, with room for one copy put in between

Instruction = tuple[int, int, int, int]  # code, distance if true, distance if false, constant


# %% Writing backwards
class Assembler:
    """A program that grows at its beginning. A *label* is a place, counted from the end."""

    def __init__(self) -> None:
        self._code: list[Instruction] = []
        self._returns: dict[int, int] = {}

    def program(self) -> bytes:
        """The program as seccomp(2) wants it. Raises :class:`InvalidParameter` if it is too long."""
        if len(self._code) > MAX_INSTRUCTIONS:
            raise InvalidParameter(
                f"the filter has {len(self._code)} instructions; the kernel takes {MAX_INSTRUCTIONS}"
            )
        return b"".join(struct.pack("=HBBI", *one) for one in reversed(self._code))

    def _put(self, *instruction: int) -> int:
        code, true, false, constant = instruction
        self._code.append((code, true, false, constant))
        return len(self._code) - 1

    def ret(self, verdict: int) -> int:
        """A place that returns ``verdict``; one that is in reach is used again."""
        label = self._returns.get(verdict)
        if label is None or len(self._code) - label > REACH // 2:
            label = self._returns[verdict] = self._put(RETURN, 0, 0, verdict)
        return label

    def branch(self, code: int, constant: int, true: int, false: int) -> int:
        """Compare A with ``constant``, and go to ``true`` or ``false``."""
        if true == false:
            return true
        true, false = self._near(true), self._near(false)
        here = len(self._code)
        return self._put(code, here - 1 - true, here - 1 - false, constant)

    def load(self, offset: int, then: int, mask: int = 0xFFFFFFFF) -> int:
        """Load the word at ``offset``, keep the bits of ``mask``, and go to ``then``."""
        if then != len(self._code) - 1:
            self._put(JUMP, 0, 0, len(self._code) - 1 - then)
        if mask != 0xFFFFFFFF:
            self._put(AND, 0, 0, mask)
        return self._put(LOAD, 0, 0, offset)

    def _near(self, label: int) -> int:
        """The place ``label``, or one in reach that comes to the same."""
        if len(self._code) - label <= REACH:
            return label
        code, _, _, verdict = self._code[label]
        if code == RETURN:
            return self.ret(verdict)
        return self._put(JUMP, 0, 0, len(self._code) - 1 - label)
