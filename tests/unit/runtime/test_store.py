"""Entries of the runtime's store: names, states, and whose pid it is."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minidock.errors import Conflict, InvalidParameter, NotFound
from minidock.runtime.store import Status, Store, process_status

STATE: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "status": Status.CREATING,
    "init_process_pid": 0,
    "init_process_start": 0,
    "created": "",
    "bundle": "/b",
    "rootfs": "/b/rootfs",
    "annotations": {},
    "cgroup": "/nowhere/in/particular",
}


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "root"))
    entry = store.create("one", b"{}", STATE)
    with pytest.raises(Conflict, match="already exists"):
        store.create("one", b"{}", STATE)
    assert [found.id for found in store] == ["one"]
    assert store.find("one").state == entry.state
    store.remove("one")
    with pytest.raises(NotFound):
        store.find("one")
    assert list(store) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä", "x" * 1025])
def test_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidParameter):
        Store(str(tmp_path)).find(name)


def test_a_damaged_entry_is_said_to_be(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    entry = store.create("one", b"{}", STATE)
    Path(entry.path("state.json")).write_text("{")
    with pytest.raises(InvalidParameter, match="damaged"):
        store.find("one")
    assert list(store) == []


def test_a_pid_is_ours_only_with_the_time_of_its_birth(tmp_path: Path) -> None:
    entry = Store(str(tmp_path)).create("one", b"{}", STATE)
    assert not entry.alive()
    found = process_status(os.getpid())
    assert found is not None
    living = entry.write(init_process_pid=os.getpid(), init_process_start=found[1])
    assert living.alive()
    assert not living.write(init_process_start=found[1] + 1).alive()


def test_a_zombie_is_not_alive(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    found = process_status(child.pid)
    assert found is not None and found[0] == "Z"
    entry = Store(str(tmp_path)).create("one", b"{}", STATE)
    entry = entry.write(init_process_pid=child.pid, init_process_start=found[1])
    assert not entry.alive()
    child.wait()
    assert process_status(child.pid) is None
