"""A filter for devices, as a program for the kernel's own machine.

In cgroup version 2 there is no file that lists the devices a group may
open. Instead one attaches a BPF program: the kernel runs it whenever a
process of the group opens or makes a device node, and lets it pass if the
program returns 1. The program is a few dozen instructions for a machine
with eleven registers; here they are put together by hand.

The kernel hands the program the address of three numbers of 32 bits: the
access wanted (high half: 1 mknod, 2 read, 4 write) with the type (low half:
1 block, 2 character), the major and the minor number.

The trap is order. The rules are a story ("deny all, then allow these"), in
which the last word counts; a program takes the first branch that fits. So
the rules are written last to first.

**Interface:** :func:`device_filter`, :func:`attach_device_filter`.

**See:** bpf(2); Linux Documentation/bpf/standardization/instruction-set.rst;
``struct bpf_cgroup_dev_ctx`` in <linux/bpf.h>.
"""

import ctypes
import os
import struct
from collections.abc import Sequence

from minidock.linux.syscalls import raw
from minidock.spec.runtime import DeviceRule

# %% Instructions
R0, R1, R2, R3, R4, R5 = range(6)


def _instruction(code: int, target: int, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """Eight bytes: operation, two registers, a distance to jump, a constant."""
    return struct.pack("<BBhi", code, target | source << 4, offset, value)


def _load(target: int, base: int, offset: int) -> bytes:
    return _instruction(0x61, target, base, offset)


def _set(target: int, value: int) -> bytes:
    return _instruction(0xB7, target, value=value)


def _copy(target: int, source: int) -> bytes:
    return _instruction(0xBC, target, source)


def _and(target: int, value: int) -> bytes:
    return _instruction(0x54, target, value=value)


def _shift_right(target: int, bits: int) -> bytes:
    return _instruction(0x74, target, value=bits)


def _unless_equal(register: int, value: int, over: int) -> bytes:
    return _instruction(0x55, register, offset=over, value=value)


def _unless_same(register: int, other: int, over: int) -> bytes:
    return _instruction(0x5D, register, other, over)


def _if_equal(register: int, value: int, over: int) -> bytes:
    return _instruction(0x15, register, offset=over, value=value)


EXIT = _instruction(0x95, 0)


# %% From rules to a program
TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}


def device_filter(rules: Sequence[DeviceRule]) -> bytes:
    """The program for ``rules``, of which the last that fits decides; none fits: refused."""
    take_apart = (
        _load(R2, R1, 0)
        + _and(R2, 0xFFFF)  # the type
        + _load(R3, R1, 0)
        + _shift_right(R3, 16)  # the access wanted
        + _load(R4, R1, 4)  # major
        + _load(R5, R1, 8)  # minor
    )
    code = take_apart
    for rule in reversed(rules):
        code += _rule(rule)
        if rule.type == "a":  # fits all, and the kernel refuses code that is never reached
            return code
    return code + _set(R0, 0) + EXIT


def _rule(rule: DeviceRule) -> bytes:
    """Tests that jump over the verdict when they fail, then the verdict."""
    verdict = _set(R0, int(rule.allow)) + EXIT
    tests: list[tuple[int, int]] = []
    if rule.type in TYPES:
        tests.append((R2, TYPES[rule.type]))
    if rule.major is not None and rule.type != "a":
        tests.append((R4, rule.major))
    if rule.minor is not None and rule.type != "a":
        tests.append((R5, rule.minor))
    access = (
        sum(ACCESS[letter] for letter in set(rule.access or "rwm") & ACCESS.keys())
        if rule.type != "a"
        else 7
    )
    code = verdict
    if access != 7:
        code = _access_test(rule.allow, access, len(code) // 8) + code
    for register, value in reversed(tests):
        code = _unless_equal(register, value, len(code) // 8) + code
    return code


def _access_test(allow: bool, access: int, over: int) -> bytes:
    """Allowed is what asks for nothing more than the rule grants; denied what asks for any of it."""
    masked = _copy(R1, R3) + _and(R1, access)
    return masked + (_unless_same(R1, R3, over) if allow else _if_equal(R1, 0, over))


# %% Handing it to the kernel
BPF_PROG_LOAD, BPF_PROG_ATTACH = 5, 8
BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI = 15, 6, 2


def attach_device_filter(directory: str, program: bytes) -> None:
    """Load ``program`` and attach it to the cgroup at ``directory``; it lives as long as that does."""
    code = ctypes.create_string_buffer(program)
    licence = ctypes.create_string_buffer(b"MIT")
    load = struct.pack(
        "=IIQQIIQII",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0, 0, 0, 0, 0,
    )  # fmt: skip
    loaded = _bpf(BPF_PROG_LOAD, load, "load a device filter")
    try:
        cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            attach = struct.pack("=IIII", cgroup, loaded, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)
            _bpf(BPF_PROG_ATTACH, attach, f"attach a device filter to {directory}")
        finally:
            os.close(cgroup)
    finally:
        os.close(loaded)


def _bpf(command: int, attributes: bytes, what: str) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    size = ctypes.c_uint(len(attributes))
    return raw(
        "bpf",
        ctypes.c_int(command),
        ctypes.byref(buffer),
        size,
        call=f"bpf(2) to {what}",
    )
