"""The seccomp section of the OCI runtime configuration.

**Interface:** :class:`Seccomp` and what it consists of; decode it with
:func:`minidock.spec.codec.decode`.

**See:** OCI runtime specification, config-linux.md, "Seccomp".
"""

from minidock.spec.codec import Value, value


# %% linux.seccomp
@value
class Argument(Value):
    """A condition on the argument of number ``index`` (0 to 5), as an unsigned number of 64 bits.

    With ``SCMP_CMP_MASKED_EQ`` the argument's bits that ``value`` selects must
    be ``value_two``; the other operators compare with ``value``.
    """

    index: int
    value: int
    op: str
    value_two: int = 0


@value
class Syscall(Value):
    """What to do when one of ``names`` is called and all of ``args`` hold."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[Argument, ...] = ()


@value
class Seccomp(Value):
    """The whole filter; ``default_action`` is for calls that no rule names."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Syscall, ...] = ()
