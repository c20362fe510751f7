"""Names for containers that were given none: a mood and a person.

**Interface:** :func:`random_name`, :func:`check_name`.
"""

import random
import re

from minidock.errors import InvalidParameter

# %% The words
MOODS = (
    "able amber brave bright brisk calm candid clever cosy curious daring eager early fair fearless"
    " fond frank gentle glad golden graceful happy honest hopeful jolly keen kind lively lucid lucky"
    " merry mild modest noble patient placid plucky polite proud quick quiet ready rosy serene sharp"
    " silent sincere sleek smart snug sober steady sunny swift tender tidy upbeat vivid warm wise witty"
).split()

PEOPLE = (
    "allen babbage backus bartik bell boole borg cerf clarke codd conway curie dahl dijkstra easley"
    " engelbart estrin feinler floyd galois gauss germain goldberg gray hamilton hamming hoare holberton"
    " hopper huffman iverson johnson kahn karp kernighan kilburn knuth lamarr lamport liskov lovelace"
    " mccarthy meitner milner minsky naur neumann noether nygaard pascal perlman postel ritchie sammet"
    " shannon sinclair stallman sutherland tanenbaum tarjan thompson torvalds turing wheeler wilkes"
    " williams wirth zuse"
).split()


def random_name() -> str:
    """For example ``keen_hopper``; the caller sees to it that it is free."""
    return f"{random.choice(MOODS)}_{random.choice(PEOPLE)}"


# %% What a name may be
_ALLOWED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")


def check_name(name: str) -> None:
    """Raise :class:`InvalidParameter` in Docker's words for a name that is none."""
    if not _ALLOWED.match(name):
        raise InvalidParameter(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
