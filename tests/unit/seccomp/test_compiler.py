"""The compiler: against libseccomp's, by a machine of our own."""

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidock.errors import InvalidParameter
from minidock.seccomp import names
from minidock.seccomp.compiler import ACTIONS, ALLOW, ERRNO, KILL_THREAD, compile_filter
from minidock.spec.seccomp import Argument, Seccomp, Syscall
from tests.seccomp import data, libseccomp, run

X86_64 = names.ARCHITECTURES["SCMP_ARCH_X86_64"].token
CALLS = ["read", "write", "open", "openat", "ioctl", "clone", "personality", "futex", "mmap"]
CALLS += ["socket", "semget", "socketcall", "ipc", "arm_fadvise64_64", "nanosleep"]
VERDICTS = {name: value | (1 if value == ERRNO else 0) for name, value in ACTIONS.items()}
VERDICTS["SCMP_ACT_TRACE"] |= 1


# %% Profiles of any kind
words = st.sampled_from([0, 1, 2, 5, 0x7FFFFFFF, 0xFFFFFFFF])
values = st.builds(lambda high, low: high << 32 | low, words, words)
operators = st.sampled_from(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])
conditions = st.builds(
    lambda index, op, a, b: Argument(index, a, f"SCMP_CMP_{op}", b),
    st.integers(0, 5), operators, values, values,
)  # fmt: skip
one_per_argument = st.lists(conditions, max_size=3, unique_by=lambda one: one.index).map(tuple)


