"""The default profile: nothing forgotten, and who may do what."""

import errno

import pytest

from minidock import capabilities
from minidock.errors import InvalidParameter
from minidock.seccomp import names
from minidock.seccomp.compiler import ALLOW, ERRNO, compile_filter
from minidock.seccomp.default import ALLOWED, BY_CAPABILITY, DENIED, default_filter, default_profile
from minidock.seccomp.profile import parse, resolve, version
from tests.seccomp import data, run

BY_ARGUMENT = {"socket", "clone", "clone3", "personality"}
BY_MACHINE = {
    "ptrace",
    "arch_prctl",
    "modify_ldt",
    "breakpoint",
    "cacheflush",
    "set_tls",
    "get_tls",
}
BY_MACHINE |= {"riscv_flush_icache"}
OF_LATER_LIBRARIES = {"riscv_hwprobe", "uretprobe", "uprobe", "fchroot"}


def words(table: dict[str, str]) -> list[str]:
    return [name for text in table.values() for name in text.split()]


# %% A partition
def test_every_call_stands_in_just_one_table() -> None:
    known = {call for name in names.ARCHITECTURES for call in names.numbers(name)}
    allowed, denied, conditional = words(ALLOWED), words(DENIED), set(words(BY_CAPABILITY))
    assert len(allowed) == len(set(allowed)) and len(denied) == len(set(denied))
    assert not set(allowed) & set(denied) and not conditional & (set(allowed) | set(denied))
    decided = set(allowed) | set(denied) | conditional | BY_ARGUMENT | BY_MACHINE
    assert known - decided - OF_LATER_LIBRARIES == set()
    assert decided - known == set(), "a name that is misspelt"


# %% Verdicts
def verdict(call: str, *arguments: int, add: tuple[str, ...] = (), machine: str = "x86_64") -> int:
    chosen = capabilities.select(add, [])
    profile = resolve(default_profile(), chosen, machine, "6.1.0")
    one = names.architecture(names.native(machine)[0])
    return run(compile_filter(profile), data(names.numbers(one.name)[call], one.token, arguments))


EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
CLONE_NEWUSER, SIGCHLD = 0x10000000, 17


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_a_container_may_do(machine: str) -> None:
    assert verdict("openat", machine=machine) == ALLOW
    assert verdict("mount", machine=machine) == EPERM
    assert verdict("mount", add=("SYS_ADMIN",), machine=machine) == ALLOW
    assert verdict("keyctl", add=("ALL",), machine=machine) == EPERM
    assert verdict("bpf", add=("BPF",), machine=machine) == ALLOW
    assert verdict("clone", SIGCHLD, machine=machine) == ALLOW
    assert verdict("clone", CLONE_NEWUSER | SIGCHLD, machine=machine) == EPERM
    assert verdict("clone", CLONE_NEWUSER, add=("SYS_ADMIN",), machine=machine) == ALLOW
    assert verdict("clone3", machine=machine) == ENOSYS
    assert verdict("socket", 2, machine=machine) == ALLOW
    assert verdict("socket", 40, machine=machine) == EPERM
    assert verdict("personality", 0xFFFFFFFF, machine=machine) == ALLOW
    assert verdict("personality", 0x0040000, machine=machine) == EPERM  # ADDR_NO_RANDOMIZE


def test_an_old_kernel_has_no_ptrace() -> None:
    old = resolve(default_profile(), [], "x86_64", "4.4.0-generic")
    token = names.architecture("SCMP_ARCH_X86_64").token
    number = names.numbers("SCMP_ARCH_X86_64")["ptrace"]
    assert run(compile_filter(old), data(number, token)) == EPERM
    assert verdict("ptrace") == ALLOW


def test_it_is_resolved_once() -> None:
    assert default_filter(frozenset(["CAP_CHOWN"])) is default_filter(frozenset(["CAP_CHOWN"]))


# %% Docker's form of a profile
def test_conditions_of_a_rule() -> None:
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"name": "read", "action": "SCMP_ACT_ALLOW"},
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X", "CAP_Y"]}},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_X"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
            {"names": ["e"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
        ],
    }
    profile = parse(document)

    def left(caps: list[str], machine: str, release: str) -> list[str]:
        return [rule.names[0] for rule in resolve(profile, caps, machine, release).syscalls]

    assert left([], "x86_64", "5.9") == ["read", "b"]
    assert left(["CAP_X", "CAP_Y"], "x86_64", "5.10.1") == ["read", "a", "d"]
    assert left(["CAP_X"], "aarch64", "6.0") == ["read", "c", "d", "e"]
    assert resolve(profile, [], "x86_64", "6.0").architectures == (
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
    )


def test_versions() -> None:
    assert version("6.1.0-18-amd64") == (6, 1)
    assert version("5.10") == (5, 10) > version("5.9-rc1")
    with pytest.raises(InvalidParameter, match="invalid kernel version"):
        version("new")


def test_a_rule_with_both_kinds_of_names() -> None:
    both = {"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}
    with pytest.raises(InvalidParameter, match="use either 'name' or 'names'"):
        parse({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [both]})
