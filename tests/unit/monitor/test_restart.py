"""Restart policies: when, how often, and after how long."""

import pytest

from minidock.monitor.restart import LONGEST_DELAY, Restarts


@pytest.mark.parametrize(
    ("policy", "status", "again"),
    [
        ("no", 1, False), ("always", 0, True), ("always", 1, True), ("unless-stopped", 0, True),
        ("on-failure", 0, False), ("on-failure", 1, True), ("on-failure", 137, True),
    ],
)  # fmt: skip
def test_policy(policy: str, status: int, again: bool) -> None:
    assert (Restarts(policy).next_delay(status, 0.1) is not None) is again


def test_delays_double_up_to_a_minute() -> None:
    restarts = Restarts("always")
    delays = [restarts.next_delay(1, 0.1) for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[9] == 51.2 and delays[10] == delays[11] == LONGEST_DELAY


def test_a_long_run_is_trusted_again_but_not_a_second_less() -> None:
    restarts = Restarts("always")
    for _ in range(5):
        restarts.next_delay(1, 0.1)
    assert restarts.next_delay(1, 9.9) == 3.2
    assert restarts.next_delay(1, 10.0) == 0.1


def test_at_most_so_many_times() -> None:
    restarts = Restarts("on-failure", 2)
    assert [restarts.next_delay(1, 20) for _ in range(3)] == [0.1, 0.1, None]
    assert restarts.count == 2
    unlimited = Restarts("on-failure", 0)
    assert all(unlimited.next_delay(1, 20) for _ in range(50))


def test_what_was_stopped_stays_stopped_and_is_not_counted() -> None:
    restarts = Restarts("always", stopped=True)
    assert restarts.next_delay(0, 1) is None
    assert restarts.count == 0
