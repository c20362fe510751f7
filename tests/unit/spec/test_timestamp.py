"""Moments: to the nanosecond, there and back."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidock.errors import InvalidParameter
from minidock.spec.timestamp import ZERO, format_time, parse_moment, parse_time


@given(st.integers(0, 4 * 10**18))
def test_there_and_back(moment: int) -> None:
    text = format_time(moment)
    assert parse_time(text) == moment and text.endswith("Z")


@given(st.integers(0, 2 * 10**18), st.integers(1, 10**18))
def test_a_zone_moves_the_clock_not_the_moment(moment: int, _: int) -> None:
    text = format_time(moment)[:-1]
    assert parse_time(f"{text}+02:00") == moment - 2 * 3600 * 10**9
    assert parse_time(f"{text}-00:30") == moment + 1800 * 10**9


def test_never() -> None:
    assert parse_time(ZERO) == 0


@pytest.mark.parametrize(
    "text", ["", "x", "2024-13-01T00:00:00Z", "2024-01-01", "2024-01-01T00:00:00*02:00"]
)
def test_bad(text: str) -> None:
    with pytest.raises((InvalidParameter, IndexError)):
        parse_time(text)


def test_what_people_type() -> None:
    now = time.time()
    assert parse_moment("12.5") == 12.5
    for text, ago in (("1h30m", 5400), ("90s", 90), ("500ms", 0.5), ("1.5m", 90)):
        assert abs(parse_moment(text) - (now - ago)) < 2
    assert parse_moment("1970-01-02T00:00:00Z") == 86400
    assert parse_moment("1970-01-02T00:00:00+01:00") == 82800
    for text in ("nonsense", "1x", "h", ""):
        with pytest.raises(ValueError):
            parse_moment(text)
