"""The loom must find what it is for: each fault is sown, and found."""

from pathlib import Path

import pytest

from tools.chunks import DuplicateTitle, modules, split
from tools.transcripts import blocks, matches
from tools.weave import problems, typed_by_hand

SOURCE = '''"""Head."""

import os


# %% One
def one() -> int:
    """The first function of this little module."""
    number = os.getpid() + 1
    return number


class Long:
    # %% Two
    def two(self) -> int:
        return 2
'''

CHUNKS = {"minidock/x.py": split("minidock/x.py", SOURCE)}

ALL = [("minidock/x.py", title, "01", 1) for title in ("prelude", "One", "Two")]


# %% Chunks
def test_chunks_are_a_partition() -> None:
    titles = [chunk.title for chunk in CHUNKS["minidock/x.py"]]
    assert titles == ["prelude", "One", "Two"]
    shown = [line for chunk in CHUNKS["minidock/x.py"] for line in chunk.text.splitlines()]
    written = [line for line in SOURCE.splitlines() if "# %%" not in line]
    assert [line for line in shown if line.strip()] == [line for line in written if line.strip()]


def test_line_numbers_are_those_of_the_file() -> None:
    lines = SOURCE.splitlines()
    for chunk in CHUNKS["minidock/x.py"]:
        assert "\n".join(lines[chunk.first - 1 : chunk.last]) == chunk.text


def test_two_chunks_of_one_title() -> None:
    with pytest.raises(DuplicateTitle):
        split("x.py", SOURCE.replace("Two", "One"))


def test_the_whole_engine_is_a_partition() -> None:
    root = Path(__file__).parent.parent.parent
    for path, chunks in modules(root).items():
        lines = (root / path).read_text().splitlines()
        covered = {number for chunk in chunks for number in range(chunk.first, chunk.last + 1)}
        for number, line in enumerate(lines, 1):
            assert number in covered or not line.strip() or "# %%" in line, (path, number)


# %% What the build refuses
def test_nothing_is_wrong_with_a_whole_book() -> None:
    assert problems(CHUNKS, ALL) == []


@pytest.mark.parametrize(
    ("uses", "words"),
    [
        (ALL[:2], "'Two' stands in no chapter"),
        ([*ALL, ALL[0]], "'prelude' stands in 2 places"),
        ([*ALL, ("minidock/x.py", "Three", "02", 7)], "02:7: minidock/x.py has no chunk 'Three'"),
        ([*ALL, ("minidock/y.py", "One", "02", 7)], "minidock/y.py has no chunk 'One'"),
    ],
)
def test_a_fault_is_found(uses: list[tuple[str, str, str, int]], words: str) -> None:
    assert any(words in problem for problem in problems(CHUNKS, uses))


def test_code_typed_by_hand_is_found() -> None:
    typed = "Text.\n\n```python\ndef one() -> int:\n" + "\n".join(
        SOURCE.splitlines()[7:10] + ["```", ""]
    )
    assert typed_by_hand(typed, CHUNKS)
    assert not typed_by_hand("```python\nprint('something else entirely')\n```\n", CHUNKS)


# %% Transcripts
CHAPTER = """
```console
$ echo hello
hello
$ for i in 1 2; do
>   echo $i
> done
1
2
```

% needs: cgroup-v2
```console
$ cat /x
…
```
"""


def test_commands_are_found() -> None:
    first, second, third = blocks(CHAPTER)
    assert (first.text, first.shown) == ("echo hello", ["hello"])
    assert (second.text, second.shown) == ("for i in 1 2; do\n  echo $i\ndone", ["1", "2"])
    assert third.needs == {"cgroup-v2"}


def test_a_block_without_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt"):
        blocks("```console\nhello\n```\n")


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        (["a"], ["a", "b"], False),
        (["a", "…"], ["a", "b", "c"], True),
        (["a", "…", "c"], ["a", "c"], True),
        (["pid … of 7"], ["pid 12345 of 7"], True),
        (["pid … of 7"], ["pid 12345 of 8"], False),
        (["0123456789ab"], ["ba9876543210"], True),
        (["0123456789ab x"], ["ba9876543210 y"], False),
        (["(a|b)*"], ["(a|b)*"], True),
    ],
)
def test_comparison(shown: list[str], real: list[str], same: bool) -> None:
    assert matches(shown, real) is same
