"""The words after ``mount -o``, sorted by what the kernel does with them.

One list of options mixes four things: flags of the new mount, how mount
events propagate, what the runtime is to do itself, and text that only the
file system understands. Whatever no table here knows is the last.

The trap is the order: ``rw`` after ``ro`` takes it back, and for a bind
mount "nothing said about it" (leave what is there) is something else than
``rw`` (make it writable).

**Interface:** :class:`Options`, :data:`PROPAGATION`, :data:`WORDS`.

**See:** mount(8), mount_setattr(2); OCI runtime specification, config.md,
"Linux mount options".
"""

from collections.abc import Sequence

from minidock.linux.mountapi import Attribute
from minidock.linux.syscalls import Mount

# %% Flags of a file system that is mounted anew
FLAGS = {
    "ro": (Mount.RDONLY, True),
    "rw": (Mount.RDONLY, False),
    "nosuid": (Mount.NOSUID, True),
    "suid": (Mount.NOSUID, False),
    "nodev": (Mount.NODEV, True),
    "dev": (Mount.NODEV, False),
    "noexec": (Mount.NOEXEC, True),
    "exec": (Mount.NOEXEC, False),
    "sync": (Mount.SYNCHRONOUS, True),
    "async": (Mount.SYNCHRONOUS, False),
    "dirsync": (Mount.DIRSYNC, True),
    "remount": (Mount.REMOUNT, True),
    "bind": (Mount.BIND, True),
    "rbind": (Mount.BIND | Mount.REC, True),
    "mand": (Mount.MANDLOCK, True),
    "nomand": (Mount.MANDLOCK, False),
    "silent": (Mount.SILENT, True),
    "loud": (Mount.SILENT, False),
    "iversion": (Mount.I_VERSION, True),
    "noiversion": (Mount.I_VERSION, False),
    "lazytime": (Mount.LAZYTIME, True),
    "nolazytime": (Mount.LAZYTIME, False),
    "noatime": (Mount.NOATIME, True),
    "atime": (Mount.NOATIME, False),
    "nodiratime": (Mount.NODIRATIME, True),
    "diratime": (Mount.NODIRATIME, False),
    "relatime": (Mount.RELATIME, True),
    "norelatime": (Mount.RELATIME, False),
    "strictatime": (Mount.STRICTATIME, True),
    "nostrictatime": (Mount.STRICTATIME, False),
    "nosymfollow": (Mount.NOSYMFOLLOW, True),
    "symfollow": (Mount.NOSYMFOLLOW, False),
    "defaults": (Mount(0), True),
}

PROPAGATION = {
    "private": Mount.PRIVATE,
    "rprivate": Mount.PRIVATE | Mount.REC,
    "slave": Mount.SLAVE,
    "rslave": Mount.SLAVE | Mount.REC,
    "shared": Mount.SHARED,
    "rshared": Mount.SHARED | Mount.REC,
    "unbindable": Mount.UNBINDABLE,
    "runbindable": Mount.UNBINDABLE | Mount.REC,
}


# %% Attributes of a mount that exists: what to switch on, and off
NOTHING = Attribute(0)

ATTRIBUTES = {
    "ro": (Attribute.RDONLY, NOTHING),
    "rw": (NOTHING, Attribute.RDONLY),
    "nosuid": (Attribute.NOSUID, NOTHING),
    "suid": (NOTHING, Attribute.NOSUID),
    "nodev": (Attribute.NODEV, NOTHING),
    "dev": (NOTHING, Attribute.NODEV),
    "noexec": (Attribute.NOEXEC, NOTHING),
    "exec": (NOTHING, Attribute.NOEXEC),
    "nodiratime": (Attribute.NODIRATIME, NOTHING),
    "diratime": (NOTHING, Attribute.NODIRATIME),
    "nosymfollow": (Attribute.NOSYMFOLLOW, NOTHING),
    "symfollow": (NOTHING, Attribute.NOSYMFOLLOW),
    "relatime": (NOTHING, Attribute.ATIME),  # the kernel's default: all bits off
    "norelatime": (Attribute.STRICTATIME, Attribute.ATIME),
    "noatime": (Attribute.NOATIME, Attribute.ATIME),
    "atime": (NOTHING, Attribute.ATIME),
    "strictatime": (Attribute.STRICTATIME, Attribute.ATIME),
    "nostrictatime": (NOTHING, Attribute.ATIME),
}

RECURSIVE = {f"r{word}": change for word, change in ATTRIBUTES.items()}

OURS = ("tmpcopyup", "idmap", "ridmap")

WORDS = (*FLAGS, *PROPAGATION, *RECURSIVE, *OURS)


class Change:
    """Attributes to switch ``on`` and ``off``; the last word about one counts."""

    __slots__ = ("off", "on")

    def __init__(self) -> None:
        self.on = self.off = NOTHING

    def add(self, on: Attribute, off: Attribute) -> None:
        """One more word. What is to be on must not be forgotten for having been off before."""
        self.on = self.on & ~off | on
        self.off = self.off & ~on | off

    def __bool__(self) -> bool:
        return bool(self.on or self.off)


# %% The options of one mount
class Options:
    """``flags`` for mount(2), ``change`` for a bind mount, ``data`` for the file system."""

    __slots__ = (
        *("change", "copy_up", "data", "everywhere", "flags"),
        *("idmap", "propagation"),
    )

    def __init__(self, words: Sequence[str]) -> None:
        self.flags = Mount(0)
        self.propagation: list[Mount] = []
        self.change = Change()
        self.everywhere = Change()
        self.copy_up = False
        self.idmap = ""
        rest = []
        for word in words:
            if not self._take(word):
                rest.append(word)
        self.data = ",".join(rest)

    def _take(self, word: str) -> bool:
        if word in ATTRIBUTES:
            self.change.add(*ATTRIBUTES[word])
        if word in FLAGS:
            flag, on = FLAGS[word]
            self.flags = self.flags | flag if on else self.flags & ~flag
        elif word in PROPAGATION:
            self.propagation.append(PROPAGATION[word])
        elif word in RECURSIVE:
            self.everywhere.add(*RECURSIVE[word])
        elif word == "tmpcopyup":
            self.copy_up = True
        elif word in ("idmap", "ridmap"):
            self.idmap = word
        else:
            return False
        return True

    @property
    def recursive(self) -> bool:
        """``rbind``: with what is mounted below."""
        return bool(self.flags & Mount.REC)
