"""From rules about system calls to a program for the kernel.

A filter runs before every system call of every process in the container, so
it has to be quick. A profile that names 350 calls is not 350 comparisons
here: calls with the same verdict that lie side by side become one *range*,
and the ranges are searched like a telephone book, by halves: seven or eight
comparisons. Verdicts that depend on arguments hang at the leaves.

The traps. The *architecture* must be looked at first: number 257 is
``openat`` for a 64-bit program, and something else for a 32-bit one on the same
machine. An argument of 64 bits is two words here, compared one after the
other. But a C ``int`` has 32 bits, and the upper half of its register is
whatever the caller left there: who compares all 64 bits of one is tricked
with a bit that the kernel will ignore (CVE-2019-10063).

**Interface:** :func:`compile_filter`.

**See:** seccomp(2), ``struct seccomp_data``; OCI runtime specification,
config-linux.md, "Seccomp"; seccomp_rule_add(3), whose meaning this follows.
"""

import errno
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from minidock.errors import InvalidParameter
from minidock.linux.cbpf import IF_EQUAL, IF_GREATER, IF_GREATER_OR_EQUAL, Assembler
from minidock.seccomp import names
from minidock.seccomp.names import X32_BIT, Architecture
from minidock.spec.seccomp import Argument, Seccomp, Syscall

# %% Verdicts
KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0x00000000, 0x00030000, 0x00050000
NOTIFY, TRACE, LOG, ALLOW = 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000

ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_NOTIFY": NOTIFY,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}


def verdict(action: str, number: int | None, where: str) -> int:
    """What the program returns for ``action``; ERRNO and TRACE carry a number, EPERM if not given."""
    if action not in ACTIONS:
        known = ", ".join(ACTIONS)
        raise InvalidParameter(f"{where}: unknown action {action!r} (one of {known})")
    value = ACTIONS[action]
    if value not in (ERRNO, TRACE):
        if number is not None:
            raise InvalidParameter(f"{where}: action {action} does not take an errnoRet")
        return value
    number = errno.EPERM if number is None else number
    if not 0 <= number <= 0xFFFF:
        raise InvalidParameter(f"{where}: errnoRet {number} does not fit into 16 bits")
    return value | number


# %% The whole program
def compile_filter(profile: Seccomp) -> bytes:
    """The program for ``profile``: for each architecture its own, chosen by the first branch.

    A call of an architecture that the profile does not have kills the thread,
    as with libseccomp. Raises :class:`InvalidParameter`.
    """
    default = verdict(
        profile.default_action, profile.default_errno_ret, "linux.seccomp.defaultAction"
    )
    wanted = (*names.native()[:1], *profile.architectures)  # our own always, as with libseccomp
    chosen = [names.architecture(name) for name in wanted]
    by_token: dict[int, list[Architecture]] = {}
    for one in dict.fromkeys(chosen):
        by_token.setdefault(one.token, []).append(one)
    code = Assembler()
    entry = code.ret(KILL_THREAD)
    for token, family in reversed(by_token.items()):
        entry = code.branch(IF_EQUAL, token, _one_token(code, family, profile, default), entry)
    code.load(ARCHITECTURE_AT, entry)
    return code.program()


NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data


def _one_token(
    code: Assembler, family: Sequence[Architecture], profile: Seccomp, default: int
) -> int:
    """The part for one of the kernel's architectures; x86-64 and x32 share one, so it has gaps."""
    ranges: list[Range] = []
    if 0 not in [one.bit for one in family]:
        ranges.append(Range(0, KILL_THREAD))
    for one in sorted(family, key=lambda one: one.bit):
        ranges += _ranges_of(code, one, profile, default)
    if family[0].token == names.ARCHITECTURES["SCMP_ARCH_X86_64"].token:
        if X32_BIT not in [one.bit for one in family]:
            ranges.append(Range(X32_BIT, KILL_THREAD))
        ranges.append(Range(0xFFFFFFFF, default))  # a tracer's way to skip a call
    return code.load(NUMBER_AT, _search(code, _joined(ranges)))


# %% Ranges of numbers with one verdict
@dataclass(frozen=True, slots=True)
class Range:
    """From ``first`` to where the next range begins: a verdict, or a place that finds out."""

    first: int
    verdict: int
    place: int | None = None


def _ranges_of(code: Assembler, one: Architecture, profile: Seccomp, default: int) -> list[Range]:
    """The numbers of one architecture, each named one with its verdict, the gaps with the default."""
    rules = _by_number(one, profile.syscalls, default)
    ranges = [Range(one.bit, default)]
    for number, several in sorted(rules.items()):
        place = _decide(code, one, several, default) if several[0].conditions else None
        ranges += [Range(number, several[0].action, place), Range(number + 1, default)]
    newest = _newest(one, profile)
    if default & 0xFFFF0000 == ERRNO and newest is not None:
        ranges.append(Range(newest + 1, ERRNO | errno.ENOSYS))
    return ranges


def _newest(one: Architecture, profile: Seccomp) -> int | None:
    """The highest number that the profile names: its author cannot have known a later call.

    Such a call must seem not to exist (ENOSYS), as on an older kernel: then the C library uses
    the one that it replaces. "Not permitted" would make it give up. The idea is runc's.
    """
    known = names.numbers(one.name)
    named = {name for entry in profile.syscalls for name in entry.names}
    return max((known[name] for name in named if name in known), default=None)


def _joined(ranges: Sequence[Range]) -> list[Range]:
    """Neighbours that begin at the same number: the later one counts; with one verdict: one range."""
    by_start = {one.first: one for one in ranges}
    result: list[Range] = []
    for one in by_start.values():
        last = result[-1] if result else None
        if last is None or (last.verdict, last.place) != (one.verdict, one.place):
            result.append(one)
    return result


