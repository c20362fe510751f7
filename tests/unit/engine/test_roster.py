"""Names and beginnings of ids."""

from pathlib import Path

import pytest

from minidock.engine.container import Container
from minidock.engine.roster import Roster
from minidock.errors import Conflict, InvalidParameter, NotFound


def member(
    roster: Roster, container_id: str, name: str, directory: Path = Path("/nowhere")
) -> Container:
    made = Container(directory, {"Id": container_id, "Name": roster.take_name(container_id, name)})
    roster.add(made)
    return made


def test_by_id_by_name_and_by_a_beginning_that_is_nobody_elses() -> None:
    roster = Roster()
    one, two = member(roster, "ab" * 32, "one"), member(roster, "ac" * 32, "two")
    for reference in ("ab" * 32, "one", "/one", "ab", "aba"):
        assert roster.find(reference) is one
    assert roster.find("ac") is two
    with pytest.raises(InvalidParameter, match="multiple IDs found with provided prefix: a"):
        roster.find("a")
    for reference in ("", "/", "nobody", "ABAB"):
        with pytest.raises(NotFound):
            roster.find(reference)


def test_a_name_goes_before_the_beginning_of_an_id() -> None:
    roster = Roster()
    member(roster, "ab" * 32, "one")
    named = member(roster, "cd" * 32, "abab")
    assert roster.find("abab") is named


def test_names_are_given_once_and_are_free_again() -> None:
    roster = Roster()
    one = member(roster, "1" * 64, "one")
    with pytest.raises(Conflict, match='The container name "/one" is already in use by container'):
        roster.take_name("2" * 64, "/one")
    roster.drop(one)
    assert roster.take_name("2" * 64, "one") == "one"
    with pytest.raises(NotFound):
        roster.find("1")


def test_rename(tmp_path: Path) -> None:
    roster = Roster()
    one = member(roster, "1" * 64, "one", tmp_path)
    member(roster, "2" * 64, "two")
    assert roster.rename(one, "three") == "one"
    assert roster.find("three") is one and roster.take_name("3" * 64, "one") == "one"
    with pytest.raises(Conflict, match="Error when allocating new name: Conflict"):
        roster.rename(one, "two")
    with pytest.raises(InvalidParameter, match="same name"):
        roster.rename(one, "three")
    assert roster.find("three") is one


def test_random_names_differ() -> None:
    roster = Roster()
    names = {roster.take_name(f"{n:064x}", None) for n in range(400)}
    assert len(names) == 400
