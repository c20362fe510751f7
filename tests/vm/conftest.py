"""For the tests that look at the virtual machine from outside: ``nox -s vm`` brings it up."""

import os
from pathlib import Path

import pytest

from tools.vm.ssh import Ssh


@pytest.fixture
def guest() -> Ssh:
    """The machine that is up."""
    return Ssh(Path(os.environ["MINIDOCK_VM_SSH"]))


@pytest.fixture
def box() -> Path:
    """The box that it was made from."""
    return Path(os.environ["MINIDOCK_VM_BOX"])
