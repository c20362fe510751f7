"""The runner of other people's suites counts what they print."""

from tests.conformance.suites import Count


def test_counting_tap() -> None:
    count = Count()
    count.add(
        [
            "TAP version 13",
            "ok 1 - it is there",
            "not ok 2 - it is not",
            "  ---",
            '  "not ok": "only an explanation"',
            "ok 3 # SKIP no such thing here",
            "    ok 4 a test of bats # skip test requires x",
            "1..4",
        ],
        "suite: ",
    )
    assert (count.ok, count.skipped, count.failed) == (3, 2, ["suite: it is not"])
    assert str(count) == "1 not ok of 4 (2 skipped)"
