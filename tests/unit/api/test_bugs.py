"""A bug in a handler: the client hears of it, and does not wait."""

import io
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from minidock.api import images
from minidock.api.routes import Router


def a_bug(*_: object) -> Any:
    raise NotImplementedError("not written yet")


def request(path: str) -> Any:
    return SimpleNamespace(method="GET", path=path, headers={}, query={}, body=io.BytesIO())


def test_a_handler_s_bug_is_status_500(capfd: pytest.CaptureFixture[str]) -> None:
    router = Router(cast(Any, None))
    router._table = [(method, pattern, a_bug) for method, pattern, _ in router._table]
    response = router(request("/version"))
    assert response.status == 500
    assert response.json == {"message": "NotImplementedError: not written yet"}
    assert "Traceback" in capfd.readouterr().err


def test_a_bug_while_loading_ends_the_stream_with_an_error() -> None:
    last = json.loads(list(images._messages(request("/images/load"), a_bug))[-1])
    assert last["error"] == "NotImplementedError: not written yet"
