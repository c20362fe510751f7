"""The daemon of the conformance tests, which allows faults."""

from tests.conformance.conftest import session_daemon

__all__ = ["session_daemon"]
