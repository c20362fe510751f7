"""The official conformance suite, where it has been built: ``$MINIDOCK_DISTRIBUTION_SUITE`` is its path."""

import os
from pathlib import Path

import pytest

from tests.conformance.distribution_suite import run
from tests.registries import docker_registry, ours

SUITE = os.environ.get("MINIDOCK_DISTRIBUTION_SUITE", "")
pytestmark = pytest.mark.skipif(not SUITE, reason="$MINIDOCK_DISTRIBUTION_SUITE is not set")


@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_nothing_fails_with_ours_and_more_passes_than_with_debians(
    tmp_path: Path, version: str
) -> None:
    with ours(tmp_path / "ours") as registry:
        mine = run(SUITE, registry, version)
    assert (mine.counts["FAIL"], mine.counts["Error"], mine.counts["Skip"]) == (0, 0, 0), (
        mine.report
    )
    with docker_registry(tmp_path / "theirs") as registry:
        if registry is not None:
            assert run(SUITE, registry, version).counts["FAIL"] > 0
