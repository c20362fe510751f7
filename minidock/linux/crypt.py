"""Hashes of passwords, as the C library makes them.

crypt(3) takes a password and a *setting*, which says how (``$2y$`` is
bcrypt) and with which salt; a hash is its own setting, so a password is
checked by hashing it again. Python had this in its module ``crypt`` until
3.12; 3.13 has it no more, so we call the library ourselves: the same on
both, and no bcrypt of our own making.

The trap is that crypt(3) answers into one static buffer. ``crypt_r`` takes
one from us; its size differs between libraries (32 KiB with libxcrypt, 128
with the old glibc), so ours is larger than any.

**Interface:** :func:`crypt`.

**See:** crypt(3), crypt(5).
"""

import ctypes
from functools import cache

from minidock.errors import Unavailable

ROOM = 256 * 1024


# %% crypt(3)
@cache
def _library() -> ctypes.CDLL:
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.crypt_r.restype = ctypes.c_char_p
        return library
    raise Unavailable("no libcrypt on this host: install Debian's package libcrypt1")


def crypt(password: str, setting: str) -> str:
    """The hash of ``password``; empty when the library does not know the ``setting``."""
    if "\0" in password or "\0" in setting:
        return ""
    room = ctypes.create_string_buffer(ROOM)
    found = _library().crypt_r(password.encode(), setting.encode(), room)
    return "" if found is None or found.startswith(b"*") else str(found.decode())
