"""What a client hears while a layer is read."""

from typing import Any

import pytest

from minidock.images import progress
from minidock.images.progress import Progress


def test_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 0.05, 0.2, 0.2])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    heard: list[dict[str, Any]] = []
    one = Progress(heard.append, "sha256:" + "ab" * 32, "Loading layer", 4000)
    for size in (1000, 1000, 1000):
        one.advance(b"x" * size)
    one.finish()
    assert [message["progressDetail"]["current"] for message in heard] == [1000, 3000, 4000]
    assert heard[0] == {
        "status": "Loading layer",
        "progressDetail": {"current": 1000, "total": 4000},
        "progress": "[============>" + " " * 38 + "]      1kB/4kB",
        "id": "ab" * 6,
    }
    assert heard[-1]["progress"] == "[" + "=" * 50 + ">]      4kB/4kB"


@pytest.mark.parametrize(
    ("current", "total", "wanted"),
    [(1500, 0, "   1.5kB"), (3000, 2000, "     3kB"), (0, 5, "[>" + " " * 50 + "]       0B/5B")],
)
def test_bars(current: int, total: int, wanted: str) -> None:
    assert progress.bar(current, total) == wanted
