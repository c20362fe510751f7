"""gzip by libdeflate, where the host has it.

zlib packs a stream: data come and go in pieces of any size, and it remembers
what went before. libdeflate packs only what is wholly in memory, and so in
half the time, into a little less. What it writes is plain gzip.

The trap is that another compressor means other bytes, and so another digest:
what it packed and what zlib packed is the same layer, but not the same blob.
And the library may be missing; who asks must have something else to do.

**Interface:** :func:`available`, :func:`gzip`.

**See:** libdeflate.h; Debian's package ``libdeflate0``; RFC 1952.
"""

import ctypes
from functools import cache

FASTEST = 1


# %% libdeflate
@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libdeflate.so.0")
    except OSError:
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.libdeflate_alloc_compressor.restype = pointer
    library.libdeflate_free_compressor.argtypes = [pointer]
    library.libdeflate_gzip_compress_bound.argtypes = [pointer, size]
    library.libdeflate_gzip_compress_bound.restype = size
    library.libdeflate_gzip_compress.argtypes = [pointer, ctypes.c_char_p, size, pointer, size]
    library.libdeflate_gzip_compress.restype = size
    return library


def available() -> bool:
    """Whether the library is here."""
    return _library() is not None


def gzip(data: bytes, level: int = FASTEST) -> bytes:
    """All of ``data`` as one member of a gzip file. Other threads go on meanwhile."""
    library = _library()
    assert library is not None, "ask available() first"
    packer = library.libdeflate_alloc_compressor(level)
    if not packer:
        raise MemoryError("libdeflate_alloc_compressor")
    try:
        room = ctypes.create_string_buffer(
            library.libdeflate_gzip_compress_bound(packer, len(data))
        )
        size = library.libdeflate_gzip_compress(packer, data, len(data), room, len(room))
    finally:
        library.libdeflate_free_compressor(packer)
    return bytes(memoryview(room)[:size])