@st.composite
def profiles(draw: st.DrawFn, rules_per_call: int = 1) -> Seccomp:
    """Each call has rules of one action, as the meaning of contradictions is nobody's standard.

    Only calls that all the architectures have: libseccomp 2.5.4 forgets to load the number when
    the first of its rules is for a call that the architecture lacks (found by this very test).
    """
    simple = [name for name in VERDICTS if name != "SCMP_ACT_KILL"]
    default, other = draw(st.permutations(simple))[:2]
    families = (["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], ["SCMP_ARCH_AARCH64"])
    family = draw(st.sampled_from(families))
    chosen = draw(st.lists(st.sampled_from(family), min_size=1, unique=True))
    hidden = {name for inner in names.MULTIPLEXED.values() for name in inner}  # see the next test
    rules = [
        Syscall((name,), other, None, () if name in hidden else each)
        for name in draw(st.lists(st.sampled_from(CALLS), unique=True))
        if all(name in names.numbers(one) for one in chosen)
        for each in draw(st.lists(one_per_argument, min_size=1, max_size=rules_per_call))
    ]
    return Seccomp(default, None, tuple(chosen), None, "", "", tuple(rules))


def packets(profile: Seccomp, arguments: list[int]) -> list[tuple[int, int]]:
    """Numbers worth asking about: of all that is named, in each architecture, and their neighbours."""
    found = set()
    for name, one in names.ARCHITECTURES.items():
        known = names.numbers(name)
        for call in CALLS:
            if call in known:
                found |= {(known[call] + near, one.token) for near in (-1, 0, 1)}
        found |= {(number, one.token) for number in (0, 0x40000000, 0x3FFFFFFF, 0xFFFFFFFF, 700)}
    return sorted(one for one in found if one[0] >= 0)


@settings(max_examples=80, deadline=None)
@given(profiles(), st.lists(values, min_size=6, max_size=6))
def test_as_libseccomp(profile: Seccomp, arguments: list[int]) -> None:
    ours, theirs = compile_filter(profile), libseccomp(profile, VERDICTS)
    values_of_rules = [one.value for rule in profile.syscalls for one in rule.args]
    for number, token in packets(profile, arguments):
        for several in (arguments, [*values_of_rules, *arguments][:6]):
            packet = data(number, token, several)
            mine = run(ours, packet)
            if mine == ERRNO | errno.ENOSYS:  # newer than the profile: libseccomp does not care
                mine = VERDICTS[profile.default_action]
            assert mine == run(theirs, packet), (number, hex(token), several)


# %% The meaning, said once more
def holds(test: Argument, arguments: list[int], wide: bool) -> bool:
    """One condition, as the specification has it; a 32-bit program has arguments of 32 bits."""
    bits = 2**64 - 1 if wide else 2**32 - 1
    value, wanted, other = (
        one & bits for one in (arguments[test.index], test.value, test.value_two)
    )
    return {
        "NE": value != wanted,
        "LT": value < wanted,
        "LE": value <= wanted,
        "EQ": value == wanted,
        "GE": value >= wanted,
        "GT": value > wanted,
        "MASKED_EQ": value & wanted == other & wanted,
    }[test.op[9:]]


@settings(max_examples=80, deadline=None)
@given(profiles(rules_per_call=3), st.lists(values, min_size=6, max_size=6))
def test_several_rules_for_one_call(profile: Seccomp, arguments: list[int]) -> None:
    """libseccomp 2.5.4 merges some of them wrongly, so the judge is the sentence in the specification."""
    program = compile_filter(profile)
    for name in profile.architectures:
        one, known = names.architecture(name), names.numbers(name)
        for call in {rule.names[0] for rule in profile.syscalls} - {"socketcall", "ipc"}:
            rules = [rule for rule in profile.syscalls if rule.names[0] == call]
            fits = [r for r in rules if all(holds(a, arguments, one.wide) for a in r.args)]
            wanted = VERDICTS[fits[0].action if fits else profile.default_action]
            assert run(program, data(known[call], one.token, arguments)) == wanted


# %% Sizes and distances
def test_a_profile_that_names_everything_stays_small_and_shallow() -> None:
    known = names.numbers("SCMP_ARCH_X86_64")
    every_second = tuple(sorted(known, key=known.__getitem__)[::2])
    chosen = names.native("x86_64")
    profile = Seccomp(
        "SCMP_ACT_ERRNO", None, chosen, None, "", "", (Syscall(every_second, "SCMP_ACT_ALLOW"),)
    )
    program = compile_filter(profile)
    for name, number in known.items():
        wanted = ALLOW if name in every_second else ERRNO | errno.EPERM
        newest = number > max(known[one] for one in every_second)
        assert run(program, data(number, X86_64)) == (ERRNO | errno.ENOSYS if newest else wanted)
    assert len(program) // 8 < 1500


def test_conditions_beyond_an_eight_bit_jump() -> None:
    """Four hundred conditional calls: the search tree is further from its leaves than a jump can say."""
    known = names.numbers("SCMP_ARCH_X86_64")
    rules = tuple(
        Syscall((name,), "SCMP_ACT_ALLOW", None, (Argument(0, number, "SCMP_CMP_EQ"),))
        for name, number in known.items()
    )
    program = compile_filter(
        Seccomp("SCMP_ACT_KILL", None, ("SCMP_ARCH_X86_64",), None, "", "", rules)
    )
    for number in known.values():
        assert run(program, data(number, X86_64, [number])) == ALLOW
        assert run(program, data(number, X86_64, [number + 1])) == KILL_THREAD


def test_a_program_longer_than_the_kernel_takes() -> None:
    rules = tuple(
        Syscall(("read",), "SCMP_ACT_ALLOW", None, (Argument(n % 6, n << 32, "SCMP_CMP_EQ"),))
        for n in range(1500)
    )
    with pytest.raises(InvalidParameter, match="the kernel takes 4096"):
        compile_filter(Seccomp("SCMP_ACT_KILL", None, (), None, "", "", rules))


# %% Special numbers and hidden calls
def test_x32_is_another_architecture_with_the_same_token() -> None:
    rules = (Syscall(("read",), "SCMP_ACT_ALLOW"),)
    alone = compile_filter(
        Seccomp("SCMP_ACT_ERRNO", None, ("SCMP_ARCH_X86_64",), None, "", "", rules)
    )
    assert run(alone, data(0x40000000, X86_64)) == KILL_THREAD
    both = compile_filter(
        Seccomp("SCMP_ACT_ERRNO", None, names.native("x86_64"), None, "", "", rules)
    )
    assert run(both, data(0x40000000, X86_64)) == ALLOW
    assert run(both, data(0xFFFFFFFF, X86_64)) == ERRNO | errno.EPERM


def test_a_socket_inside_socketcall() -> None:
    rules = (Syscall(("socket",), "SCMP_ACT_ERRNO", 97),)
    program = compile_filter(
        Seccomp("SCMP_ACT_ALLOW", None, ("SCMP_ARCH_X86",), None, "", "", rules)
    )
    x86, known = names.ARCHITECTURES["SCMP_ARCH_X86"].token, names.numbers("SCMP_ARCH_X86")
    assert run(program, data(known["socketcall"], x86, [1])) == ERRNO | 97
    assert run(program, data(known["socketcall"], x86, [2])) == ALLOW
    assert run(program, data(known["socket"], x86)) == ERRNO | 97


def test_a_conditional_socket_inside_socketcall() -> None:
    """Its arguments cannot be seen, so the stricter verdict holds. (libseccomp looks at a wrong one.)"""
    x86, known = names.ARCHITECTURES["SCMP_ARCH_X86"].token, names.numbers("SCMP_ARCH_X86")
    alg = (Argument(0, 38, "SCMP_CMP_EQ"),)
    chosen = ("SCMP_ARCH_X86",)
    for default, action, wanted in (
        ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", ERRNO | errno.EPERM),
        ("SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ALLOW", 0x80000000),
    ):
        rules = (Syscall(("socket",), action, None, alg),)
        program = compile_filter(Seccomp(default, None, chosen, None, "", "", rules))
        assert run(program, data(known["socketcall"], x86, [1])) == wanted
        assert run(program, data(known["socket"], x86, [38])) != run(
            program, data(known["socket"], x86, [2])
        )


def test_two_conditions_on_one_argument_are_alternatives() -> None:
    two = tuple(Argument(0, value, "SCMP_CMP_EQ") for value in (3, 5))
    rules = (Syscall(("close",), "SCMP_ACT_ALLOW", None, two),)
    program = compile_filter(
        Seccomp("SCMP_ACT_KILL", None, ("SCMP_ARCH_X86_64",), None, "", "", rules)
    )
    assert [run(program, data(3, X86_64, [n])) == ALLOW for n in (3, 4, 5)] == [True, False, True]


# %% What makes no sense
@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (Seccomp("SCMP_ACT_MAYBE"), "unknown action 'SCMP_ACT_MAYBE'"),
        (Seccomp("SCMP_ACT_ALLOW", 5), "does not take an errnoRet"),
        (Seccomp("SCMP_ACT_ERRNO", 70000), "does not fit"),
        (Seccomp("SCMP_ACT_ERRNO", None, ("SCMP_ARCH_VAX",)), "unknown architecture"),
        (
            Seccomp(
                "SCMP_ACT_ERRNO", None, (), None, "", "",
                (Syscall(("read",), "SCMP_ACT_ALLOW", None, (Argument(6, 0, "SCMP_CMP_EQ"),)),),
            ),
            "arguments 0 to 5, not 6",
        ),
        (
            Seccomp(
                "SCMP_ACT_ERRNO", None, (), None, "", "",
                (Syscall(("read",), "SCMP_ACT_ALLOW", None, (Argument(0, 0, "=="),)),),
            ),
            "unknown operator '=='",
        ),
    ],
)  # fmt: skip
def test_refused(profile: Seccomp, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        compile_filter(profile)


def test_every_instruction_is_eight_bytes() -> None:
    program = compile_filter(Seccomp("SCMP_ACT_ALLOW", None, ("SCMP_ARCH_X86_64",)))
    assert len(program) % struct.calcsize("=HBBI") == 0


def test_a_profile_without_rules() -> None:
    program = compile_filter(Seccomp("SCMP_ACT_ERRNO", 13, ("SCMP_ARCH_X86_64",)))
    for number in (0, 5000, 0xFFFFFFFF):
        assert run(program, data(number, X86_64)) == ERRNO | 13
    assert run(program, data(0x40000000, X86_64)) == KILL_THREAD