def _search(code: Assembler, ranges: Sequence[Range]) -> int:
    """By halves: is the number in the upper half or in the lower one?"""
    if len(ranges) == 1:
        only = ranges[0]
        return code.ret(only.verdict) if only.place is None else only.place
    half = len(ranges) // 2
    upper, lower = _search(code, ranges[half:]), _search(code, ranges[:half])
    return code.branch(IF_GREATER_OR_EQUAL, ranges[half].first, upper, lower)


# %% Which rules a number has
@dataclass(frozen=True, slots=True)
class Rule:
    """``action`` if all of ``conditions`` hold."""

    action: int
    conditions: tuple[Argument, ...] = ()


def _by_number(
    one: Architecture, syscalls: Sequence[Syscall], default: int
) -> dict[int, list[Rule]]:
    """The rules for each number that is named. Names of other architectures are left out.

    What a rule without conditions says holds, whatever others say with some;
    a rule that says what happens anyway is none.
    """
    known = names.numbers(one.name)
    rules: dict[int, list[Rule]] = {}
    for place, entry in enumerate(syscalls):
        action = verdict(entry.action, entry.errno_ret, f"linux.seccomp.syscalls[{place}]")
        if action == default:
            continue
        for name in entry.names:
            for number, conditions in _alternatives(known, name, entry.args):
                rules.setdefault(number, []).append(Rule(action, conditions))
            if one.name == "SCMP_ARCH_X86":
                _add_hidden(rules, known, name, Rule(action, entry.args), default)
    for number, several in rules.items():
        always = [rule for rule in several if not rule.conditions]
        rules[number] = always[:1] or several
    return rules


def _alternatives(
    known: dict[str, int], name: str, conditions: tuple[Argument, ...]
) -> list[tuple[int, tuple[Argument, ...]]]:
    """The number of ``name``, if the architecture has it, and each set of conditions for it.

    Two conditions on the *same* argument are alternatives, as in runc.
    """
    indices = [condition.index for condition in conditions]
    several = [conditions]
    if len(set(indices)) < len(indices):
        several = [(condition,) for condition in conditions]
    return [(known[name], each) for each in several] if name in known else []


def _add_hidden(
    rules: dict[int, list[Rule]], known: dict[str, int], name: str, rule: Rule, default: int
) -> None:
    """The same for ``name`` inside ``socketcall`` or ``ipc``.

    The real arguments are in memory there, out of our sight. So a rule with conditions is taken
    without them if it is stricter than the default, and not at all if it is not.
    """
    for outer, inner in names.MULTIPLEXED.items():
        if name in inner and (not rule.conditions or _stricter(rule.action, default)):
            hidden = Rule(rule.action, (Argument(0, inner[name], "SCMP_CMP_EQ"),))
            rules.setdefault(known[outer], []).append(hidden)


def _stricter(one: int, other: int) -> bool:
    """The kernel's own order, for several filters: as signed numbers, the lower counts."""
    return (one & 0xFFFF0000 ^ 0x80000000) < (other & 0xFFFF0000 ^ 0x80000000)


# %% Rules with conditions
def _decide(code: Assembler, one: Architecture, rules: Sequence[Rule], default: int) -> int:
    """The first rule whose conditions all hold; none: the default."""
    entry = code.ret(default)
    for rule in reversed(rules):
        otherwise, entry = entry, code.ret(rule.action)
        for condition in reversed(rule.conditions):
            entry = _compare(code, one, condition, entry, otherwise)
    return entry


def _compare(code: Assembler, one: Architecture, test: Argument, true: int, false: int) -> int:
    """Go to ``true`` or ``false``. The upper words decide, unless they are equal."""
    if not 0 <= test.index <= 5:
        raise InvalidParameter(f"linux.seccomp: a call has arguments 0 to 5, not {test.index}")
    if test.op not in OPERATORS:
        known = ", ".join(OPERATORS)
        raise InvalidParameter(f"linux.seccomp: unknown operator {test.op!r} (one of {known})")
    jump, positive = OPERATORS[test.op]
    if not positive:
        true, false = false, true
    masked = test.op == "SCMP_CMP_MASKED_EQ"
    mask = test.value & ALL if masked else ALL
    value = (test.value_two if masked else test.value) & mask
    at = ARGUMENTS_AT + 8 * test.index
    little = sys.byteorder == "little"
    entry = _word(code, at if little else at + 4, jump, value, mask, (true, false))
    if one.wide and mask >> 32:
        upper = at + 4 if little else at
        equal = code.branch(IF_EQUAL, value >> 32, entry, false)
        if jump != IF_EQUAL:
            equal = code.branch(IF_GREATER, value >> 32, true, equal)
        entry = code.load(upper, equal, mask >> 32)
    return entry


ALL = 2**64 - 1

OPERATORS = {  # the jump for the lower word, and whether it says yes or no
    "SCMP_CMP_EQ": (IF_EQUAL, True),
    "SCMP_CMP_NE": (IF_EQUAL, False),
    "SCMP_CMP_GT": (IF_GREATER, True),
    "SCMP_CMP_LE": (IF_GREATER, False),
    "SCMP_CMP_GE": (IF_GREATER_OR_EQUAL, True),
    "SCMP_CMP_LT": (IF_GREATER_OR_EQUAL, False),
    "SCMP_CMP_MASKED_EQ": (IF_EQUAL, True),
}


def _word(code: Assembler, at: int, jump: int, value: int, mask: int, ways: tuple[int, int]) -> int:
    """The lower word; nothing to do if none of its bits count."""
    low, kept = value & 0xFFFFFFFF, mask & 0xFFFFFFFF
    return code.load(at, code.branch(jump, low, *ways), kept) if kept else ways[0]
