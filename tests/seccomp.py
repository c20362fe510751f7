"""For the tests of seccomp: the kernel's filter machine in thirty lines, and libseccomp as a second opinion."""

import ctypes
import errno
import os
import struct
import tempfile
from collections.abc import Sequence

from minidock.spec.seccomp import Seccomp

ALL = 2**64 - 1


# %% The machine
def data(number: int, token: int, arguments: Sequence[int] = ()) -> bytes:
    """``struct seccomp_data``."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    return struct.pack("=IIQ6Q", number & 0xFFFFFFFF, token, 0, *(one & ALL for one in padded))


def run(program: bytes, packet: bytes) -> int:
    """What ``program`` returns; a wrong instruction or a jump out of it raises."""
    code = list(struct.iter_unpack("=HBBI", program))
    at = register = steps = 0
    while True:
        operation, true, false, constant = code[at]
        at, steps = at + 1, steps + 1
        if operation == 0x20:
            (register,) = struct.unpack_from("=I", packet, constant)
        elif operation == 0x54:
            register &= constant
        elif operation == 0x05:
            at += constant
        elif operation == 0x06:
            return constant
        elif operation in (0x15, 0x25, 0x35, 0x45):
            holds = {
                0x15: register == constant,
                0x25: register > constant,
                0x35: register >= constant,
                0x45: bool(register & constant),
            }[operation]
            at += true if holds else false
        else:
            raise AssertionError(f"not an instruction that a filter may have: {operation:#x}")


# %% libseccomp
class _Compare(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


_OPERATORS = {name: 1 + place for place, name in enumerate("NE LT LE EQ GE GT MASKED_EQ".split())}
_TOKENS = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
}


def libseccomp(profile: Seccomp, verdicts: dict[str, int]) -> bytes:
    """The program that libseccomp makes of ``profile``; ``verdicts`` are its numbers of the actions."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(verdicts[profile.default_action]))
    try:
        for name in profile.architectures:
            added = library.seccomp_arch_add(context, _TOKENS[name])
            assert added in (0, -errno.EEXIST)  # our own architecture is always in it
        for entry in profile.syscalls:
            array = (_Compare * len(entry.args))(
                *(
                    _Compare(one.index, _OPERATORS[one.op[9:]], one.value, one.value_two)
                    for one in entry.args
                )
            )
            for name in entry.names:
                number = library.seccomp_syscall_resolve_name(name.encode())
                action = ctypes.c_uint32(verdicts[entry.action])
                length = ctypes.c_uint(len(entry.args))
                done = library.seccomp_rule_add_array(context, action, number, length, array)
                assert done == 0, (entry, done)
        with tempfile.TemporaryFile() as file:
            assert library.seccomp_export_bpf(context, file.fileno()) == 0
            return os.pread(file.fileno(), 1 << 20, 0)
    finally:
        library.seccomp_release(context)
