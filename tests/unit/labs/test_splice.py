"""Taking functions out of a text, and putting others in."""

import ast

import pytest

from labs import splice

SOURCE = '''\
"""A module."""

import os


# before
def first(a: int) -> int:
    """Told."""
    # why
    return a


class Thing:
    """A class."""

    @property
    def size(self) -> int:
        return (
            1
        )

    def second(self) -> None:
        """Told
        in two lines."""
        print("x")


LAST = 1  # after
'''


def test_functions_and_methods_are_found_with_their_decorators() -> None:
    found = splice.functions(SOURCE)
    assert list(found) == ["first", "Thing.size", "Thing.second"]
    assert splice.text_of(SOURCE, "Thing.size").startswith("    @property\n    def size")


def test_a_blanked_function_keeps_its_docstring_and_all_around_it() -> None:
    text = splice.blank(SOURCE, {"first": "do it\nwell", "Thing.second": "again"})
    ast.parse(text)
    assert "# before\ndef first" in text
    assert '    """Told."""\n    # TODO: do it\n    # well\n    raise NotImpl' in text
    assert 'NotImplementedError("Thing.second is yours to write")' in text
    assert "print(" not in text and "# why" not in text
    assert text.endswith("LAST = 1  # after\n")


def test_a_function_without_docstring_can_be_blanked() -> None:
    text = splice.blank(SOURCE, {"Thing.size": "say it"})
    assert "return (" not in text
    namespace: dict[str, object] = {}
    exec(compile(text, "text", "exec"), namespace)
    with pytest.raises(NotImplementedError, match=r"Thing\.size is yours to write"):
        _ = namespace["Thing"]().size  # type: ignore[operator]


def test_a_change_touches_the_named_functions_only() -> None:
    text = splice.change(SOURCE, ["first", "Thing.second"], "Told", "Said")
    assert text.count("Said") == 2
    assert splice.change(SOURCE, ["first"], "    # why\n", "") == SOURCE.replace("    # why\n", "")


def test_a_change_of_what_is_not_there_is_an_error() -> None:
    with pytest.raises(LookupError, match="no 'return a' in Thing.size"):
        splice.change(SOURCE, ["Thing.size"], "return a", "return b")


def test_an_unknown_function_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(LookupError, match="no function 'third'.*first, Thing.size"):
        splice.blank(SOURCE, {"third": ""})
