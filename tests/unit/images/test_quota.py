"""The quota: what may be spent, and sizes as people write them."""

import pytest

from minidock.errors import InvalidParameter
from minidock.images.quota import Quota, QuotaExceeded, shown, size_of


@pytest.mark.parametrize(
    "text, size",
    [
        ("", None),
        ("0", None),
        ("1000", 1000),
        ("1k", 1024),
        ("500M", 500 << 20),
        ("1.5g", 3 << 29),
        ("2GB", 2 << 30),
        ("2GiB", 2 << 30),
        ("10b", 10),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["x", "1x", "-", "1..2", "1e999g", "g1"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InvalidParameter, match="want e.g. 500M or 2G"):
        size_of(text)


def test_spending() -> None:
    taken = 60
    quota = Quota(100, lambda: taken)
    quota.look()
    quota.spend(40)
    with pytest.raises(QuotaExceeded, match="100B are allowed, 100B are in use, and 1B more"):
        quota.spend(1)
    taken = 0
    quota.look()
    quota.spend(100)


def test_no_limit_does_not_even_look() -> None:
    def never() -> int:
        raise AssertionError

    quota = Quota(None, never)
    quota.look()
    quota.spend(1 << 60)


def test_shown() -> None:
    assert [shown(n) for n in (0, 999, 1000, 1 << 30)] == ["0B", "999B", "1kB", "1.07GB"]
