"""JSON by the functions in C alone: the same as the standard library's."""

import json
import subprocess
import sys

import pytest

from minidock import lean

VALUES = [
    None, True, False, 0, -1, 1.5, 1e300, 2**70, "", "a\"b\\c\n\x00é\u20ac\U0001f433", [], {},
    [1, [2, [3]]], {"a": {"b": [None, True, "x"]}, "": 0}, {"n": [1.25, "\ud83d"]},
]  # fmt: skip

TEXTS = [
    "1", " \n\t[1, 2]\r\n", '{"a": 1, "a": 2}', "-0.5e3", "true", '"\\u20ac\\n"', '{"a": {"b": []}}',
]  # fmt: skip

WRONG = ["", "  ", "[1,", '{"a"}', "1 2", "nul", '{"a": 1}}', '"', "[1 2]"]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_written_as_the_standard_library_does(value: object) -> None:
    assert lean.dumps(value) == json.dumps(value)
    assert lean.loads(lean.dumps(value)) == value


@pytest.mark.parametrize("text", TEXTS)
def test_read_as_the_standard_library_does(text: str) -> None:
    assert lean.loads(text) == json.loads(text)
    assert lean.loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        json.loads(text)
    with pytest.raises(ValueError):
        lean.loads(text)


def test_what_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="set is not JSON"):
        lean.dumps({"a": set()})


@pytest.mark.parametrize("module", ["run", "execute", "streams"])
def test_the_hot_path_stays_lean(module: str) -> None:
    """What the lean module is for: a single careless import on the way would undo it."""
    code = f"import sys, minidock.cli.{module}; print(*sys.modules)"
    command = [sys.executable, "-S", "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"enum", "re", "collections", "json", "socket", "signal", "threading", "typing"}
    assert not heavy & set(loaded)
