"""What a daemon that starts is to start."""

from pathlib import Path
from typing import Any

import pytest

from minidock.engine.container import Container
from minidock.engine.recovery import to_start_again


@pytest.mark.parametrize(
    ("policy", "state", "by_hand", "again"),
    [
        ("always", {"status": "exited", "started_at": "x"}, False, True),
        ("always", {"status": "exited", "started_at": "x"}, True, True),
        ("always", {}, False, False),
        ("always", {"status": "running", "started_at": "x"}, False, False),
        ("unless-stopped", {"status": "exited", "started_at": "x"}, False, True),
        ("unless-stopped", {"status": "exited", "started_at": "x"}, True, False),
        ("on-failure", {"status": "exited", "started_at": "x", "exit_code": 1}, False, True),
        ("on-failure", {"status": "exited", "started_at": "x", "exit_code": 1}, True, False),
        ("on-failure", {"status": "exited", "started_at": "x", "exit_code": 0}, False, False),
        ("no", {"status": "exited", "started_at": "x", "exit_code": 1}, False, False),
    ],
)
def test_to_start_again(policy: str, state: dict[str, Any], by_hand: bool, again: bool) -> None:
    record = {"HostConfig": {"RestartPolicy": {"Name": policy}}, "StoppedByHand": by_hand}
    container = Container(Path("/nowhere"), record, state)
    assert list(to_start_again([container])) == ([container] if again else [])
