"""Detach keys, found however the typing arrives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidock.cli.flags import PlainError
from minidock.cli.streams import Escape, detach_keys

KEYS = b"\x10\x11"


@given(st.lists(st.sampled_from([b"a", b"\x10", b"\x11", b"\x10\x11", b"\x10\x10"]), max_size=12))
def test_everything_before_the_keys_is_sent_and_nothing_after(pieces: list[bytes]) -> None:
    typed, sent, pressed = b"".join(pieces), b"", False
    escape = Escape(KEYS)
    for piece in pieces:
        data, pressed = escape.feed(piece)
        sent += data
        if pressed:
            break
    at = typed.find(KEYS)
    assert pressed is (at >= 0)
    assert sent + (b"" if pressed else escape.rest()) == (typed[:at] if at >= 0 else typed)


def test_a_key_that_only_begins_like_them_is_held_back_and_then_sent() -> None:
    escape = Escape(KEYS)
    assert escape.feed(b"a\x10") == (b"a", False)
    assert escape.feed(b"b") == (b"\x10b", False)


@pytest.mark.parametrize(
    ("text", "keys"),
    [("", b"\x10\x11"), ("ctrl-p,ctrl-q", b"\x10\x11"), ("a,b", b"ab"), ("ctrl-@", b"\0"), ("ctrl-[,x", b"\x1bx"), ("ctrl-_", b"\x1f")],
)  # fmt: skip
def test_keys(text: str, keys: bytes) -> None:
    assert detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ab", "ctrl-", "ctrl-ab", "ctrl-1", "a,,b"])
def test_bad_keys(text: str) -> None:
    with pytest.raises(PlainError, match="Invalid detach keys"):
        detach_keys(text)
